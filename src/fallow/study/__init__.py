"""Which rung? The ladder: fit, hold out, compare, choose, leave."""

from fallow.study.choose import (
    Comparison,
    Paired,
    Prior,
    accuracy_interval,
    both_ways,
    claims,
    compare,
    corrected_for_choice,
    gain_interval,
    keep,
    mix_weights,
    paired,
)
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.evidence import OutOfFold
from fallow.study.ladder import Study
from fallow.study.priors import prior
from fallow.study.rung import Candidate, Cost, Fold, ImageSet, Rung, RungInfo
from fallow.study.rungs import RUNGS

__all__ = [
    "RUNGS",
    "Candidate",
    "Clock",
    "Comparison",
    "Cost",
    "Fold",
    "ImageSet",
    "OutOfFold",
    "Paired",
    "Prior",
    "Rung",
    "RungContext",
    "RungInfo",
    "Study",
    "accuracy_interval",
    "both_ways",
    "claims",
    "compare",
    "corrected_for_choice",
    "gain_interval",
    "keep",
    "mix_weights",
    "paired",
    "prior",
]
