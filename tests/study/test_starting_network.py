"""Which network training starts from: what is asked for is what is trained, or is refused before time is spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import fallow
from fallow.config import EmbedConfig, NetworkConfig, OptimizationConfig
from fallow.errors import ConfigError, WeightsError
from fallow.models import create_backbone
from fallow.study.bank import SpaceBank
from fallow.study.context import RungContext
from fallow.study.plan import SpacePlan
from fallow.study.trained.checks import check_training
from fallow.study.trained.network import network_plan, starting_backbone
from fallow.study.trained.start import fitted_head
from tests.study.digits import context, decisions, edges, hasten, write_digits

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
    fitted_head(ctx, None, head, starting_backbone(ctx, 0))
    return head


def test_the_head_is_fitted_on_the_features_of_the_network_that_is_trained(
    data: Path, files: list[Path], tmp_path: Path
) -> None:
    one, other = files
    given = head_of(photos(data, tmp_path, embed=one, network=other))
    assert torch.equal(given.weight, head_of(photos(data, tmp_path, embed=other)).weight)
    assert not torch.equal(given.weight, head_of(photos(data, tmp_path, embed=one)).weight)


def asked(data: Path, cache: Path, *, own: bool = False, **network: object) -> RungContext:
    """Return what rungs look at where a network is asked for; the pixels vote, or a network of the user's own."""
    ctx = context(data, cache, "edges" if own else "pixels")
    return replace(ctx, config=ctx.config.model_copy(update={"network": NetworkConfig(**network)}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with weights of a small network."""
    file = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file(create_backbone("small_resnet_8", size=8, seed=5).module.state_dict(), file)
    return file


def test_a_small_network_starts_from_the_weights_that_are_given(
    data: Path, small: Path, tmp_path: Path
) -> None:
    ctx = asked(data, tmp_path, backbone="small_resnet_8", weights=small)
    check_training(ctx)
    plan, start = network_plan(ctx), starting_backbone(ctx, 0)
    assert (plan.scratch, plan.size, plan.trainable) == (False, 8, "all")
    given, untrained = create_backbone("small_resnet_8", size=8, seed=5), asked(data, tmp_path)
    assert all(torch.equal(t, start.module.state_dict()[k]) for k, t in given.module.state_dict().items())
    from_nothing = starting_backbone(
        untrained, 0
    )  # sees its images as a network does that learns from scratch
    assert (start.mean, start.std) == (from_nothing.mean, from_nothing.std)


def test_a_run_from_given_weights_is_done_again_from_its_config(
    data: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    steps = {"optimization.steps": 2, "optimization.batch_size": 8, "choose.folds": 2, "choose.repeats": 1}
    network = {"network.backbone": "small_resnet_8", "network.weights": str(small)}
    given = {"rungs": "finetune", "offline": True, "show": "nothing", "embed": {"backbone": "pixels"}}
    fallow.train(str(data), out=tmp_path / "run", set={**steps, **network}, **given)
    made = decisions(tmp_path / "run")["network.init"]
    assert (made["value"], made["pinned"]) == ("pretrained", False)
    fallow.train(str(data), config=tmp_path / "run" / "config.yaml", out=tmp_path / "again", show="nothing")
    assert (tmp_path / "again" / "model").is_dir()
    kept = decisions(tmp_path / "again")["network.init"]
    assert (kept["value"], kept["pinned"]) == ("pretrained", True)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"backbone": "small_resnet_8", "init": "pretrained"}, "small_resnet_8 has no pretrained weights"),
        ({"init": "pretrained"}, "no pretrained network is at hand: name one as network.backbone"),
        ({"backbone": "resnet18.small_stem", "init": "pretrained"}, "has no pretrained weights"),
    ],
)
def test_pretrained_weights_that_are_asked_for_and_not_there_are_told(
    network: dict[str, str], said: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_training(asked(data, tmp_path, **network))


def test_weights_of_another_network_are_refused_by_the_name_of_their_file(
    data: Path, files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=str(files[0])):
        check_training(asked(data, tmp_path, backbone="small_resnet_8", weights=files[0]))


@pytest.mark.parametrize("what", ["init", "weights"])
def test_a_network_that_was_handed_in_starts_from_what_it_is(
    what: str, data: Path, small: Path, tmp_path: Path
) -> None:
    value = {"init": "scratch", "weights": small}[what]
    with pytest.raises(
        ConfigError, match=f"'network.{what}' cannot be followed: the network that was handed in"
    ):
        check_training(asked(data, tmp_path, own=True, **{what: value}))
    other = asked(data, tmp_path, own=True, backbone="small_resnet_8", **{what: value})
    check_training(other)
    assert network_plan(other).backbone == "small_resnet_8"
    assert network_plan(asked(data, tmp_path, own=True)).backbone == edges().name


def test_a_plan_that_is_looked_at_before_the_climb_is_told_when_a_network_is_trained(
    data: Path, tmp_path: Path
) -> None:
    ctx = asked(data, tmp_path, backbone="small_resnet_8")
    check_training(ctx)
    assert ctx.decisions.get("network.backbone") is None
    network_plan(ctx)
    made = ctx.decisions.get("network.backbone")
    assert made is not None
    assert (made.value, made.pinned) == ("small_resnet_8", True)


@pytest.mark.parametrize(
    ("optimization", "said"),
    [
        ({"batch_size": 1}, "'optimization.batch_size' is 1, .* give 2 or more"),
        ({"batch_size": 8, "accumulate": 8}, "lower it to 4, or give optimization.batch_size=16"),
        ({"accumulate": 8}, "batches of 8 labeled images into 8 parts of one"),
        ({"precision": "fp16"}, "a CPU cannot train with: take bf16 or fp32"),
    ],
)
def test_steps_that_a_network_cannot_take_are_told_before_the_first(
    optimization: dict[str, object], said: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.study.trained.checks.pick_device", lambda asked: "cpu")
    ctx = asked(data, tmp_path)
    ctx.config.optimization = OptimizationConfig(**optimization)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said):
        check_training(ctx)


@pytest.mark.parametrize("accumulate", [1, 8])
def test_where_nothing_counts_the_images_of_a_batch_one_is_enough(
    accumulate: int, data: Path, tmp_path: Path
) -> None:
    ctx = asked(data, tmp_path, own=True)
    ctx.config.optimization = OptimizationConfig(batch_size=accumulate, accumulate=accumulate)
    check_training(ctx)


def test_a_network_that_cannot_compute_twice_is_told_before_the_first_step(
    data: Path, tmp_path: Path
) -> None:
    for own in (False, True):
        ctx = asked(data, tmp_path, own=own)
        ctx.config.optimization = OptimizationConfig(gradient_checkpointing=True)
        if own:
            with pytest.raises(ConfigError, match=r"leave optimization\.gradient_checkpointing out"):
                check_training(ctx)
        else:
            check_training(ctx)


def test_a_size_that_a_network_cannot_take_is_told_before_the_first_step(data: Path, tmp_path: Path) -> None:
    for size, ok in ((64, True), (50, False)):  # of patches of 16 pixels
        ctx = asked(data, tmp_path, backbone="test_vit", init="scratch", size=size)
        if ok:
            check_training(ctx)
        else:
            with pytest.raises(ConfigError, match=r"test_vit.*50"):
                check_training(ctx)


@pytest.fixture
def vit_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors"


def test_adapters_are_trained_and_what_leaves_is_a_plain_network(
    data: Path, vit_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    result = fallow.train(
        data,
        out=tmp_path / "run",
        rungs="probe,finetune",
        embed={"backbone": "test_vit", "weights": vit_file},
        set={"network.trainable": "lora", "optimization.steps": 4},
        show="nothing",
    )
    assert {d.name: d.value for d in result.decisions}["network.trainable"] == "lora"
    finetune = next(Path(result.path).glob("stages/*-finetune/*.safetensors"))
    from safetensors import safe_open

    with safe_open(finetune, "pt") as file:
        assert not [name for name in file.keys() if "lora" in name]  # noqa: SIM118


def test_few_labels_and_an_accelerator_adapt_a_transformer_and_the_last_blocks_of_others(
    data: Path, files: list[Path], vit_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, weights, expected in (("test_vit", vit_file, "lora"), (NAME, files[0], "last")):
        ctx = photos(data, tmp_path / name, weights)
        own = EmbedConfig(backbone=name, weights=weights)
        ctx = replace(
            ctx,
            config=ctx.config.model_copy(update={"embed": own}),
            plan=SpacePlan((name,), (SIZE,), ("none",), len(ctx.data.pool_ids)),
            bank=SpaceBank(own, tmp_path / name, offline=True),
            scratch={},
        )
        assert network_plan(ctx).trainable == expected
