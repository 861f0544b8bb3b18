from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fallow.methods import joint_method
from fallow.methods.joint.balanced import Balanced, balanced_rates, drawn
from fallow.methods.joint.targets import of_decision
from fallow.tasks import FeatureInfo, Posteriors
from tests.methods.joint.play import CLASSES, POOL, STEPS, TASK, Loop, batches, network, play_on


def balanced(name: str = "fixmatch+abc", **options: float) -> Balanced:
    method = joint_method(name, TASK, **options)
    assert isinstance(method, Balanced)
    torch.manual_seed(3)
    method.build(FeatureInfo(12), POOL, CLASSES, STEPS)
    with torch.no_grad():
        method.head.weight.mul_(8)
    return method


def paper(
    head: torch.nn.Module, loop: Loop, seen: list[int], batch: object, step: int
) -> tuple[Tensor, Tensor]:
    """Lee et al. 2021, eq. 1 to 5, with counts of the labels seen so far; draws in the order of the paper."""
    backbone = loop.student[0]
    counts = [seen.count(c) for c in range(CLASSES)]
    least = min(c for c in counts if c > 0)
    rate = [least / c if c else 1.0 for c in counts]
    draw = torch.rand(len(batch.targets))
    logits = head(backbone(batch.labeled[0]))
    known = sum(
        functional.cross_entropy(z, y) * float(draw[i] < rate[int(y)])
        for i, (z, y) in enumerate(zip(logits, batch.targets, strict=True))
    ) / len(logits)
    q = torch.softmax(head(backbone(batch.unlabeled[0])), 1).detach()
    draw = torch.rand(len(q))
    falling = [1 - step / STEPS * (1 - r) for r in rate]
    strong = torch.log_softmax(head(backbone(batch.unlabeled[1])), 1)
    pool = 0 * strong.sum()
    for i, row in enumerate(q):
        if row.max() >= 0.7 and draw[i] < falling[int(row.argmax())]:
            pool = pool - (row * strong[i]).sum()
    return known, pool / len(q)


@pytest.mark.parametrize("inner", ["fixmatch", "softmatch"])
def test_loss_and_gradient_are_the_inner_methods_and_the_papers_for_the_second_head(inner: str) -> None:
    method, loop = balanced(f"{inner}+abc", balanced_threshold=0.7), Loop(network())
    beside = joint_method(inner, TASK)
    seen: list[int] = []
    for _, batch, made in play_on(method, loop, list(batches())):
        seen += batch.targets.tolist()
        torch.manual_seed(loop.step)
        expected = sum(paper(method.head, loop, seen, batch, loop.step))
        expected = expected + beside.step(batch, loop).loss
        torch.testing.assert_close(made.loss, expected, rtol=1e-4, atol=1e-5)
        weights = [*loop.student.parameters(), *method.head.parameters()]
        for weight, gradient in zip(weights, torch.autograd.grad(expected, weights), strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-5)
        assert 0 < made.health["balanced_utilization"] <= 1 or loop.step


def test_classes_are_drawn_equally_often() -> None:
    counts = torch.tensor([[300.0, 100.0, 10.0, 0.0]])
    rates = balanced_rates(counts)
    torch.testing.assert_close(rates, torch.tensor([[10 / 300, 10 / 100, 1.0, 1.0]]))
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([30_000, 10_000, 1_000]))
    known = Posteriors("categorical", functional.one_hot(labels, 4).float(), torch.arange(len(labels)))
    torch.manual_seed(0)
    kept = torch.bincount(labels[drawn(of_decision(rates, known)).bool()], minlength=4)
    assert kept[3] == 0
    assert all(900 <= int(n) <= 1_100 for n in kept[:3])


def test_yes_and_no_of_each_label_are_drawn_equally_often() -> None:
    rates = balanced_rates(torch.tensor([[90.0, 10.0], [50.0, 50.0]]))
    torch.testing.assert_close(rates, torch.tensor([[1 / 9, 1.0], [1.0, 1.0]]))
    said = Posteriors("bernoulli", torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.arange(2))
    torch.testing.assert_close(of_decision(rates, said), torch.tensor([[1 / 9, 1.0], [1.0, 1.0]]))


def test_at_the_start_every_class_of_the_pool_counts_and_at_the_end_as_the_labels_say() -> None:
    torch.manual_seed(0)
    method, loop = balanced(balanced_threshold=0.0), Loop(network())
    batch = next(batches())
    # Ninety labels of one class and ten of another; what the pool is taken for is of the first.
    targets = torch.tensor([0] * 90 + [1] * 10)
    batch = replace(batch, targets=targets, labeled=(torch.randn(100, 8),))
    with torch.no_grad():
        method.head.bias.copy_(torch.tensor([1000.0, 0, 0, 0]))
    used = []
    for loop.step in (0, STEPS):
        method.counts.zero_()
        used.append(
            sum(float(method.step(batch, loop).health["balanced_utilization"]) for _ in range(100)) / 100
        )
    assert used[0] == 1
    assert used[1] == pytest.approx(1 / 9, abs=0.03)


def test_an_image_of_no_class_does_not_train_the_second_head() -> None:
    method, loop = balanced(balanced_threshold=0.0), Loop(network())
    batch = next(batches())
    assert method.step(batch, loop).health["balanced_utilization"] == 1
    foreign = replace(batch, weights=torch.zeros(len(batch.index)))
    assert method.step(foreign, loop).health["balanced_utilization"] == 0


def test_the_student_sees_labeled_and_strong_images_in_one_pass_and_weak_ones_in_another() -> None:
    method, loop = balanced(), Loop(network())
    method.step(next(batches()), loop)
    assert loop.passes == 2


def test_the_second_head_predicts() -> None:
    method = balanced()
    assert method.prediction_head() is method.head
    assert joint_method("fixmatch", TASK).prediction_head() is None
