"""What can be asked for: typed, documented, checked. The command line, Python and ``config.yaml`` share these models.

Fields are ``T | "auto"``; the study resolves every "auto" into a `Decision`. Unknown keys are errors that name the
nearest valid key, and all errors of a config are gathered and shown at once.
"""

from fallow.config.base import Auto, Section
from fallow.config.distill import DistillationConfig, DistillConfig, StudentConfig
from fallow.config.frozen import EmbedConfig, ProbeConfig, PropagateConfig, View
from fallow.config.label import LABEL_FORMATS, LabelConfig
from fallow.config.mistakes import build
from fallow.config.names import LOGGERS, METHODS, PRETRAIN_METHODS, SUPPORTED_RUNGS
from fallow.config.outside import Asking
from fallow.config.parse import dump_config, merge, nest, parse_duration, parse_set, read_config
from fallow.config.pretrain import PretrainConfig
from fallow.config.run import LogConfig, RunConfig
from fallow.config.train import ChooseConfig, ReplayConfig, TrainConfig
from fallow.config.trained import (
    AugmentConfig,
    JointConfig,
    NetworkConfig,
    NoisyStudentConfig,
    OptimizationConfig,
    StartConfig,
    StepsConfig,
)

__all__ = [
    "LABEL_FORMATS",
    "LOGGERS",
    "METHODS",
    "PRETRAIN_METHODS",
    "SUPPORTED_RUNGS",
    "Asking",
    "AugmentConfig",
    "Auto",
    "ChooseConfig",
    "DistillConfig",
    "DistillationConfig",
    "EmbedConfig",
    "JointConfig",
    "LabelConfig",
    "LogConfig",
    "NetworkConfig",
    "NoisyStudentConfig",
    "OptimizationConfig",
    "PretrainConfig",
    "ProbeConfig",
    "PropagateConfig",
    "ReplayConfig",
    "RunConfig",
    "Section",
    "StartConfig",
    "StepsConfig",
    "StudentConfig",
    "TrainConfig",
    "View",
    "build",
    "dump_config",
    "merge",
    "nest",
    "parse_duration",
    "parse_set",
    "read_config",
]
