"""Two processes over gloo, through the loop, take the steps that one takes with the whole batch: gradients and weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fallow.engine import Loop, LoopSettings, make_fabric
from fallow.methods import PRETRAIN
from tests.methods.pretrain.digits import NoNorm, make_loop, network, weights
from tests.processes import in_processes

RUN = LoopSettings(
    steps=3, batch_size=0, unlabeled_batch=12, optimizer="sgd", lr=0.1, warmup=0.0, ema_decay=0.0, seed=1
)
CROPS = {"prototypes": 12, "local_crops": 1}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "simclr": ("simclr", {}),
    "barlow_twins": ("barlow_twins", {}),
    "vicreg": ("vicreg", {}),
    "byol": ("byol", {}),
    "simsiam": ("simsiam", {}),
    "moco": ("moco", {}),
    "moco 3": ("moco", {"version": 3}),
    "swav": ("swav", {**CROPS, "queue": 24, "queue_from": 1}),
    "dino": ("dino", CROPS),
    "lejepa": ("lejepa", {"slices": 8, "local_crops": 1}),
    "npid": ("npid", {}),
    "deepcluster": ("deepcluster", {"prototypes": 5, "heads": 2, "local_crops": 1}),
    "pirl": ("pirl", {}),
    "ibot": ("ibot", CROPS),
    "msn": ("msn", {**CROPS, "missing": 0.5}),
    "msn, equation 1": ("msn", {**CROPS, "balance": False}),
    "supcon": ("supcon", {}),
    "triplet": ("triplet", {}),
    "multi_similarity": ("multi_similarity", {}),
    "circle": ("circle", {}),
    "soft_nn": ("soft_nn", {}),
    "lifted": ("lifted", {}),
    "pn": ("pn", {}),
}
ALONE = {"mae", "rotnet", "clusterfit", "distill", "jigsaw"}
"""Methods whose loss of an image depends on no other image."""


def turned(times: int, side: int) -> Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]:
    """Return a change that depends on no chance: processes draw for their own share of a batch."""

    def change(images: Tensor, drawn: torch.Generator) -> tuple[Tensor, Tensor]:
        return images.rot90(times, (2, 3))[..., :side, :side].contiguous(), torch.eye(2, 3).expand(
            len(images), 2, 3
        )

    return change


VIEWS = {
    "first": turned(0, 8),
    "second": turned(1, 8),
    "local": turned(2, 6),
    "puzzle": turned(3, 8),
}
LARGER = {"first": turned(0, 48), "second": turned(1, 48), "local": turned(2, 32)}
"""For transformers: three by three parts, and two by two."""


def learn(rank: int, count: int) -> dict[str, Any]:
    """Train with each method; return gradients of each step and the weights at the end."""
    if count > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "test"}
    found: dict[str, Any] = {}
    for label, (name, options) in METHODS.items():
        torch.manual_seed(5)
        fabric = make_fabric(RUN, "cpu")
        of: dict[str, Any] = {"of": NoNorm(), "changes": VIEWS}
        if PRETRAIN[name].needs_tokens:
            of = {"of": network("test_vit", 48), "dim": 64, "size": 48, "changes": LARGER}
        loop = make_loop(name, RUN, count=30, options=options, norms=False, fabric=fabric, **of)
        assert loop.fabric.world_size == count
        gradients, clip = [], loop.fabric.clip_gradients

        def keep(
            *given: Any, loop: Loop = loop, gradients: Any = gradients, clip: Any = clip, **how: Any
        ) -> Any:
            gradients.append([p.grad.clone() for p in loop.trainee.parameters()])
            return clip(*given, **how)

        loop.fabric.clip_gradients = keep  # type: ignore[method-assign]
        outcome = loop.run()
        found[label] = (gradients, weights(outcome.network), outcome.figures["loss"])
    return found


@pytest.fixture(scope="module")
def learned() -> list[dict[str, Any]]:
    return [learn(0, 1), *in_processes(2, learn)]


@pytest.mark.parametrize("label", METHODS)
def test_two_processes_take_the_steps_of_one(label: str, learned: list[dict[str, Any]]) -> None:
    one, *two = (found[label] for found in learned)
    for other in two:
        for expected, gradients in zip(one[0], other[0], strict=True):
            assert sum(float(g.abs().sum()) for g in expected) > 1e-3
            for left, right in zip(expected, gradients, strict=True):
                most = float(left.abs().max())
                torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-5 + 1e-4 * most)
        for key, tensor in one[1].items():
            torch.testing.assert_close(tensor, other[1][key], rtol=1e-3, atol=1e-5)
        assert other[2] == pytest.approx(one[2], rel=1e-4, abs=1e-5)


def test_every_method_is_compared_or_looks_at_single_images() -> None:
    assert {name for name, _ in METHODS.values()} | ALONE == set(PRETRAIN)
