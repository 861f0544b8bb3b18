"""A network that a run trained says the same in memory, from the disk, and as one ONNX file."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional

from fallow.errors import ConfigError, RunError, WeightsError
from fallow.models import (
    Backbone,
    create_backbone,
    from_backbone,
    graph,
    log_softmax,
    network_classifier,
    to_backbone,
)
from fallow.study import RUNGS
from fallow.study.candidates.network import TrainedCandidate, vote
from fallow.study.context import RungContext
from fallow.study.rung import Candidate
from tests.study.digits import context, edges, write_digits

SMALL, TIMM = "small_resnet_8", "test_efficientnet"


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> RungContext:
    folder = tmp_path_factory.mktemp("trained")
    return context(write_digits(folder / "data", labels=4, test=25), folder / "cache", "edges+pixels")


def trained(
    ctx: RungContext, name: str, start: Backbone, *, size: int, final: bool, steps: int = 6
) -> TrainedCandidate:
    """Train for a few steps on the labels: weights and batch statistics move."""
    head = nn.Linear(start.dim, len(ctx.data.classes))
    network = from_backbone(start, head, size)
    images = np.stack([ctx.labeled.read(i) for i in ctx.labeled.ids])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = functional.interpolate(x, size=size, mode="bilinear")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(steps):
        functional.cross_entropy(network(x), torch.from_numpy(ctx.data.y)).backward()
        optimizer.step()
        optimizer.zero_grad()
    backbone = to_backbone(network, name)
    classifier = network_classifier(backbone, head, size, ctx.data.classes)
    return TrainedCandidate(classifier, ctx.bank, [backbone], final=final)


@pytest.fixture(scope="module")
def small(ctx: RungContext) -> TrainedCandidate:
    return trained(ctx, "finetune/small", create_backbone(SMALL, size=8), size=8, final=True)


@pytest.fixture(scope="module")
def timm(ctx: RungContext) -> TrainedCandidate:
    return trained(ctx, "joint/timm", create_backbone(TIMM, size=32), size=32, final=True)


def probs(candidate: Candidate, ctx: RungContext) -> NDArray[np.float32]:
    found: NDArray[np.float32] = candidate.predict(ctx.data.images(ctx.data.test_ids)).probs.numpy()
    return found


def through_file(
    state: tuple[dict[str, NDArray[np.generic]], object], path: Path
) -> dict[str, NDArray[np.generic]]:
    """Write and read arrays as a stage does."""
    save_file({name: np.ascontiguousarray(array) for name, array in state[0].items()}, path)
    found: dict[str, NDArray[np.generic]] = load_file(path)
    return found


@pytest.mark.parametrize("what", ["small", "timm", "vote"])
def test_memory_disk_and_exported_graph_agree(
    what: str, ctx: RungContext, small: TrainedCandidate, timm: TrainedCandidate, tmp_path: Path
) -> None:
    candidate: TrainedCandidate = {"small": small, "timm": timm}.get(what) or vote(
        [RUNGS["propagate"].fit(ctx, None, {}), small.calibrated(0.8), timm], [2, 1, 1], final=True
    )
    candidate = candidate.calibrated(1.7)
    said = probs(candidate, ctx)
    state = candidate.state()
    restored = TrainedCandidate.from_state(through_file(state, tmp_path / "state"), state[1], ctx.bank)
    assert restored.final
    np.testing.assert_array_equal(probs(restored, ctx), said)
    if candidate.mix is not None:
        np.testing.assert_array_equal(restored.mix, candidate.mix)

    candidate.export_graph(tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = ctx.data.images(ctx.data.test_ids)
    shipped = np.stack([session.run(["probs"], {"image": images.read(name)})[0] for name in images.ids])
    assert (shipped.argmax(1) == said.argmax(1)).mean() >= 0.995
    np.testing.assert_allclose(shipped, said, atol=1e-3)


def test_a_folds_network_answers_without_graph_or_cache_and_says_what_the_final_one_would(
    ctx: RungContext, small: TrainedCandidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, final = list(small.networks.values()), probs(small, ctx)
    monkeypatch.setattr(graph, "_trace", lambda *given: pytest.fail("traced"))
    monkeypatch.setattr(graph, "_made", {})
    bank = replace(ctx.bank, cache=tmp_path / "cache")
    fold = TrainedCandidate(small.classifier, bank, networks, final=False)
    said = probs(fold, ctx)
    np.testing.assert_allclose(said, final, atol=1e-4)
    assert not (tmp_path / "cache").exists()
    tensors, meta = fold.state()
    restored = TrainedCandidate.from_state(tensors, meta, bank)
    assert not restored.final
    np.testing.assert_array_equal(probs(restored, ctx), said)
    one = ctx.data.images(ctx.data.test_ids[3:4])
    np.testing.assert_allclose(fold.predict(one).probs.numpy(), said[3:4], atol=1e-6)


def test_nothing_of_a_trained_network_stays_in_the_cache_of_all_runs(
    ctx: RungContext, small: TrainedCandidate, timm: TrainedCandidate
) -> None:
    probs(vote([small, timm], final=True), ctx)
    names = [path.name for path in (ctx.bank.cache / "vectors").glob("*")]
    assert not any("small" in name or "timm" in name for name in names)


@pytest.mark.parametrize("final", [False, True])
def test_networks_of_one_name_are_told_apart_by_their_weights(ctx: RungContext, final: bool) -> None:
    two = [
        trained(ctx, "joint/net", create_backbone(SMALL, size=8, seed=seed), size=8, final=final)
        for seed in (0, 1)
    ]
    said = [probs(one, ctx) for one in two]
    assert np.abs(said[0] - said[1]).max() > 0.01
    for one, expected in zip(two[::-1], said[::-1], strict=True):
        np.testing.assert_array_equal(probs(one, ctx), expected)
        network = one.networks["joint/net"]
        assert ctx.bank.network(one.classifier.spaces[0]) is one.backbones()["joint/net"] is network
    with pytest.raises(RunError, match="two networks with different weights are called 'joint/net'"):
        vote(two, final=final)


def test_the_bank_forgets_a_folds_network_when_nobody_holds_it(ctx: RungContext) -> None:
    candidate = trained(ctx, "joint/gone", create_backbone(SMALL, size=8), size=8, final=False)
    probs(candidate, ctx)
    kept = trained(ctx, "joint/gone", create_backbone(SMALL, size=8, seed=1), size=8, final=False)
    space = candidate.classifier.spaces[0]
    del candidate
    gc.collect()
    with pytest.raises(RunError, match=f"the weights {space.weights_id} of 'joint/gone'"):
        ctx.bank.network(space)
    assert ctx.bank.network(kept.classifier.spaces[0]) is kept.networks["joint/gone"]


def test_a_vote_is_the_weighted_mean_of_log_probabilities(
    ctx: RungContext, small: TrainedCandidate, timm: TrainedCandidate
) -> None:
    voters = [RUNGS["probe"].fit(ctx, None, {}).calibrated(1.9), small.calibrated(0.6), timm]
    mean = sum(w * np.log(probs(one, ctx)) for w, one in zip((0.5, 0.3, 0.2), voters, strict=True))
    said = probs(vote(voters, [5, 3, 2], final=True), ctx)
    np.testing.assert_allclose(said, np.exp(log_softmax(mean)), atol=1e-5)


def test_a_state_that_is_not_whole_is_refused(ctx: RungContext, small: TrainedCandidate) -> None:
    tensors, meta = small.state()
    key = "backbone.finetune/small.stem.weight"
    with pytest.raises(WeightsError, match=r"'finetune/small' do not fit.*missing: stem.weight"):
        TrainedCandidate.from_state({k: v for k, v in tensors.items() if k != key}, meta, ctx.bank)
    with pytest.raises(RunError, match="'finetune/small' is not the one that its head was trained on"):
        TrainedCandidate.from_state({**tensors, key: tensors[key] * 2}, meta, ctx.bank)


def test_the_users_own_network_is_rebuilt_from_its_code_alone(ctx: RungContext) -> None:
    candidate = trained(ctx, "finetune/edges", edges(), size=8, final=False)
    tensors, meta = candidate.state()
    restored = TrainedCandidate.from_state(tensors, meta, ctx.bank)
    np.testing.assert_array_equal(probs(restored, ctx), probs(candidate, ctx))
    assert restored.networks["finetune/edges"].weights_id != edges().weights_id
    with pytest.raises(ConfigError, match="no backbone 'edges'"):
        TrainedCandidate.from_state(tensors, meta, replace(ctx.bank, own=None))
