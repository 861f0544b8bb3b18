"""How do steps run? Loop, optimizers, schedules, averages, checkpoints, health. It knows no algorithm."""

from fallow.engine.bank import MapFeed, Maps, Sheet, TwoSheets
from fallow.engine.checkpoint import load_checkpoint, save_checkpoint
from fallow.engine.ema import Ema
from fallow.engine.feed import Change, Feed, Material, Mix
from fallow.engine.health import Diverged, Finding, Watch
from fallow.engine.loggers import TRACKERS, JsonLines, Logger, Tracker, check_trackers, make_loggers
from fallow.engine.loop import Loop, Outcome, Place, make_fabric, time_steps
from fallow.engine.optim import lr_scale, make_optimizer, parameter_groups, set_lr
from fallow.engine.representation import effective_rank
from fallow.engine.rising import losses_at
from fallow.engine.seeds import Stream, derive, generator
from fallow.engine.settings import LoopSettings, Precision

__all__ = [
    "TRACKERS",
    "Change",
    "Diverged",
    "Ema",
    "Feed",
    "Finding",
    "JsonLines",
    "Logger",
    "Loop",
    "LoopSettings",
    "MapFeed",
    "Maps",
    "Material",
    "Mix",
    "Outcome",
    "Place",
    "Precision",
    "Sheet",
    "Stream",
    "Tracker",
    "TwoSheets",
    "Watch",
    "check_trackers",
    "derive",
    "effective_rank",
    "generator",
    "load_checkpoint",
    "losses_at",
    "lr_scale",
    "make_fabric",
    "make_loggers",
    "make_optimizer",
    "parameter_groups",
    "save_checkpoint",
    "set_lr",
    "time_steps",
]
