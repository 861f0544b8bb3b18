"""Learning from images alone: read, judge, plan, learn, judge again, leave."""

from fallow.study.pretraining.run import Pretraining

__all__ = ["Pretraining"]
