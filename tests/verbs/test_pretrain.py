"""From images alone to a trained classifier, in two calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import fallow
from fallow.errors import ConfigError, RunError
from tests.photos import photos, tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pretraining run in ``base/`` beside its photos in ``photos/``; not to be changed."""
    here = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        fallow.pretrain(
            str(photos(here / "photos", labeled=4)),
            out=here / "base",
            method="simclr",
            offline=True,
            show="nothing",
            network={"backbone": "small_resnet_8", "size": 12},
            optimization={"steps": 3, "batch_size": 4},
        )
    return here


def _train(base: Path, backbone: object, **options: Any) -> fallow.Result:
    return fallow.train(
        str(base / "photos"), offline=True, show="nothing", embed={"backbone": str(backbone)}, **options
    )


def test_a_classifier_is_trained_on_what_was_learned_and_starts_from_it(base: Path, tmp_path: Path) -> None:
    result = _train(
        base,
        base / "base",
        out=tmp_path / "run",
        rungs="probe,finetune",
        budget="5m",
        set={"optimization.steps": 2, "choose.repeats": 1, "choose.folds": 2},
    )
    made = {d.name: d.value for d in result.decisions}
    assert made["embed.size"] == 12
    assert (made["network.init"], made["network.size"]) == ("pretrained", 12)
    assert [rung.rung for rung in result.study.rungs] == ["probe", "finetune"]
    assert len(result.predict([tiny(0), tiny(1)])) == 2


def test_the_exported_backbone_gives_the_features_that_training_sees(base: Path) -> None:
    backbone = fallow.load_pretrained(base / "base").backbone()
    session = onnxruntime.InferenceSession(str(base / "base" / "model" / "model.onnx"))
    (features,) = session.run(None, {"image": tiny(0)})
    assert features.shape == (backbone.dim,)
    assert np.isfinite(features).all()


def test_a_backbone_that_there_is_not_is_told_in_a_sentence(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder 'runs/base'.*fallow pretrain"):
        _train(base, "runs/base", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="holds no backbone"):
        _train(base, base / "photos", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_command_is_not_gone_on_with(base: Path) -> None:
    with pytest.raises(RunError, match="was started by  fallow pretrain"):
        fallow.train(str(base / "photos"), out=base / "base", resume=True, show="nothing")
    with pytest.raises(RunError, match="fallow train DATA --backbone"):
        fallow.load(base / "base")
