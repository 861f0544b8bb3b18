"""What was found and why: plain values that every room may write and read."""

from fallow.record.decision import Decision, DecisionLog
from fallow.record.results import (
    Counts,
    Interval,
    PoolUse,
    RungResult,
    Scored,
    StudyResult,
    Waterfall,
    WaterfallBar,
)
from fallow.record.rundir import RunDir, read_json, write_json

__all__ = [
    "Counts",
    "Decision",
    "DecisionLog",
    "Interval",
    "PoolUse",
    "RunDir",
    "RungResult",
    "Scored",
    "StudyResult",
    "Waterfall",
    "WaterfallBar",
    "read_json",
    "write_json",
]
