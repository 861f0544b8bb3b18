from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fallow.errors import ConfigError
from fallow.methods import JOINT, Batch, Guide, joint_method
from fallow.methods.joint import Seen, options_of
from fallow.methods.joint.consistency import look
from fallow.methods.joint.freematch import fairness
from fallow.methods.joint.targets import alike
from fallow.methods.joint.uda import released_share
from fallow.tasks import Classification, FeatureInfo, Posteriors, View
from tests.contracts.test_joint_method import OneProcess, batch_for
from tests.contracts.toys import ToyBoxes, ToyMultiLabel, ToyPixels
from tests.methods.joint.play import CLASSES, POOL, STEPS, TASK, Loop, batches, network, play_on

THREE = Classification(("a", "b", "c"))


def seen(probs: Tensor, index: list[int] | None = None, trust: Tensor | None = None) -> Seen:
    """What a method is handed when the teacher says ``probs`` of the pool."""
    n = len(probs)
    trust = torch.ones(n) if trust is None else trust
    batch = Batch(torch.tensor(index or range(n)), unlabeled_views=(None, None))  # type: ignore[arg-type]
    said = Posteriors("categorical", probs, torch.arange(n))
    return Seen(batch, None, torch.zeros(n, probs.shape[1]), torch.zeros(1), said, trust)


def sure_of(classes: list[int], confidence: float = 0.97) -> Tensor:
    probs = torch.full((len(classes), 3), (1 - confidence) / 2)
    probs[torch.arange(len(classes)), classes] = confidence
    return probs


def ladder_of_confidence(n: int = 50) -> Tensor:
    top = torch.linspace(0.34, 0.999, n)
    return torch.stack([top, (1 - top) * 0.6, (1 - top) * 0.4], 1)


def one_process() -> OneProcess:
    return OneProcess(torch.nn.Identity(), torch.nn.Identity())


@pytest.mark.parametrize("name", ["fixmatch", "uda", "softmatch", "freematch", "flexmatch"])
def test_who_is_surer_never_counts_less(name: str) -> None:
    method = joint_method(name, THREE, **({"align": False} if name == "softmatch" else {}))
    method.build(FeatureInfo(3), 50, 3, 10)
    for _ in range(5):
        weight = method.teach(seen(ladder_of_confidence()), one_process()).weight.float()
        assert (weight.diff() >= 0).all()
    assert weight[-1] > 0


def test_uda_releases_labels_from_chance_to_all() -> None:
    assert released_share("exp", 0.5) < released_share("linear", 0.5) < released_share("log", 0.5)
    for release in ("log", "linear", "exp"):
        rising = [released_share(release, t / 10) for t in range(11)]
        assert rising == sorted(rising)
        assert rising[-1] == pytest.approx(1, abs=0.01)
    assert released_share("none", 0) == 1


def test_flexmatch_asks_less_of_classes_that_are_learned_less() -> None:
    method = joint_method("flexmatch", THREE)
    method.build(FeatureInfo(3), 10, 3, 10)
    assert method.thresholds(seen(sure_of([0])).teacher).tolist() == [[0, 0, 0]]
    method.teach(seen(sure_of([0] * 6 + [1] * 3)), one_process())
    # Six, three and none of ten; one has none yet. beta = 1, 1/2, 0 and M(1/2) = 1/3.
    found = method.thresholds(seen(sure_of([0])).teacher)[0]
    assert found.tolist() == pytest.approx([0.95, 0.95 / 3, 0])


def test_flexmatch_starts_low_while_most_images_have_no_label_yet() -> None:
    probs = sure_of([0] * 2)
    warm, cold = (joint_method("flexmatch", THREE, warm_up=warm_up) for warm_up in (True, False))
    for method in (warm, cold):
        method.build(FeatureInfo(3), 10, 3, 10)
        method.teach(seen(probs), one_process())
    beta = 2 / 8
    assert float(warm.thresholds(seen(probs).teacher)[0, 0]) == pytest.approx(0.95 * beta / (2 - beta))
    assert float(cold.thresholds(seen(probs).teacher)[0, 0]) == pytest.approx(0.95)


def test_flexmatch_remembers_an_image_until_it_is_confidently_another() -> None:
    method = joint_method("flexmatch", THREE)
    method.build(FeatureInfo(3), 4, 3, 10)
    for classes, confidence in (([0], 0.97), ([1], 0.6), ([2], 0.97)):
        method.teach(seen(sure_of(classes, confidence), index=[3]), one_process())
        said = method.learned[3].tolist()
        assert said == ([1, 0, 0] if classes != [2] else [0, 0, 1])
    method.teach(seen(sure_of([0]), index=[1], trust=torch.zeros(1)), one_process())
    assert method.learned[1].tolist() == [0, 0, 0]


def test_flexmatch_remembers_shares_of_pixels_and_yes_and_no_of_labels() -> None:
    torch.manual_seed(0)
    for toy in (ToyPixels, ToyBoxes, ToyMultiLabel):
        task = toy(("a", "b", "c"))
        net = torch.nn.ModuleList([torch.nn.Flatten(), task.head(FeatureInfo(16))])
        with torch.no_grad():
            for weight in net.parameters():
                weight.mul_(20)
        method = joint_method("flexmatch", task)
        method.build(FeatureInfo(16), 4, 3, 10)
        ctx, batch = OneProcess(*net), batch_for(task)
        said = look(task, batch, ctx).teacher
        method.step(batch, ctx)
        sure = said.score > 0.95
        for image in range(4):
            mine = said.image_index == image
            if toy is ToyMultiLabel:
                expected = torch.where(sure[mine][0], torch.where(said.probs[mine][0] > 0.5, 1.0, -1.0), 0.0)
            else:
                classes = said.probs[mine & sure].argmax(1)
                expected = torch.bincount(classes, minlength=3) / mine.sum()
            torch.testing.assert_close(method.learned[image].float(), expected, atol=1e-3, rtol=0)
        assert method.learned.abs().sum() > 0


def test_freematch_thresholds_rise_with_confidence_and_are_highest_for_the_commonest_class() -> None:
    method = joint_method("freematch", THREE, momentum=0.5, fairness_weight=0)
    found = [method.teach(seen(sure_of([0, 0, 1])), one_process()).threshold for _ in range(20)]
    assert all(later[0] >= earlier[0] for earlier, later in pairwise(found))
    assert found[-1][0] > found[-1][1] > found[-1][2]
    assert float(found[-1][0]) == pytest.approx(0.97, abs=1e-3)
    limited = joint_method("freematch", THREE, momentum=0.5, fairness_weight=0, lowest=0.9, highest=0.95)
    bounded = limited.teach(seen(sure_of([0, 0, 1])), one_process()).threshold
    assert ((bounded >= 0.9) & (bounded <= 0.95)).all()


def test_softmatch_gives_rare_classes_more_weight_once_aligned() -> None:
    common, rare = [0] * 9, [1]
    aligned, plain = (joint_method("softmatch", THREE, momentum=0.5, align=on) for on in (True, False))
    probs = sure_of(common + rare, 0.7)
    for _ in range(30):
        lessons = [m.teach(seen(probs), one_process()) for m in (aligned, plain)]
    weight, even = (lesson.weight for lesson in lessons)
    assert weight[-1] > weight[0]
    assert float(even[-1]) == pytest.approx(float(even[0]))
    assert lessons[0].target.probs.argmax(1).tolist() == common + rare


def test_alignment_to_given_shares_moves_targets_only_where_predictions_are_off() -> None:
    mix = torch.tensor([0.5, 0.3, 0.2])
    method = joint_method("adamatch", THREE, mix=mix, momentum=0.5)
    method.of_labeled = lambda *_: seen(sure_of([0])).teacher  # type: ignore[method-assign]
    right, wrong = mix.expand(8, 3), torch.tensor([0.2, 0.3, 0.5]).expand(8, 3)
    for _ in range(20):
        torch.testing.assert_close(method.teach(seen(right), one_process()).target.probs, right)
    for _ in range(20):
        target = method.teach(seen(wrong), one_process()).target.probs
    torch.testing.assert_close(target[0], mix, atol=1e-3, rtol=0)


def test_adamatch_asks_for_a_share_of_the_confidence_on_labeled_images() -> None:
    method = joint_method("adamatch", THREE)
    method.of_labeled = lambda *_: seen(sure_of([0, 1, 2], 0.8)).teacher  # type: ignore[method-assign]
    lesson = method.teach(seen(sure_of([0, 1, 2, 0, 1, 2], 0.9)), one_process())
    assert float(lesson.threshold) == pytest.approx(0.9 * 0.8)


def test_ramps_go_from_nothing_to_all() -> None:
    loop = Loop(network(), total_steps=100)
    ada, mean = joint_method("adamatch", TASK), joint_method("mean_teacher", TASK)
    found = {}
    for loop.step in (0, 25, 50, 99):
        found[loop.step] = (ada.ramp(loop), mean.ramp(loop))
    assert found[0] == pytest.approx((0, math.exp(-5)))
    assert found[25] == pytest.approx((0.5, 1))
    assert found[50] == found[99] == pytest.approx((1, 1))


def test_an_image_of_half_trust_counts_half() -> None:
    batch = next(batches())
    halved = replace(batch, weights=torch.full((len(batch.index),), 0.5))
    losses = []
    for each in (batch, halved):
        method, loop = joint_method("fixmatch", TASK, threshold=0.5), Loop(network())
        losses.append(float(method.step(each, loop).logs["unsupervised_loss"]))
    assert losses[0] > 0
    assert losses[1] == pytest.approx(losses[0] / 2)


@pytest.mark.parametrize("name", JOINT)
def test_an_image_counts_only_where_the_guide_decides_as_the_teacher_does(name: str) -> None:
    batch, loop = next(batches(weights=True)), Loop(network())
    own = torch.softmax(loop.teacher(batch.unlabeled[0])[0], 1).argmax(1)
    table = torch.rand(POOL, CLASSES, generator=torch.Generator().manual_seed(5))
    said = table[batch.index].argmax(1)
    assert 0 < int((own == said).sum()) < len(own)

    def step(guide: Guide | None, weights: Tensor) -> tuple[float, float]:
        method = joint_method(name, TASK, guide=guide)
        method.build(FeatureInfo(12), POOL, CLASSES, STEPS)
        made = method.step(replace(batch, weights=weights), loop)
        return made.loss.item(), float(made.health["utilization"])

    def guide(index: Tensor) -> Posteriors:
        return Posteriors("categorical", table[index], torch.arange(len(index)))

    everything = torch.ones(len(own))
    assert step(guide, everything) == step(None, (own == said).float())
    assert step(guide, everything) != step(None, everything)


def test_a_guide_is_asked_about_each_label_of_its_own_where_labels_are_independent() -> None:
    said = [
        Posteriors("bernoulli", torch.tensor(rows), torch.arange(2))
        for rows in ([[0.9, 0.1], [0.6, 0.6]], [[0.6, 0.7], [0.2, 0.9]])
    ]
    assert alike(*said).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_fairness_loss_of_a_batch_where_nobody_is_sure_is_nothing() -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    strong = THREE.posteriors(logits, View(strong=True))
    loss = fairness(strong, torch.zeros(5), torch.full((1, 3), 1 / 3), one_process())
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_pixels_that_left_the_picture_teach_nothing() -> None:
    torch.manual_seed(0)
    task = ToyPixels(("a", "b", "c"))
    net = torch.nn.ModuleList([torch.nn.Flatten(), task.head(FeatureInfo(16))])
    half_out = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).repeat(4, 1, 1)
    batch = replace(batch_for(task), unlabeled_views=(View(), View(half_out, strong=True)))
    step = joint_method("mean_teacher", task).step(batch, OneProcess(*net))
    assert step.health["utilization"].item() == pytest.approx(0.5)
    assert step.health["pseudo_classes"].sum() == 4 * 16 / 2


@pytest.mark.parametrize("name", [*JOINT, "freematch+abc", "flexmatch+abc"])
def test_a_method_that_is_saved_and_loaded_goes_on_as_if_nothing_had_been(name: str) -> None:
    def make() -> object:
        torch.manual_seed(1)
        method = joint_method(name, TASK, mix=torch.tensor([0.4, 0.3, 0.2, 0.1]))
        method.build(FeatureInfo(12), POOL, CLASSES, STEPS)
        return method

    todo, half = list(batches()), STEPS // 2
    method, loop = make(), Loop(network())
    list(play_on(method, loop, todo[:half]))
    saved = {key: value.clone() for key, value in method.state_dict().items()}
    weights = [{k: v.clone() for k, v in m.state_dict().items()} for m in (loop.student, loop.teaching)]
    whole = [made.loss.item() for *_, made in play_on(method, loop, todo[half:], half)]

    resumed, again = make(), Loop(network(7))
    resumed.load_state_dict(saved)
    for module, state in zip((again.student, again.teaching), weights, strict=True):
        module.load_state_dict(state)
    assert [made.loss.item() for *_, made in play_on(resumed, again, todo[half:], half)] == whole


class NoWaiting(TorchDispatchMode):
    """Refuses what makes a GPU wait: reading a value, selecting by a mask, moving a number of Python's to the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.name().partition("::")[2].partition(".")[0]
        assert name not in {"_local_scalar_dense", "item", "nonzero", "masked_select", "lift_fresh"}, name
        if name in {"index", "index_put", "index_put_"}:
            assert all(i is None or i.dtype is not torch.bool for i in args[1]), "selected by a mask"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [*JOINT, "softmatch+abc"])
def test_no_step_makes_the_device_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a CPU one_hot looks at the largest index first; on a GPU it does not.
    monkeypatch.setattr(functional, "one_hot", lambda index, n: torch.eye(n, dtype=torch.long)[index])
    method = joint_method(name, TASK, mix=torch.tensor([0.4, 0.3, 0.2, 0.1]))
    method.build(FeatureInfo(12), POOL, CLASSES, STEPS)
    loop, (first, second) = Loop(network()), list(batches(steps=2, weights=True))
    for batch in (first, second):
        with NoWaiting():
            method.step(batch, loop).loss.backward()


def test_a_wrong_name_or_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'softmatch'"):
        joint_method("softmach", TASK)
    with pytest.raises(ConfigError, match=r"Did you mean 'fixmatch\+abc'"):
        joint_method("fixmatch+abcd", TASK)
    with pytest.raises(ConfigError, match="Did you mean 'threshold'"):
        joint_method("fixmatch", TASK, treshold=0.9)
    with pytest.raises(ConfigError, match="not an option of fixmatch"):
        joint_method("fixmatch", TASK, balanced_weight=0.5)


@pytest.mark.parametrize("name", JOINT)
def test_options_reach_the_method_and_its_second_head(name: str) -> None:
    given = {"follows": "self", "unlabeled_weight": 0.25, "momentum": 0.8}
    assert given.keys() <= options_of(JOINT[name])
    method = joint_method(f"{name}+abc", TASK, balanced_weight=0.5, **given)
    assert method.follows == "self"
    assert method.inner.unlabeled_weight == 0.25
    assert method.inner.momentum == method.inner.alignment.predicted.momentum == 0.8
    assert method.balanced_weight == 0.5
