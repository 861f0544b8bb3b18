"""What leaves: the model as one ONNX file and as a folder that needs no fallow to be used."""

from fallow.export.backbone import save_backbone
from fallow.export.bundle import Deployed, load_bundle, save_bundle, write_card
from fallow.export.onnx_graph import FEATURES, IMAGE, PROBS, build_graph, export_onnx
from fallow.export.places import model_at, model_folder
from fallow.export.quantize import quantize

__all__ = [
    "FEATURES",
    "IMAGE",
    "PROBS",
    "Deployed",
    "build_graph",
    "export_onnx",
    "load_bundle",
    "model_at",
    "model_folder",
    "quantize",
    "save_backbone",
    "save_bundle",
    "write_card",
]
