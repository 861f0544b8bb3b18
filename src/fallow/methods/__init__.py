"""What do unlabeled images teach? One file per idea."""

from fallow.methods.base import (
    Batch,
    JointMethod,
    Method,
    MethodInfo,
    Step,
    StepContext,
    Strength,
    TeacherKind,
    Views,
    global_mean,
    look_back,
    options_of,
)
from fallow.methods.distillation import Distillation
from fallow.methods.joint import JOINT, Guide, joint_method
from fallow.methods.mix import estimate_mix
from fallow.methods.neighbors import Neighbors, find_neighbors
from fallow.methods.noisy_student import NoisyStudent
from fallow.methods.pretrain import PRETRAIN, PretrainMethod, Teacher, pretrain_method
from fallow.methods.propagation import (
    ExtraRows,
    PropagateOptions,
    Propagation,
    PropagationInputs,
    certainty,
    fit_with_extra,
    knows_enough,
    list_neighbors,
    map_features,
    prepare_inputs,
    propagate,
)
from fallow.methods.registry import registry
from fallow.methods.spread import affinity, spread, spread_labels
from fallow.methods.supervised import Supervised

__all__ = [
    "JOINT",
    "PRETRAIN",
    "Batch",
    "Distillation",
    "ExtraRows",
    "Guide",
    "JointMethod",
    "Method",
    "MethodInfo",
    "Neighbors",
    "NoisyStudent",
    "PretrainMethod",
    "PropagateOptions",
    "Propagation",
    "PropagationInputs",
    "Step",
    "StepContext",
    "Strength",
    "Supervised",
    "Teacher",
    "TeacherKind",
    "Views",
    "affinity",
    "certainty",
    "estimate_mix",
    "find_neighbors",
    "fit_with_extra",
    "global_mean",
    "joint_method",
    "knows_enough",
    "list_neighbors",
    "look_back",
    "map_features",
    "options_of",
    "prepare_inputs",
    "pretrain_method",
    "propagate",
    "registry",
    "spread",
    "spread_labels",
]
