"""What rungs leave: heads on networks that stand still, and networks that were trained."""

from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.candidates.network import TrainedCandidate, vote

__all__ = ["FrozenCandidate", "TrainedCandidate", "vote"]
