"""Options, keys and values that do not exist are named in one sentence, with the nearest that does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.checks import refused
from tests.cli.conftest import Fallow
from tests.photos import photos


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("tran", "data"), ("tran", "train")),
        (("train",), ("DATA",)),
        (("train", "data", "--budgte", "1m"), ("--budgte", "--budget")),
        (("train", "data", "more"), ("no place for 'more'",)),
        (("train", "data", "--set", "embed.vews=flip"), ("embed.vews", "'embed.views'")),
        (("train", "data", "--set", "views=flip"), ("'views'", "'embed.views'")),
        (("train", "data", "--set", "qqq=1"), ("'qqq'", "fallow init")),
        (("train", "data", "--set", "embed.views"), ("embed.views", "key=value")),
        (("train", "data", "--set", "embed.size=[1"), ("embed.size=[1", "YAML")),
        (("train", "data", "--set", "propagate=3"), ("'propagate'", "neighbors, alpha")),
        (("train", "data", "--set", "seed.x=3"), ("'seed'", "not keys")),
        (("train", "data", "--set", "seed=no"), ("'seed'", "whole number")),
        (("train", "data", "--set", "offline=maybe"), ("'offline'", "true or false")),
        (("train", "data", "--seed", "-1"), ("'seed'", "from 0")),
        (("train", "data", "--seed", "99999999999"), ("'seed'", "to 4294967295")),
        (("train", "data", "--budget", "soon"), ("'budget'", "'soon'", "10m")),
        (("train", "data", "--budget", "1s"), ("'budget'", "5s")),
        (("train", "data", "--rungs", "probe,propgate"), ("'propgate'", "'propagate'")),
        (("train", "data", "--method", "fixmach"), ("'fixmach'", "softmatch, adamatch", "'fixmatch'")),
        (("train", "data", "--method", "uda+abd"), ("'uda+abd'", "'uda+abc'")),
        (("train", "data", "--method", "propagate"), ("'propagate'", "softmatch, adamatch")),
        (("train", "data", "--set", "network.backbone=small_resnet_wide"), ("'network.backbone'", "_32")),
        (("train", "data", "--set", "network.backbone=pixels"), ("'network.backbone'", "one network")),
        (("train", "data", "--set", "network.weights=nowhere.pt"), ("'network.weights'", "no such file")),
        (("train", "data", "--set", "optimization.clip=0"), ("'optimization.clip'", "above 0 or auto")),
        (("train", "data", "--set", "optimization.warmup=1"), ("'optimization.warmup'", "from 0 to 0.5")),
        (("train", "data", "--set", "augment.mix=blend"), ("'augment.mix'", "none, mixup or cutmix")),
        (("train", "data", "--set", "joint.foreign=no"), ("'joint.foreign'", "keep or drop")),
        (("train", "data", "--set", "log.to=jsonl,wand"), ("'log.to'", "'wand'", "'wandb'")),
        (("train", "data", "--backbone", "resnet5O"), ("'resnet5O'", "'resnet50'")),
        (("train", "data", "--backbone", "pixels+"), ("'pixels+'", "joined by +")),
        (("train", "data", "--resume"), ("--resume", "--out")),
        (("train", "data", "--config", "nowhere.yaml"), ("nowhere.yaml", "No such file")),
    ],
    ids=lambda value: " ".join(value[2:] or value) if value and value[0] in ("train", "tran") else "",
)
def test_an_option_key_or_value_that_does_not_exist_is_named_with_the_nearest(
    fallow: Fallow, tmp_path: Path, words: tuple[str, ...], named: tuple[str, ...]
) -> None:
    photos(tmp_path / "data")
    refused(fallow(*words), *named)
    assert not list(tmp_path.glob("runs/*"))


def test_a_backbone_that_is_none_is_told_before_the_data_are_read(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "data")
    monkeypatch.setattr("fallow.study.ladder.audit", None)
    refused(fallow("train", "data", "--backbone", "resnet5O"), "'resnet5O'", "'resnet50'")


def test_all_wrong_values_are_told_at_once(fallow: Fallow, tmp_path: Path) -> None:
    ran = fallow(
        *(
            "train",
            photos(tmp_path / "data"),
            "--seed",
            "x",
            "--size",
            "4",
            "--views",
            "flop",
            "--budget",
            "never",
        ),
        *("--set", "propagate.alpha=2", "--set", "choose.folds=many", "--set", "embed.colour=red"),
    )
    refused(ran, "'seed'", "'embed.size'", "from 8 to 1024", "'embed.views'", "none, flip, turns")
    refused(ran, "'budget'", "'propagate.alpha'", "below 1", "'choose.folds'", "'embed.colour'")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"budget: [1m", ("not valid YAML", "line 1")),
        (b"budget: 1m\nbugdet: 2m\n", ("'bugdet'", "'budget'")),
        (b"embed:\n  views: up\n", ("'embed.views'", "'up'")),
        (b"- 1\n- 2\n", ("keys and values",)),
        (b"", ("keys and values",)),
        (b"\xff\xfe\x00\x81", ("not valid YAML",)),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(
    fallow: Fallow, tmp_path: Path, content: bytes, named: tuple[str, ...]
) -> None:
    Path("my.yaml").write_bytes(content)
    refused(
        fallow("train", photos(tmp_path / "data"), "--config", "my.yaml", "--out", "run"), "my.yaml", *named
    )
    assert not Path("run").exists()
