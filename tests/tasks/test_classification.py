from __future__ import annotations

import math

import pytest
import torch

from fallow.tasks import Binary, Classification, FeatureInfo, Posteriors, View, classification_task


def test_losses_and_divergences_are_per_image_and_follow_their_formulas() -> None:
    task = Classification(("a", "b", "c"))
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 0.0]], requires_grad=True)
    q = torch.softmax(logits, 1).detach()
    assert task.losses(logits, torch.tensor([0, 2])).tolist() == pytest.approx(
        [-math.log(q[0, 0]), math.log(3)]
    )
    p = torch.tensor([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0]])
    target = Posteriors("categorical", p, torch.arange(2))
    ce = [-sum(float(a) * math.log(float(b)) for a, b in zip(p[i], q[i], strict=True)) for i in range(2)]
    entropy = [-sum(float(a) * math.log(float(a)) for a in p[i] if a > 0) for i in range(2)]
    assert task.divergence(logits, target, "ce").tolist() == pytest.approx(ce, rel=1e-5)
    assert task.divergence(logits, target, "kl").tolist() == pytest.approx(
        [c - e for c, e in zip(ce, entropy, strict=True)], rel=1e-4
    )
    assert task.divergence(logits, target, "mse").tolist() == pytest.approx(
        ((q - p) ** 2).mean(1).tolist(), rel=1e-5
    )
    task.divergence(logits, target, "kl").sum().backward()
    assert torch.allclose(logits.grad, q - p, atol=1e-6)  # the gradient of cross-entropy in the logits


def test_head_posteriors_and_metrics() -> None:
    task = classification_task(("a", "b", "c"))
    assert task.name == "classification"
    assert task.head(FeatureInfo(8))(torch.zeros(4, 8)).shape == (4, 3)
    found = task.posteriors(torch.zeros(4, 3), View())
    assert found.probs.sum(1).tolist() == pytest.approx([1.0] * 4)
    metrics = task.metrics()
    values = metrics(torch.eye(3)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 2]))
    assert next(iter(metrics)) == "accuracy"
    assert float(values["accuracy"]) == pytest.approx(0.75)
    assert float(values["balanced_accuracy"]) == pytest.approx(2 / 3)


def test_two_classes_are_binary() -> None:
    assert isinstance(classification_task(("no", "yes")), Binary)
    with pytest.raises(ValueError, match="two classes"):
        Binary(("a", "b", "c"))
