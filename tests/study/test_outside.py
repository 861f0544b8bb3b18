"""Models that people bring: what works, and the one sentence of what does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from fallow.config import LabelConfig
from fallow.errors import ConfigError
from fallow.study.labeling.answers import _of_strangers
from fallow.study.labeling.evidence import HeldOut
from fallow.study.outside import open_model
from fallow.study.rung import ImageSet

CLASSES = ("red", "green", "blue")
IMAGES = ImageSet(("a", "b"), ("1", "2"), lambda id_: np.full((16, 16, 3), 40 + ord(id_), np.uint8))
SMALL = LabelConfig(input={"size": 16})


def means(images: torch.Tensor) -> torch.Tensor:
    return images.mean((2, 3))


def file(path: Path, sides: tuple[int | str, int | str]) -> Path:
    """Write a network that gives features first, then a value for each class."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["features"]),
        helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, *sides])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", "many"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def said(model: Any, config: LabelConfig = SMALL) -> np.ndarray:
    return np.stack(list(open_model(model, config, CLASSES).answers(IMAGES)))


def test_a_file_that_gives_features_as_well_is_asked_for_its_classes(tmp_path: Path) -> None:
    np.testing.assert_allclose(said(file(tmp_path / "two.onnx", (16, 16))), said(means), rtol=1e-5)


def test_the_size_that_a_file_takes_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16 x 24 pixels, and a model that is asked takes squares"):
        said(file(tmp_path / "wide.onnx", (16, 24)), LabelConfig())
    with pytest.raises(ConfigError, match=r"16 pixels only: leave input\.size=32 out"):
        said(file(tmp_path / "fixed.onnx", (16, 16)), LabelConfig(input={"size": 32}))
    assert said(file(tmp_path / "free.onnx", ("h", "w"))).shape == (2, 3)


def test_a_network_in_training_stays_in_training() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.drop = nn.BatchNorm2d(3).eval(), nn.Dropout(0.9)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return means(self.drop(images))

    net = Net()
    np.testing.assert_allclose(said(net), said(means))  # nothing was dropped
    assert net.training
    assert net.drop.training
    assert not net.frozen.training


def test_what_is_no_array_of_answers_is_refused_and_logits_are_found_in_hugging_faces() -> None:
    np.testing.assert_array_equal(said(lambda images: SimpleNamespace(logits=means(images))), said(means))
    for wrong, sentence in (
        (lambda images: (means(images), None), "gives a tuple, not an array"),
        (lambda images: {"out": means(images)}, "gives a dict, not an array"),
        (lambda images: means(images).argmax(1), r"shape \(2,\) for 2 images, not one of logits"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            said(wrong)


def test_a_model_that_names_most_labels_wrongly_is_asked_about_its_classes() -> None:
    model, y = open_model(means, SMALL, CLASSES), np.array([0, 1, 2, 0])
    good = HeldOut(np.arange(4), np.eye(3)[y], y)
    assert "taken to be new to 'means'" in _of_strangers(model, good)
    turned = HeldOut(np.arange(4), np.eye(3)[(y + 1) % 3], y)
    assert "names 0 of 4 labels rightly: check the order of its classes" in _of_strangers(model, turned)
