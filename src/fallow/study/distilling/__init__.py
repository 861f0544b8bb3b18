"""A small model that learned what a large one says: chosen for a target, measured beside its teacher."""

from fallow.study.distilling.job import INT8, Distilling

__all__ = ["INT8", "Distilling"]
