"""The rungs, in the order in which they are tried."""

from collections.abc import Iterator, Mapping

from fallow.errors import RunError
from fallow.study.candidates.network import TrainedCandidate, vote
from fallow.study.context import RungContext
from fallow.study.rung import Candidate, Fold, Rung
from fallow.study.rungs.blend import BlendRung
from fallow.study.rungs.ensemble import EnsembleRung
from fallow.study.rungs.finetune import FinetuneRung
from fallow.study.rungs.joint import JointRung
from fallow.study.rungs.noisy_student import NoisyStudentRung
from fallow.study.rungs.pretrain import PretrainRung
from fallow.study.rungs.probe import ProbeRung
from fallow.study.rungs.propagate import PropagateRung
from fallow.study.stage import Stage
from fallow.types import RungName

RUNGS: dict[RungName, Rung] = {
    rung.info.name: rung
    for rung in (
        ProbeRung(),
        BlendRung(),
        PropagateRung(),
        FinetuneRung(),
        JointRung(),
        PretrainRung(),
        NoisyStudentRung(),
        EnsembleRung(),
    )
}


class Below(Mapping[RungName, Candidate]):
    """The candidates of the rungs below, of one fold, made when a rung asks for them.

    Cheap rungs are fitted again: that takes less time than their candidates take to be kept for every fold, and they are
    deterministic. Those of trained rungs were kept.
    """

    def __init__(
        self, ctx: RungContext, fold: Fold, names: tuple[RungName, ...], stages: Mapping[RungName, Stage]
    ) -> None:
        self._ctx, self._fold, self._names, self._stages = ctx, fold, names, stages
        self._made: dict[RungName, Candidate] = {}

    def __getitem__(self, name: RungName) -> Candidate:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: RungName) -> Candidate:
        rung = RUNGS[name]
        if rung.workload is None:
            lower = self._names[: self._names.index(name)]
            return rung.fit(self._ctx, self._fold, Below(self._ctx, self._fold, lower, self._stages))
        kept = self._stages[name].candidate(self._fold.key)
        if kept is None:
            raise RunError(
                f"the {name} candidate of fold {self._fold.key} is missing in '{self._stages[name].path}': start a new run"
            )
        return rung.restore(self._ctx, *kept)

    def __iter__(self) -> Iterator[RungName]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


__all__ = [
    "RUNGS",
    "Below",
    "ProbeRung",
    "PropagateRung",
    "TrainedCandidate",
    "vote",
]
