"""Functions from an image to an answer: backbones, their weights, frozen vectors and linear heads on them."""

from fallow.models.adapters import has_peft
from fallow.models.backbones import (
    PIXELS,
    Backbone,
    backbone_from_state,
    candidate_backbones,
    create_backbone,
    load_backbone,
)
from fallow.models.classifier import Branch, EmbeddingClassifier, log_softmax
from fallow.models.embed import Embedder, Space
from fallow.models.engines import Engine, device_name, make_engine, pick_device
from fallow.models.feature_map import FeatureMap, fit_feature_map, unit_length
from fallow.models.graph import (
    GRAPH_INPUT,
    GRAPH_OUTPUT,
    INLINE_LIMIT,
    IR_VERSION,
    OPSET,
    backbone_graph,
    save_graph,
)
from fallow.models.linear import (
    DEFAULT_STRENGTH,
    LinearHead,
    fit_logistic,
    fit_temperature,
    one_hot,
    softmax,
)
from fallow.models.network import (
    Network,
    Trainable,
    from_backbone,
    lets_gradient_through,
    network_classifier,
    rebuild_backbone,
    to_backbone,
)
from fallow.models.own import from_module
from fallow.models.preprocess import Preprocess
from fallow.models.small import SMALL_RESNET, SMALL_STEM
from fallow.models.tokens import (
    TokenInfo,
    accept_sizes,
    encode_tokens,
    is_transformer,
    pool_tokens,
    token_info,
)
from fallow.models.trunk import Cut, TailNetwork, find_cut, trunk_backbone
from fallow.models.views import FLIP, VIEWS, apply_view, view_indices
from fallow.models.weights import WeightsSource, load_strict, read_state, resolve_weights

__all__ = [
    "DEFAULT_STRENGTH",
    "FLIP",
    "GRAPH_INPUT",
    "GRAPH_OUTPUT",
    "INLINE_LIMIT",
    "IR_VERSION",
    "OPSET",
    "PIXELS",
    "SMALL_RESNET",
    "SMALL_STEM",
    "VIEWS",
    "Backbone",
    "Branch",
    "Cut",
    "Embedder",
    "EmbeddingClassifier",
    "Engine",
    "FeatureMap",
    "LinearHead",
    "Network",
    "Preprocess",
    "Space",
    "TailNetwork",
    "TokenInfo",
    "Trainable",
    "WeightsSource",
    "accept_sizes",
    "apply_view",
    "backbone_from_state",
    "backbone_graph",
    "candidate_backbones",
    "create_backbone",
    "device_name",
    "encode_tokens",
    "find_cut",
    "fit_feature_map",
    "fit_logistic",
    "fit_temperature",
    "from_backbone",
    "from_module",
    "has_peft",
    "is_transformer",
    "lets_gradient_through",
    "load_backbone",
    "load_strict",
    "log_softmax",
    "make_engine",
    "network_classifier",
    "one_hot",
    "pick_device",
    "pool_tokens",
    "read_state",
    "rebuild_backbone",
    "resolve_weights",
    "save_graph",
    "softmax",
    "to_backbone",
    "token_info",
    "trunk_backbone",
    "unit_length",
    "view_indices",
]
