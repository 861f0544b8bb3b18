"""Distillation against its papers: soft labels of two views, labels, and features on request."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fallow.methods import Distillation
from fallow.tasks import FeatureInfo, Posteriors
from tests.methods.joint.play import CLASSES, POOL, TASK, Loop, batches, network, play_on

_DIM = 5


def _said() -> Tensor:
    return torch.softmax(torch.randn(POOL, CLASSES, generator=torch.Generator().manual_seed(7)), 1)


def _lesson(said: Tensor, features: Tensor | None = None, **options: float) -> Distillation:
    def say(index: Tensor) -> Posteriors:
        return Posteriors("categorical", said[index], torch.arange(len(index)))

    look = None if features is None else (lambda index: features[index])
    torch.manual_seed(1)
    made = Distillation(TASK, teacher=say, features=look, feature_dim=_DIM, **options)
    made.build(FeatureInfo(12), POOL, CLASSES, 12)
    return made


def _reference(said: Tensor, batch: object, student: nn.Sequential, label_weight: float) -> Tensor:
    labels = functional.cross_entropy(student(batch.labeled[0]), batch.targets)  # type: ignore[attr-defined]
    soft = [
        -(said[batch.index] * torch.log_softmax(student(view), 1)).sum(1).mean()  # type: ignore[attr-defined]
        for view in batch.unlabeled  # type: ignore[attr-defined]
    ]
    return label_weight * labels + sum(soft) / 2


def test_the_loss_is_the_cross_entropy_to_soft_labels_and_labels_in_value_and_gradient() -> None:
    said, todo = _said(), list(batches())
    ours, theirs = network(), network()
    for _, batch, made in play_on(_lesson(said), Loop(ours), todo):
        theirs.load_state_dict(ours.state_dict())
        for weight in theirs.parameters():
            weight.grad = None
        expected = _reference(said, batch, theirs, 0.5)
        expected.backward()
        torch.testing.assert_close(made.loss, expected)
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad)


def test_images_that_are_not_trusted_teach_nothing() -> None:
    said = _said()
    (batch,) = batches(steps=1, weights=True)
    none = Loop(network())
    zero = type(batch)(**{**vars(batch), "weights": torch.zeros_like(batch.weights)})
    loss = _lesson(said).step(zero, none).loss
    torch.testing.assert_close(
        loss, 0.5 * functional.cross_entropy(none.student(batch.labeled[0]), batch.targets)
    )


def test_features_are_matched_up_to_a_linear_map() -> None:
    student = network()
    (batch,) = batches(steps=1)
    loop = Loop(student)
    weak = student[0](batch.unlabeled[0]).detach()
    features = torch.zeros(POOL, _DIM)
    lesson = _lesson(_said(), features)
    assert lesson.projector is not None
    features[batch.index] = 3 * lesson.projector(weak).detach()  # the angle counts, not the length
    made = lesson.step(batch, loop)
    assert abs(float(made.logs["feature_loss"])) < 1e-6
    features.neg_()
    torch.testing.assert_close(lesson.step(batch, loop).logs["feature_loss"], torch.tensor(2.0))


def test_a_student_comes_to_say_what_its_teacher_says() -> None:
    student, teacher = network(0), network(5)
    todo = list(batches(steps=300))
    with torch.no_grad():
        pool = torch.zeros(POOL, todo[0].labeled[0].shape[1])
        for batch in todo:
            pool[batch.index] = batch.unlabeled[0]
        said = torch.softmax(teacher(pool), 1)
    before = float((student(pool).argmax(1) == said.argmax(1)).float().mean())
    for _ in play_on(_lesson(said, label_weight=0.0), Loop(student), todo):
        pass
    after = float((student(pool).argmax(1) == said.argmax(1)).float().mean())
    assert after > max(before, 0.8)
