"""All methods, described: command-line help, docs and chooser share this one source."""

from __future__ import annotations

from fallow.methods.base import MethodInfo
from fallow.methods.joint import joint_infos
from fallow.methods.pretrain import pretrain_infos

PROPAGATE = MethodInfo(
    name="propagate",
    title="label spreading and a linear head that correct each other, on frozen vectors",
    family="graph",
    paper="Zhou et al., NIPS 2003; Iscen et al., CVPR 2019, arXiv 1904.04717; Lazarou et al., ICCV 2021, arXiv 2012.07962",
    needs=("labels", "unlabeled"),
    suits="few labels and a backbone that already sees what matters; seconds, on a CPU too",
    cost=0.0,
)


def registry() -> tuple[MethodInfo, ...]:
    """Return the description of every method there is."""
    return (PROPAGATE, *joint_infos(), *pretrain_infos())
