"""What was found and why: plain values that every room may write and read."""

from fallow.record.decision import Decision, DecisionLog
from fallow.record.elapsed import elapsed_before, note_elapsed, process_age
from fallow.record.results import (
    ONE_GROUP,
    ONE_LABEL,
    Counts,
    ExtraUse,
    Interval,
    PoolUse,
    RungResult,
    Scored,
    StudyResult,
    Unmeasured,
    Waterfall,
    WaterfallBar,
)
from fallow.record.rundir import RunDir, read_json, write_json

__all__ = [
    "ONE_GROUP",
    "ONE_LABEL",
    "Counts",
    "Decision",
    "DecisionLog",
    "ExtraUse",
    "Interval",
    "PoolUse",
    "RunDir",
    "RungResult",
    "Scored",
    "StudyResult",
    "Unmeasured",
    "Waterfall",
    "WaterfallBar",
    "elapsed_before",
    "note_elapsed",
    "process_age",
    "read_json",
    "write_json",
]
