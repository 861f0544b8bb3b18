"""The same vectors give the same loss and gradient as LightlySSL's, where it has the method."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.pretrain.play import Play, assert_equal_with_gradient, bare, vectors

losses: Any = pytest.importorskip("lightly.loss")


def test_nt_xent() -> None:
    theirs = losses.NTXentLoss(temperature=0.5)
    assert_equal_with_gradient(bare("simclr"), lambda v: theirs(v[0], v[1]), vectors(2))


def test_barlow_twins() -> None:
    theirs = losses.BarlowTwinsLoss()
    assert_equal_with_gradient(bare("barlow_twins"), lambda v: theirs(v[0], v[1]), vectors(2))


def test_vicreg_with_the_papers_weight_of_variances_where_lightly_has_half_of_it() -> None:
    theirs = losses.VICRegLoss(mu_param=50.0)
    views = [(0.3 * v).detach().requires_grad_() for v in vectors(2)]
    assert_equal_with_gradient(bare("vicreg"), lambda v: theirs(v[0], v[1]), views)


def test_simsiam() -> None:
    method, theirs = bare("simsiam", out=6), losses.NegativeCosineSimilarity()
    method.predictor = torch.nn.Linear(6, 6)

    def reference(v: list[Tensor]) -> Tensor:
        p = [method.predictor(x) for x in v]
        return (theirs(p[0], v[1].detach()) + theirs(p[1], v[0].detach())) / 2

    assert_equal_with_gradient(method, reference, vectors(2))


def test_swav() -> None:
    method, theirs = (
        bare("swav", out=6, prototypes=4, epsilon=0.05, local_crops=2, queue=0),
        losses.SwaVLoss(),
    )
    directions = method.prototypes.weight.detach()

    def reference(v: list[Tensor]) -> Tensor:
        scores = [torch.nn.functional.normalize(x, dim=1) @ directions.T for x in v]
        return theirs(scores[:2], scores[2:])[0]

    assert_equal_with_gradient(method, reference, vectors(4))


def test_dino() -> None:
    method = bare("dino", centering="mean", prototypes=6, local_crops=2)
    play, theirs = Play(method), losses.DINOLoss(output_dim=6)
    for step in range(2):
        assert_equal_with_gradient(
            method,
            lambda v: theirs([(x @ play.twist).detach() for x in v[:2]], list(v), teacher_temp=0.04),
            vectors(4, seed=step),
            play=play,
        )
