"""Every pretraining loss beside a reference written from its paper, in loops over images: value and gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fallow.methods import Batch
from fallow.methods.pretrain.mae import MAE, cut_parts
from fallow.models import TokenInfo
from fallow.tasks import FeatureInfo
from tests.methods.pretrain.play import Play, assert_equal_with_gradient, bare, batch_of, vectors


def cos(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


def nt_xent(first: Tensor, second: Tensor, temperature: float, index: list[int]) -> Tensor:
    """SimCLR, eq. 1 and alg. 1; the same image is no negative of itself."""
    z, which, n = torch.cat([first, second]), index * 2, len(first)
    total = z.new_zeros(())
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [k for k in range(2 * n) if k == j or which[k] != which[i]]
        weighs = [torch.exp(cos(z[i], z[k]) / temperature) for k in others]
        total = total - torch.log(torch.exp(cos(z[i], z[j]) / temperature) / sum(weighs))
    return total / (2 * n)


@pytest.mark.parametrize("index", [[0, 1, 2, 3, 4], [0, 1, 2, 0, 4]], ids=["all different", "one twice"])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_is_nt_xent(temperature: float, index: list[int]) -> None:
    assert_equal_with_gradient(
        bare("simclr", temperature=temperature),
        lambda v: nt_xent(v[0], v[1], temperature, index),
        vectors(2),
        index=index,
    )


def test_barlow_twins_is_the_distance_of_the_cross_correlation_from_the_identity() -> None:
    def reference(views: list[Tensor]) -> Tensor:
        a, b = ((v - v.mean(0)) / (v.var(0, correction=0) + 1e-5).sqrt() for v in views)
        total = a.new_zeros(())
        for i in range(a.shape[1]):
            for j in range(a.shape[1]):
                c = (a[:, i] * b[:, j]).sum() / len(a)
                total = total + ((1 - c) ** 2 if i == j else 0.005 * c**2)
        return total

    assert_equal_with_gradient(bare("barlow_twins"), reference, vectors(2))


def test_vicreg_is_its_three_terms() -> None:
    def spread(z: Tensor) -> Tensor:
        n, d = z.shape
        total = z.new_zeros(())
        for j in range(d):
            variance = (z[:, j] - z[:, j].mean()).square().sum() / (n - 1)
            total = total + torch.relu(1 - (variance + 1e-4).sqrt())
        return total / d

    def covariance(z: Tensor) -> Tensor:
        n, d = z.shape
        c = z - z.mean(0)
        return (
            sum(((c[:, i] * c[:, j]).sum() / (n - 1)) ** 2 for i in range(d) for j in range(d) if i != j) / d
        )  # type: ignore[return-value]

    def reference(views: list[Tensor]) -> Tensor:
        a, b = views
        near = sum((a[i] - b[i]).square().sum() for i in range(len(a))) / a.numel()
        return 25 * near + 25 * (spread(a) + spread(b)) + covariance(a) + covariance(b)

    views = [(0.3 * v).detach().requires_grad_() for v in vectors(2)]  # channels on both sides of the hinge
    assert_equal_with_gradient(bare("vicreg"), reference, views)


def test_byol_is_the_distance_of_predictions_from_the_teacher() -> None:
    method = bare("byol", out=6)
    method.predictor = torch.nn.Linear(6, 6)
    play = Play(method)

    def reference(views: list[Tensor]) -> Tensor:
        total = views[0].new_zeros(())
        for one, other in ((0, 1), (1, 0)):
            for i in range(5):
                q, z = method.predictor(views[one][i]), (views[other][i] @ play.twist).detach()
                total = total + (q / q.norm() - z / z.norm()).square().sum() / 5
        return total

    assert_equal_with_gradient(method, reference, vectors(2), play=play)


def test_simsiam_is_the_negative_cosine_to_what_stands_still() -> None:
    method = bare("simsiam", out=6)
    method.predictor = torch.nn.Linear(6, 6)

    def reference(views: list[Tensor]) -> Tensor:
        total = views[0].new_zeros(())
        for one, other in ((0, 1), (1, 0)):
            for i in range(5):
                total = total - cos(method.predictor(views[one][i]), views[other][i].detach()) / 10
        return total

    assert_equal_with_gradient(method, reference, vectors(2))


def info_nce(query: Tensor, key: Tensor, others: list[Tensor], temperature: float) -> Tensor:
    """MoCo, eq. 1."""
    weighs = [torch.exp(cos(query, k) / temperature) for k in [key, *others]]
    return -torch.log(weighs[0] / sum(weighs))


def test_moco_finds_its_key_among_those_of_earlier_batches_and_not_among_its_own_images() -> None:
    method = bare("moco", out=6, queue=8)
    play = Play(method)
    past: list[tuple[int, Tensor]] = []
    for step, index in enumerate(([0, 1, 2, 3, 4], [5, 6, 2, 7, 8], [9, 3, 5, 0, 2])):
        views = vectors(2, seed=step)

        def reference(
            v: list[Tensor], index: list[int] = index, earlier: list[tuple[int, Tensor]] = past[-8:]
        ) -> Tensor:
            keys = [(k @ play.twist).detach() for k in v[1]]
            company = earlier or list(zip(index, keys, strict=True))
            total = v[0].new_zeros(())
            for i, which in enumerate(index):
                others = [k for image, k in company if image != which]
                total = total + info_nce(v[0][i], keys[i], others, 0.2) / 5
            return total

        assert_equal_with_gradient(method, reference, views, index=index, play=play)
        past += [(which, (k @ play.twist).detach()) for which, k in zip(index, views[1], strict=True)]


def test_moco_version_3_compares_both_ways_within_the_batch() -> None:
    method = bare("moco", out=6, version=3)
    method.predictor = torch.nn.Linear(6, 6)
    play = Play(method)

    def reference(views: list[Tensor]) -> Tensor:
        total = views[0].new_zeros(())
        for one, other in ((0, 1), (1, 0)):
            keys = [(k @ play.twist).detach() for k in views[other]]
            for i in range(5):
                others = [k for j, k in enumerate(keys) if j != i]
                total = total + info_nce(method.predictor(views[one][i]), keys[i], others, 0.2) / 5
        return 2 * 0.2 * total  # alg. 1: ctr() has the factor 2 tau

    assert_equal_with_gradient(method, reference, vectors(2), play=play)


def sinkhorn(scores: Tensor) -> Tensor:
    """SwAV, app. A: Q is (prototypes, images)."""
    q = torch.exp(scores / 0.05).T
    q = q / q.sum()
    k, b = q.shape
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / k
        q = q / q.sum(0, keepdim=True) / b
    return (q * b).T


@pytest.mark.parametrize("queued", [False, True])
def test_swav_predicts_the_assignment_of_the_other_view(queued: bool) -> None:
    method = bare(
        "swav", images=10, out=6, prototypes=4, epsilon=0.05, local_crops=2, queue=7 if queued else 0
    )
    play = Play(method, step=50)
    earlier = vectors(4, seed=3)
    if queued:
        method.step(batch_of(earlier), play)
    directions = method.prototypes.weight.detach().clone()

    def reference(views: list[Tensor]) -> Tensor:
        unit = [v / v.norm(dim=1, keepdim=True) for v in views]
        total = unit[0].new_zeros(())
        for large in (0, 1):
            company = [unit[large]]
            if queued:
                company.append((earlier[large] / earlier[large].norm(dim=1, keepdim=True)).detach())
            q = sinkhorn((torch.cat(company) @ directions.T).detach())[:5]
            for other in range(4):
                if other != large:
                    p = torch.softmax(unit[other] @ directions.T / 0.1, 1)
                    total = total - (q * p.log()).sum(1).mean()
        return total / 6

    assert_equal_with_gradient(method, reference, vectors(4), play=play)


def test_dino_is_the_cross_entropy_to_a_centered_and_sharpened_teacher() -> None:
    method = bare("dino", centering="mean", prototypes=6, local_crops=2)
    play, center = Play(method), torch.zeros(6)
    for step in (0, 4, 60):
        views, play.step = vectors(4, seed=step), step
        sharp = 0.04 + (0.07 - 0.04) * min(step / 10, 1)

        def reference(v: list[Tensor], sharp: float = sharp, center: Tensor = center) -> Tensor:
            total = v[0].new_zeros(())
            for large in (0, 1):
                t = torch.softmax(((v[large] @ play.twist).detach() - center) / sharp, 1)
                for other in range(4):
                    if other != large:
                        total = total - (t * torch.log_softmax(v[other] / 0.1, 1)).sum(1).mean()
            return total / 6

        assert_equal_with_gradient(method, reference, views, play=play)
        said = torch.cat([v.detach() @ play.twist for v in views[:2]])
        center = 0.9 * center + 0.1 * said.mean(0)
        torch.testing.assert_close(method.center[0], center)


class Painted(Play):
    """Tokens that are linear in the pixels of the parts that are seen."""

    def __init__(self, method: MAE) -> None:
        super().__init__(method)
        self.embed = 0.2 * torch.randn(12, 16, generator=torch.Generator().manual_seed(2))

    def tokens(self, images: Tensor, *, kept: Tensor) -> Tensor:
        parts = cut_parts(images, 2) @ self.embed
        seen = parts.gather(1, kept[:, :, None].expand(-1, -1, 16))
        return torch.cat([seen.mean(1, keepdim=True), seen], 1)


def test_mae_is_the_error_of_the_hidden_parts_and_never_sees_them() -> None:
    torch.manual_seed(0)
    method = MAE(depth=1)
    method.build(FeatureInfo(16), 50, 0, 10, 3, TokenInfo(16, 2, 4, 1))
    play, images = Painted(method), torch.rand(3, 3, 8, 8)
    torch.manual_seed(7)
    made = method.step(batch_of([images]), play)
    torch.manual_seed(7)
    order = torch.rand(3, 16).argsort(1)
    assert method.kept == 4
    painted = method.decode(play.tokens(images, kept=order[:, :4]), order)
    total = 0.0
    for n in range(3):
        for part in order[n, 4:].tolist():
            row, column = divmod(part, 4)
            pixels = (
                images[n, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].permute(1, 2, 0).flatten()
            )
            target = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            total = total + (painted[n, part] - target).square().mean() / 36
    torch.testing.assert_close(made.loss, total)
    other = images.clone()
    for n in range(3):
        row, column = divmod(int(order[n, 9]), 4)
        other[n, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 0.123
    assert torch.equal(method.decode(play.tokens(other, kept=order[:, :4]), order), painted)


def test_dino_shares_a_short_runs_images_out_evenly_and_has_no_center() -> None:
    method = bare("dino", prototypes=4)
    play = Play(method, 4)
    views = [v / v.norm(dim=1, keepdim=True) for v in vectors(2, n=40, dim=4)]
    targets = method.targets(torch.cat(play.teacher_features(*views)), method.center, play)
    torch.testing.assert_close(targets.sum(1), torch.ones(80))
    torch.testing.assert_close(targets.sum(0), torch.full((4,), 20.0), rtol=0.1, atol=0.0)
    method.step(batch_of(views), play)
    assert not method.center.any()


CHANCE = {
    "simclr": math.log(2 * 5 - 1),
    "moco": math.log(5),
    "swav": math.log(5 // 2),
    "dino": math.log(5 // 2),
    "byol": 4.0,
    "simsiam": 0.0,
    "barlow_twins": 6.0,
    "vicreg": 50.0,
}


@pytest.mark.parametrize("name", CHANCE)
def test_a_method_says_what_its_loss_is_when_nothing_is_learned(name: str) -> None:
    method = bare(name, batch=5)
    dim = {"moco": 128, "swav": 128, "byol": 256, "simsiam": 128, "dino": 2}.get(name, 6)
    play = Play(method, dim)
    views = vectors(len(method.views.unlabeled), dim=dim)
    assert float(method.step(batch_of(views), play).health["chance_loss"]) == pytest.approx(CHANCE[name])
    if name in ("simclr", "moco"):  # all images alike
        alike = [torch.ones(5, 6) for _ in views]
        play = Play(method)
        fresh = bare(name, batch=5, out=6)
        assert float(fresh.step(batch_of(alike), play).loss) == pytest.approx(CHANCE[name], rel=1e-5)


def test_npid_tells_an_image_from_all_others_in_its_memory_and_remembers() -> None:
    method = bare("npid", images=7, out=6, momentum=0.5)
    bank = method.bank.values.clone()
    for step, index in enumerate(([0, 3, 5], [3, 1, 6])):
        views, before = vectors(1, n=3, seed=step), bank.clone()

        def reference(v: list[Tensor], index: list[int] = index, bank: Tensor = before) -> Tensor:
            p = torch.softmax(v[0] / v[0].norm(dim=1, keepdim=True) @ bank.T / 0.07, 1)
            return sum(-p[i, which].log() for i, which in enumerate(index)) / 3  # type: ignore[return-value]

        assert_equal_with_gradient(method, reference, views, index=index)
        for i, which in enumerate(index):
            unit = views[0][i].detach() / views[0][i].detach().norm()
            bank[which] = (0.5 * bank[which] + 0.5 * unit) / (0.5 * bank[which] + 0.5 * unit).norm()
        torch.testing.assert_close(method.bank.values, bank)


@pytest.mark.parametrize("labels", [[], [0, 0, 1]], ids=["no labels", "labels"])
def test_supcon_is_the_mean_over_all_views_of_the_own_class(labels: list[int]) -> None:
    method = bare("supcon")
    known, pool = vectors(2, n=3, seed=1), vectors(2, n=4, seed=2)
    shown = known if labels else []
    batch = Batch(torch.tensor([0, 9, 4, 7]), tuple(shown), tuple(pool), torch.tensor(labels))
    loss = method.step(batch, Play(method)).loss
    z = torch.cat([*shown, *pool])
    which = [*labels, *labels, *[10, 11, 12, 13] * 2]
    total = z.new_zeros(())
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        whole = sum(torch.exp(cos(z[i], z[a]) / 0.1) for a in others)
        same = [p for p in others if which[p] == which[i]]
        total = total - sum(torch.log(torch.exp(cos(z[i], z[p]) / 0.1) / whole) for p in same) / len(same)
    expected = total / len(z)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad(loss, [*shown, *pool]),
        torch.autograd.grad(expected, [*shown, *pool]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_supcon_without_labels_is_nt_xent() -> None:
    views = vectors(2)
    one, two = bare("supcon", temperature=0.5), bare("simclr", temperature=0.5)
    losses = [m.step(batch_of(views), Play(m)).loss for m in (one, two)]
    torch.testing.assert_close(*losses)


def test_lejepa_is_the_distance_from_the_mean_and_the_epps_pulley_statistic() -> None:
    method = bare("lejepa", slices=5, local_crops=1)

    def statistic(z: Tensor, directions: Tensor) -> Tensor:
        t = torch.linspace(-5, 5, 17)
        total = z.new_zeros(())
        for direction in directions:
            mean = torch.stack([torch.exp(1j * t * (x @ direction)) for x in z]).mean(0)
            miss = (mean - torch.exp(-t.square() / 2)).abs().square() * torch.exp(-t.square() / 2)
            total = total + len(z) * sum((miss[i] + miss[i + 1]) / 2 * (t[1] - t[0]) for i in range(16))
        return total / len(directions)

    def reference(views: list[Tensor]) -> Tensor:
        drawn = torch.randn(5, 6, generator=torch.Generator().manual_seed(3))
        drawn = drawn / drawn.norm(dim=1, keepdim=True)
        middle = (views[0] + views[1]) / 2
        near = sum((v - middle).square().mean() for v in views) / 3
        return 0.95 * near + 0.05 * sum(statistic(v, drawn) for v in views) / 3

    assert_equal_with_gradient(method, reference, vectors(3), play=Play(method, step=3))
    cloud = torch.randn(4000, 6)
    near, far = (float(statistic(z, torch.eye(6)[:2])) for z in (cloud[:200], 3 * cloud[:200] + 1))
    assert near < 2 < far


def test_rotnet_asks_for_the_turn_of_each_image_and_flips_none_upside_down() -> None:
    method = bare("rotnet")
    images = torch.rand(3, 3, 2, 2)

    class Turned(Play):
        def features(self, *images: Tensor) -> tuple[Tensor, ...]:
            return tuple(x.flatten(1)[:, :4] * 5 for x in images)

    loss = method.step(batch_of([images]), Turned(method)).loss
    total = 0.0
    for image in images:
        for turns in range(4):
            logits = torch.rot90(image, turns, (1, 2)).flatten()[:4] * 5
            total -= float(torch.log_softmax(logits, 0)[turns])
    assert float(loss) == pytest.approx(total / 12, rel=1e-5)
    said = method.augmentations(32, flips=("hflip", "vflip"))["first"]
    assert [name for draw in said.draws for name in draw.limits] == ["hflip"]
