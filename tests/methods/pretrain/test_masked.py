"""Methods that hide parts of an image from a transformer and learn what is said of the whole, beside references from their papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fallow.methods import PretrainMethod, pretrain_method
from fallow.methods.pretrain.masks import blocks_for, hide_blocks, kept_for
from fallow.models import TokenInfo, create_backbone, encode_tokens, from_backbone, pool_tokens
from fallow.tasks import FeatureInfo
from tests.methods.pretrain.play import STEPS, Bare, Play, batch_of

GRID, DIM, IMAGES = 4, 6, 5
PARTS = GRID**2


class Parts(Play):
    """Images are their own parts (n, 1 + parts, dim); what is said of a part hangs on all parts that are seen."""

    def tokens(
        self,
        images: Tensor,
        *,
        of_teacher: bool = False,
        kept: Tensor | None = None,
        hidden: Tensor | None = None,
        stand_in: Tensor | None = None,
    ) -> Tensor:
        first, parts = images[:, :1], images[:, 1:]
        if hidden is not None:
            assert stand_in is not None
            parts = torch.where(hidden[:, :, None], stand_in, parts)
        if kept is not None:
            parts = torch.stack([part[rows] for part, rows in zip(parts, kept, strict=True)])
        x = torch.cat([first, parts], 1)
        x = x + 2 * x.mean(1, keepdim=True)
        return x @ self.twist if of_teacher else x

    def pooled(self, tokens: Tensor, *, of_teacher: bool = False) -> Tensor:
        return tokens[:, 0]

    def features(self, *images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.tokens(x)[:, 0] for x in images)

    def teacher_features(self, *images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.tokens(x.detach(), of_teacher=True)[:, 0] for x in images)


def made(name: str, **options: Any) -> PretrainMethod:
    torch.manual_seed(4)
    method = pretrain_method(name, local_crops=1, **options)
    method.build(FeatureInfo(DIM), 100, 0, STEPS, IMAGES, TokenInfo(DIM, 2, GRID, 1))
    method.projector = Bare()
    return method


def crops(seed: int = 0) -> list[Tensor]:
    """Return two large crops and a small one, as parts."""
    drawn = torch.Generator().manual_seed(seed)
    return [torch.randn(IMAGES, 1 + parts, DIM, generator=drawn).requires_grad_() for parts in (16, 16, 4)]


def assert_same(loss: Tensor, expected: Tensor, views: list[Tensor]) -> None:
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    mine = torch.autograd.grad(loss, views, allow_unused=True, retain_graph=True)
    theirs = torch.autograd.grad(expected, views, allow_unused=True, retain_graph=True)
    assert sum(float(g.abs().sum()) for g in theirs if g is not None) > 1e-2
    for one, other, view in zip(mine, theirs, views, strict=True):
        zero = torch.zeros_like(view)
        torch.testing.assert_close(
            zero if one is None else one, zero if other is None else other, rtol=1e-3, atol=1e-5
        )


def ce(target: Tensor, logits: Tensor) -> Tensor:
    return -(target * torch.log_softmax(logits, 0)).sum()


def test_ibot_is_the_sum_of_both_terms_with_a_center_each() -> None:
    method = made("ibot", centering="mean", prototypes=DIM)
    torch.nn.init.normal_(method.stand_in)
    play, center, part_center = Parts(method), torch.zeros(DIM), torch.zeros(DIM)
    for step in (0, 4, 60):
        play.step, sharp, views = step, 0.04 + 0.03 * min(step / 10, 1), crops(step)
        batch = batch_of(views)
        hidden = method.hide(batch, play).view(2, IMAGES, PARTS)
        assert 0 < int(hidden.any(2).sum()) < 2 * IMAGES
        masked = [play.tokens(views[v], hidden=hidden[v], stand_in=method.stand_in) for v in (0, 1)]
        whole = [play.tokens(views[v].detach(), of_teacher=True) for v in (0, 1)]
        students = [masked[0][:, 0], masked[1][:, 0], play.tokens(views[2])[:, 0]]
        between = within = torch.zeros(())
        for n in range(IMAGES):
            for v in (0, 1):
                t = torch.softmax((whole[v][n, 0] - center) / sharp, 0)
                for other in range(3):
                    if other != v:
                        between = between + ce(t, students[other][n] / 0.1) / (4 * IMAGES)
                rows = hidden[v, n].nonzero()[:, 0].tolist()
                for i in rows:
                    t = torch.softmax((whole[v][n, 1 + i] - part_center) / sharp, 0)
                    within = within + ce(t, masked[v][n, 1 + i] / 0.1) / (len(rows) * 2 * IMAGES)
        found = method.step(batch, play)
        assert_same(found.loss, between + within, [*views, method.stand_in])
        share = float(hidden.any(2).float().mean())
        assert float(found.health["chance_loss"]) == pytest.approx(math.log(DIM) * (1 + share))
        center = 0.9 * center + 0.1 * torch.cat([w[:, 0] for w in whole]).mean(0)
        part_center = 0.9 * part_center + 0.1 * torch.cat([w[:, 1:] for w in whole]).flatten(0, 1).mean(0)
        torch.testing.assert_close(method.center[0], center)
        torch.testing.assert_close(method.part_center[0], part_center)


def shared_out(p: Tensor) -> Tensor:
    """Sinkhorn-Knopp on (prototypes, images), as SwAV has it."""
    q = p.T / p.sum()
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / q.shape[0]
        q = q / q.sum(0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T


@pytest.mark.parametrize("balance", [False, True])
def test_msn_predicts_sharpened_prototypes_of_the_whole_and_spreads_the_mean(balance: bool) -> None:
    method = made("msn", prototypes=7, out=DIM, missing=0.5, balance=balance)
    play, views, batch = Parts(method, step=3), crops(), batch_of(crops())
    batch = batch_of(views)
    q = method.prototypes.weight / method.prototypes.weight.norm(dim=1, keepdim=True)
    kept = kept_for(batch.index, 3, PARTS, 8)
    anchors = torch.cat([play.tokens(views[1], kept=kept)[:, 0], play.tokens(views[2])[:, 0]])
    target = play.tokens(views[0].detach(), of_teacher=True)[:, 0]
    with torch.no_grad():
        p = torch.softmax(target / target.norm(dim=1, keepdim=True) @ q.T / 0.1, 1)
        sharp = p ** (1 / 0.25) / (p ** (1 / 0.25)).sum(1, keepdim=True)  # tau of 0.1 to tau of 0.025
        if balance:
            sharp = shared_out(sharp)
    said = [torch.softmax(q @ (z / z.norm()) / 0.1, 0) for z in anchors]
    predicted = sum(-(sharp[i % IMAGES] * s.log()).sum() for i, s in enumerate(said)) / len(said)
    mean = torch.stack(said).mean(0)
    expected = predicted - (-(mean * mean.log()).sum()) + math.log(7)
    found = method.step(batch, play)
    assert_same(found.loss, expected, [*views[1:], method.prototypes.weight])
    assert float(found.health["chance_loss"]) == pytest.approx(math.log(7))
    assert torch.autograd.grad(found.loss, views[0], allow_unused=True)[0] is None


def test_msns_loss_is_at_chance_where_every_prototype_is_as_near() -> None:
    method = made("msn", prototypes=7, out=DIM)
    with torch.no_grad():
        method.prototypes.weight[:] = 1.0
    found = method.step(batch_of(crops()), Parts(method))
    assert float(found.loss.detach()) == pytest.approx(math.log(7), rel=1e-5)


@pytest.mark.parametrize(("dim", "kept"), [(384, 167), (768, 137), (1024, 59)])
def test_msn_leaves_out_more_of_what_a_larger_network_sees(dim: int, kept: int) -> None:
    method = pretrain_method("msn")
    method.build(FeatureInfo(dim), 100, 0, STEPS, IMAGES, TokenInfo(dim, 16, 14, 1))
    assert method.kept == kept


@pytest.mark.parametrize("count", [1, 2, 5, 9, 16])
def test_blocks_hide_as_many_parts_as_asked_for(count: int) -> None:
    for seed in range(20):
        assert hide_blocks(count, GRID, np.random.default_rng(seed)).sum() == count


def test_hidden_parts_touch_each_other_more_than_parts_drawn_singly() -> None:
    def edges(hidden: np.ndarray) -> float:
        square = hidden.reshape(14, 14)
        return float((square[1:] & square[:-1]).sum() + (square[:, 1:] & square[:, :-1]).sum())

    drawn = np.random.default_rng(0)
    blocks = [edges(hide_blocks(60, 14, drawn)) for _ in range(20)]
    singly = [edges(drawn.permutation(196) < 60) for _ in range(20)]
    assert min(blocks) > max(singly)


def test_half_of_the_images_are_shown_whole_and_the_others_within_the_shares() -> None:
    everyone = torch.arange(400)
    hidden = blocks_for(everyone, 0, 7, 14, (0.1, 0.5)).sum(1)
    masked = hidden[hidden > 0]
    assert 150 < len(masked) < 250
    assert int(masked.min()) >= 19
    assert int(masked.max()) <= 98
    assert float(masked.float().mean()) == pytest.approx(0.3 * 196, rel=0.1)


def test_what_is_hidden_hangs_on_image_step_and_view_alone() -> None:
    """So that processes that share a batch hide what one alone would."""
    index = torch.tensor([3, 8, 1, 9, 4, 7, 2, 5])
    together = blocks_for(index, 0, 5, 8, (0.1, 0.5))
    assert torch.equal(torch.cat([blocks_for(index[i::2], 0, 5, 8, (0.1, 0.5)) for i in (0, 1)]), together[[*range(0, 8, 2), *range(1, 8, 2)]])  # fmt: skip
    assert not torch.equal(blocks_for(index, 1, 5, 8, (0.1, 0.5)), together)
    assert not torch.equal(blocks_for(index, 0, 6, 8, (0.1, 0.5)), together)
    kept = kept_for(index, 5, 64, 40)
    assert torch.equal(kept_for(index[2:4], 5, 64, 40), kept[2:4])
    assert all(len(set(rows)) == 40 for rows in kept.tolist())


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_tokens_are_pooled_as_the_network_pools_them(pool: str) -> None:
    network = from_backbone(create_backbone("test_vit", size=32), torch.nn.Identity(), 32).eval()
    network.module.global_pool = pool
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        tokens = encode_tokens(network, images)
        torch.testing.assert_close(pool_tokens(network, tokens), network.features(images))
