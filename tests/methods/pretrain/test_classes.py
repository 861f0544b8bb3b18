"""Methods that learn from labels, beside references written from their papers in loops over pairs and triplets."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fallow.engine import Loop
from fallow.errors import ConfigError
from fallow.methods import Batch, pretrain_method
from fallow.tasks import FeatureInfo
from tests.methods.pretrain.digits import make_loop, settings
from tests.methods.pretrain.play import Play, bare, vectors

LABELS = [0, 0, 1, 1]
POOL = [5, 0, 8]
CLASSES = [*LABELS, *LABELS, *[2 + i for i in POOL] * 2]
"""Of two views of four labeled images and two views of three that are classes of their own."""


def pairs() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return ordered pairs of one class and of two."""
    every = [(i, j) for i in range(len(CLASSES)) for j in range(len(CLASSES)) if i != j]
    same = [(i, j) for i, j in every if CLASSES[i] == CLASSES[j]]
    return same, [pair for pair in every if pair not in same]


def mean_of_what_loses(terms: list[Tensor]) -> Tensor:
    lost = [term for term in terms if float(term.detach()) > 0]
    return torch.stack(lost).mean()


def triplets(d: Tensor) -> list[tuple[int, int, int]]:
    """Return each view, the farthest of its class, and the nearest of another class that is farther still, where there is one."""
    (same, apart), d = pairs(), d.detach()
    found = []
    for i in range(len(CLASSES)):
        p = max((k for a, k in same if a == i), key=lambda k: float(d[i, k]))
        farther = [k for a, k in apart if a == i and d[i, k] > d[i, p]]
        found += [(i, p, min(farther, key=lambda k: float(d[i, k])))] if farther else []
    return found


def triplet(d: Tensor, margin: float = 0.2) -> Tensor:
    """FaceNet, eq. 2, on squared distances."""
    terms = [torch.relu(d[a, p] ** 2 - d[a, n] ** 2 + margin) for a, p, n in triplets(d)]
    return mean_of_what_loses(terms)


def pn(d: Tensor) -> Tensor:
    """PN-Net: the nearer of both ends to what is of another class."""
    terms = [torch.relu(d[a, p] - torch.minimum(d[a, n], d[p, n]) + 1) for a, p, n in triplets(d)]
    return mean_of_what_loses(terms)


def multi_similarity(d: Tensor) -> Tensor:
    """Wang et al., eq. 12, 13 and 15."""
    s, (same, apart) = 1 - d**2 / 2, pairs()
    total = s.new_zeros(())
    for i in range(len(CLASSES)):
        own, others = [k for a, k in same if a == i], [k for a, k in apart if a == i]
        hard = [k for k in others if s[i, k] > min(s[i, j] for j in own) - 0.1]
        far = [k for k in own if s[i, k] < max(s[i, j] for j in others) + 0.1]
        for rows, sharpness, sign in ((far, 2.0, -1), (hard, 50.0, 1)):
            weighed = [torch.exp(sign * sharpness * (s[i, k] - 1)) for k in rows]
            total = total + torch.log(1 + sum(weighed)) / sharpness if rows else total
    return total / len(CLASSES)


def circle(d: Tensor) -> Tensor:
    """Sun et al., eq. 6 with O_p = 1 + m, O_n = -m and margins 1 - m and m."""
    s, (same, apart) = 1 - d**2 / 2, pairs()
    m, gamma, total = 0.4, 80.0, d.new_zeros(())
    for i in range(len(CLASSES)):
        pull = [
            -gamma * torch.relu(1 + m - s[i, k].detach()) * (s[i, k] - (1 - m)) for a, k in same if a == i
        ]
        push = [gamma * torch.relu(s[i, k].detach() + m) * (s[i, k] - m) for a, k in apart if a == i]
        both = torch.stack([p + q for p in pull for q in push])
        total = total + torch.log1p(torch.exp(both.double()).sum()).float()
    return total / len(CLASSES)


def soft_nn(d: Tensor) -> Tensor:
    """Frosst et al., eq. 1."""
    same, _ = pairs()
    total = d.new_zeros(())
    for i in range(len(CLASSES)):
        own = sum(torch.exp(-(d[i, k] ** 2) / 0.2) for a, k in same if a == i)
        every = sum(torch.exp(-(d[i, k] ** 2) / 0.2) for k in range(len(CLASSES)) if k != i)
        total = total - torch.log(own / every)
    return total / len(CLASSES)


def lifted(d: Tensor) -> Tensor:
    """Oh Song et al., eq. 4, over unordered pairs."""
    same, apart = pairs()
    once = [(i, j) for i, j in same if i < j]
    total = d.new_zeros(())
    for i, j in once:
        near = sum(torch.exp(1 - d[a, k]) for a, k in apart if a in (i, j))
        total = total + torch.relu(torch.log(near) + d[i, j]) ** 2
    return total / (2 * len(once))


REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "triplet": triplet,
    "pn": pn,
    "multi_similarity": multi_similarity,
    "circle": circle,
    "soft_nn": soft_nn,
    "lifted": lifted,
}


def batch() -> tuple[list[Tensor], Batch]:
    views = [*vectors(2, n=4, seed=1), *vectors(2, n=3, seed=2)]
    return views, Batch(torch.tensor(POOL), tuple(views[:2]), tuple(views[2:]), torch.tensor(LABELS))


def distances(z: Tensor) -> Tensor:
    """Return distances of unit vectors, (n, n), whose diagonal no reference reads."""
    unit = z / z.norm(dim=1, keepdim=True)
    return torch.stack(
        [torch.stack([(a - b).square().sum().clamp_min(1e-12).sqrt() for b in unit]) for a in unit]
    )


@pytest.mark.parametrize("name", REFERENCES)
def test_a_metric_loss_is_its_papers(name: str) -> None:
    method, (views, shown) = bare(name), batch()
    loss = method.step(shown, Play(method)).loss
    expected = REFERENCES[name](distances(torch.cat(views)))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    wanted = torch.autograd.grad(expected, views)
    assert sum(float(w.abs().sum()) for w in wanted) > 1e-3
    for mine, theirs in zip(torch.autograd.grad(loss, views), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_lifted_is_the_librarys_too() -> None:
    losses: Any = pytest.importorskip("pytorch_metric_learning.losses")
    method, (views, shown) = bare("lifted"), batch()
    theirs = losses.LiftedStructureLoss(neg_margin=1, pos_margin=0)(torch.cat(views), torch.tensor(CLASSES))
    torch.testing.assert_close(method.step(shown, Play(method)).loss, theirs)


@pytest.mark.parametrize(("name", "chance"), [("supcon", math.log(13)), ("soft_nn", None)])
def test_the_loss_of_equal_embeddings_is_at_chance(name: str, chance: float | None) -> None:
    method = bare(name)
    alike = tuple(torch.ones(n, 6) for n in (4, 4, 3, 3))
    made = method.step(Batch(torch.tensor(POOL), alike[:2], alike[2:], torch.tensor(LABELS)), Play(method))
    expected = chance or (8 * math.log(13 / 3) + 6 * math.log(13)) / 14
    assert float(made.health["chance_loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(made.loss) == pytest.approx(expected, rel=1e-5)


def gap(loop: Loop) -> float:
    """Return by how much cosines within a class are above those between classes, of labeled digits."""
    shown = loop.feed.batch(99)
    units = loop.trainee.method.step(shown, loop.ctx).health["embeddings"][: len(shown.targets)]
    cosines, same = units @ units.T, shown.targets[:, None] == shown.targets
    other = ~torch.eye(len(units), dtype=torch.bool)
    return float(cosines[same & other].mean() - cosines[~same].mean())


@pytest.mark.parametrize("name", [*REFERENCES, "supcon"])
def test_labels_draw_a_class_together(name: str) -> None:
    loop = make_loop(name, settings(steps=25, unlabeled_batch=40, lr=5e-3), count=80, changes={})
    before = gap(loop)
    for step in range(25):
        loop._step(step)
    assert gap(loop) > before + 0.1


@pytest.mark.parametrize("name", ["supcon", "triplet"])
def test_without_labels_of_two_classes_it_is_said_what_to_do(name: str) -> None:
    with pytest.raises(ConfigError, match=r"two classes or more, and those it may learn from have 1.*simclr"):
        pretrain_method(name).build(FeatureInfo(8), 20, 1, 10, 8)


def test_a_missing_package_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ConfigError, match=r"pip install 'fallow\[metric\]'"):
        pretrain_method("circle").build(FeatureInfo(8), 20, 3, 10, 8)
    pretrain_method("lifted").build(FeatureInfo(8), 20, 3, 10, 8)
