"""What can be asked of learning from images alone."""

from __future__ import annotations

import pytest

from fallow.config import PretrainConfig, build, dump_config, parse_set
from fallow.config.parse import nest
from fallow.errors import ConfigError


def test_every_mistake_is_named_with_the_nearest_key() -> None:
    with pytest.raises(ConfigError) as told:
        build(PretrainConfig, {"metod": "simclr", "network": {"backbon": "x"}, "options": 3})
    text = str(told.value)
    assert "'metod'" in text
    assert "Did you mean 'method'?" in text
    assert "Did you mean 'network.backbone'?" in text
    assert "give keys and values" in text


def test_a_method_that_there_is_not_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="simclr"):
        build(PretrainConfig, {"method": "simclear"})


def test_a_methods_own_values_are_set_by_name_and_survive_the_file() -> None:
    import yaml

    asked = build(PretrainConfig, nest(parse_set(["options.temperature=0.2", "network.size=16"])))
    again = build(PretrainConfig, yaml.safe_load(dump_config(asked.model_dump(mode="json"))))
    assert again == asked
    assert again.options == {"temperature": 0.2}


def test_scratch_and_weights_exclude_each_other(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "w.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(ConfigError, match="leave one of the two out"):
        build(PretrainConfig, {"network": {"weights": str(file), "init": "scratch"}})


def test_the_methods_that_can_be_asked_for_are_those_that_there_are() -> None:
    from fallow.config import PRETRAIN_METHODS
    from fallow.methods import PRETRAIN

    assert set(PRETRAIN_METHODS) == set(PRETRAIN)
