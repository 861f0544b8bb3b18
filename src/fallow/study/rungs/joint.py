"""Rung 5: labels and pool train one network together."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fallow.methods import Guide, JointMethod, joint_method, look_back
from fallow.models import Network, from_backbone
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.candidates.network import TrainedCandidate
from fallow.study.rung import RungInfo, Workload
from fallow.study.rungs.trained import Below, TrainedRung
from fallow.study.trained.fit import Fit
from fallow.study.trained.guide import by_position
from fallow.study.trained.start import linear_of

_DEFAULT = "softmatch"


class JointRung(TrainedRung):
    """SoftMatch, or the method that was asked for, from the fine-tuned network."""

    info: ClassVar[RungInfo] = RungInfo(
        "joint", "network trained on labels and pool together", False, False, True
    )
    workload = Workload(least=60, enough=400, most=3000)

    def network(self, fit: Fit, below: Below) -> Network:
        """Start from the best that the same fold knows: its guesses are what is learned from.

        A pretrained network starts with a head that knows what label propagation says of the pool (UC Merced, 5 labels a
        class, two development draws: 91.5 %, and 89.9 from the fine-tuned network, which has seen the labels alone); one
        from scratch starts as the fine-tuned network.
        """
        tuned = below.get("finetune") if below else None
        spread = "propagate" in below and not fit.plan.scratch
        if spread or not isinstance(tuned, TrainedCandidate):
            return super().network(fit, below)
        (backbone,) = tuned.networks.values()
        head = linear_of(tuned)
        return from_backbone(backbone, head, fit.plan.size, trainable=fit.plan.trainable)

    def method(self, fit: Fit, below: Below, steps: int) -> JointMethod:
        """Return the method, aligned to the pool's estimated class shares where a rung below estimated them."""
        asked, name = fit.ctx.config.joint, fit.ctx.config.method
        known = [c.mix for c in below.values() if c.mix is not None]
        mix = torch.from_numpy(known[-1]).float() if known else None
        chosen = _DEFAULT if name == "auto" else name
        options: dict[str, Any] = {"momentum": look_back(steps)}
        if asked.teacher != "auto":
            options["follows"] = asked.teacher
        if isinstance(asked.unlabeled_weight, int | float):
            options["unlabeled_weight"] = float(asked.unlabeled_weight)
        if fit.fold is None and below:
            pinned = name != "auto"
            rule = "Soft weights waste no image and trust none blindly: safe on most data."
            fit.ctx.decide("method", chosen, "Asked for." if pinned else rule, pinned)
        return joint_method(chosen, fit.ctx.task, mix, self._guide(fit, below), **options)

    def _guide(self, fit: Fit, below: Below) -> Guide | None:
        """Return label propagation's word on the pool; None where it was not climbed or is not asked.

        From scratch with 4 labels a class, three development draws: digits 96.5 % with it and 96.9 without, clothes in gray
        76.5 and 71.8. A pretrained network has begun with what label propagation says.
        """
        found, asked = below.get("propagate"), fit.ctx.config.joint.guide
        wanted = asked == "propagate" or (asked == "auto" and fit.plan.scratch)
        if not wanted or not isinstance(found, FrozenCandidate):
            return None
        return by_position(fit.pool_probs(found).float())
