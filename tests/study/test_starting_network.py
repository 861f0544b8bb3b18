"""Which network training starts from: what is asked for is what is trained, or is refused before time is spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from fallow.config import EmbedConfig, NetworkConfig
from fallow.study.bank import SpaceBank
from fallow.study.context import RungContext
from fallow.study.plan import SpacePlan
from fallow.study.trained.network import starting_backbone
from fallow.study.trained.start import fitted_head
from tests.study.digits import context, write_digits

NAME, SIZE = "test_resnet", 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"), labels=4, pool=10)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files with weights of the same network."""
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(tmp_path_factory.mktemp("weights") / f"{seed}.safetensors")
        save_file(timm.create_model(NAME, pretrained=False).state_dict(), made[-1])
    return made


def photos(data: Path, cache: Path, embed: Path, network: Path | None = None) -> RungContext:
    """Return what rungs look at where images are embedded with the weights of one file and training starts from another's."""
    ctx = context(data, cache)
    own = EmbedConfig(backbone=NAME, weights=embed)
    config = ctx.config.model_copy(update={"embed": own, "network": NetworkConfig(weights=network)})
    plan = SpacePlan((NAME,), (SIZE,), ("none",), len(ctx.data.pool_ids))
    return replace(ctx, config=config, plan=plan, bank=SpaceBank(own, cache, offline=True), scratch={})


def head_of(ctx: RungContext) -> nn.Linear:
    head = nn.Linear(starting_backbone(ctx, 0).dim, len(ctx.data.classes))
    fitted_head(ctx, None, head)
    return head


def test_the_head_is_fitted_on_the_features_of_the_network_that_is_trained(
    data: Path, files: list[Path], tmp_path: Path
) -> None:
    one, other = files
    given = head_of(photos(data, tmp_path, embed=one, network=other))
    assert torch.equal(given.weight, head_of(photos(data, tmp_path, embed=other)).weight)
    assert not torch.equal(given.weight, head_of(photos(data, tmp_path, embed=one)).weight)
