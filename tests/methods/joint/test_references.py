"""Every joint method beside a reference written from its paper: value and gradient, over several steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fallow.methods import joint_method
from fallow.tasks import FeatureInfo
from tests.methods.joint.play import CLASSES, POOL, STEPS, TASK, Loop, batches, network, play_on

PAST = 0.7


@dataclass
class Logits:
    """What a paper's formulas are written in: logits of one batch, the teacher's without gradient."""

    labeled: Tensor
    targets: Tensor
    weak: Tensor
    strong: Tensor
    weak_labeled: Tensor
    index: list[int]
    step: int


def ce(logits: Tensor, target: int) -> Tensor:
    return torch.logsumexp(logits, 0) - logits[target]


def supervised(x: Logits) -> Tensor:
    return sum(ce(z, int(y)) for z, y in zip(x.labeled, x.targets, strict=True)) / len(x.targets)


def probs(logits: Tensor) -> list[list[float]]:
    return [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in logits.tolist()]


def best(row: list[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)


def column_means(rows: list[list[float]]) -> list[float]:
    return [sum(row[c] for row in rows) / len(rows) for c in range(CLASSES)]


def normalized(row: list[float]) -> list[float]:
    return [v / sum(row) for v in row]


class FixMatchPaper:
    """Eq. 4; with given shares, aligned to them as ReMixMatch (arXiv 1911.09785, section 3.1) does, momentum PAST."""

    def __init__(self, to: list[float] | None = None) -> None:
        self.to, self.shares = to, to

    def __call__(self, x: Logits) -> Tensor:
        said = probs(x.weak)
        if self.to:
            self.shares = [
                PAST * a + (1 - PAST) * b for a, b in zip(self.shares, column_means(said), strict=True)
            ]
            said = [
                normalized([v * t / s for v, t, s in zip(row, self.to, self.shares, strict=True)])
                for row in said
            ]
        terms = [
            ce(z, best(p)) if max(p) >= 0.95 else 0 * z.sum() for z, p in zip(x.strong, said, strict=True)
        ]
        return supervised(x) + sum(terms) / len(terms)


class FlexMatchPaper:
    """Algorithm 1."""

    def __init__(self) -> None:
        self.remembered = [-1] * POOL

    def __call__(self, x: Logits) -> Tensor:
        sigma = [self.remembered.count(c) for c in range(CLASSES)]
        unused = self.remembered.count(-1)
        if max(sigma) < unused:
            beta = [s / max(max(sigma), unused) for s in sigma]
        else:
            beta = [s / max(sigma) for s in sigma]
        thresholds = [b / (2 - b) * 0.95 for b in beta]
        said = probs(x.weak)
        terms = []
        for z, p, n in zip(x.strong, said, x.index, strict=True):
            terms.append(ce(z, best(p)) if max(p) > thresholds[best(p)] else 0 * z.sum())
            if max(p) > 0.95:
                self.remembered[n] = best(p)
        return supervised(x) + sum(terms) / len(terms)


class FreeMatchPaper:
    """Eq. 5 to 12, with momentum PAST and fairness weight 0.05."""

    def __init__(self) -> None:
        self.tau, self.p, self.h = 1 / CLASSES, [1 / CLASSES] * CLASSES, [1 / CLASSES] * CLASSES

    def __call__(self, x: Logits) -> Tensor:
        q = probs(x.weak)
        guessed = [sum(best(row) == c for row in q) / len(q) for c in range(CLASSES)]
        self.tau = PAST * self.tau + (1 - PAST) * sum(max(row) for row in q) / len(q)
        self.p = [PAST * a + (1 - PAST) * b for a, b in zip(self.p, column_means(q), strict=True)]
        self.h = [PAST * a + (1 - PAST) * b for a, b in zip(self.h, guessed, strict=True)]
        tau = [v / max(self.p) * self.tau for v in self.p]
        sure = [max(row) >= tau[best(row)] for row in q]
        terms = [ce(z, best(row)) if s else 0 * z.sum() for z, row, s in zip(x.strong, q, sure, strict=True)]
        return supervised(x) + sum(terms) / len(terms) + 0.05 * self.fairness(x.strong, sure)

    def fairness(self, strong: Tensor, sure: list[bool]) -> Tensor:
        strong_q = torch.softmax(strong, 1)
        kept = [row for row, s in zip(strong_q, sure, strict=True) if s]
        if not kept:
            return 0 * strong.sum()
        mean = sum(kept) / len(strong)
        hist = [sum(int(row.argmax()) == c for row in kept) / len(strong) for c in range(CLASSES)]
        there = [c for c in range(CLASSES) if hist[c] > 0]
        ratio = {c: mean[c] / hist[c] for c in there}
        wanted = normalized([a / b for a, b in zip(self.p, self.h, strict=True)])
        entropy = -sum(wanted[c] * torch.log(ratio[c] / sum(ratio.values())) for c in there)
        return -entropy


class SoftMatchPaper:
    """Eq. 5 to 8, uniform alignment with momentum PAST."""

    def __init__(self, to: list[float] | None = None) -> None:
        self.to = to or [1 / CLASSES] * CLASSES
        self.mu, self.var, self.shares = 1 / CLASSES, 1.0, list(self.to)

    def __call__(self, x: Logits) -> Tensor:
        p = probs(x.weak)
        self.shares = [PAST * a + (1 - PAST) * b for a, b in zip(self.shares, column_means(p), strict=True)]
        leveled = [
            normalized([v * t / s for v, t, s in zip(row, self.to, self.shares, strict=True)]) for row in p
        ]
        sure = [max(row) for row in leveled]
        n, mean = len(sure), sum(sure) / len(sure)
        var = sum((s - mean) ** 2 for s in sure) / n
        self.mu = PAST * self.mu + (1 - PAST) * mean
        self.var = PAST * self.var + (1 - PAST) * var * n / (n - 1)
        width = self.var / 4
        terms = []
        for z, row, s in zip(x.strong, p, sure, strict=True):
            weight = math.exp(-((s - self.mu) ** 2) / (2 * width)) if s < self.mu else 1.0
            terms.append(weight * ce(z, best(row)))
        return supervised(x) + sum(terms) / n


class AdaMatchPaper:
    """Section 3, with running class shares (momentum PAST)."""

    def __init__(self) -> None:
        self.labeled, self.pool = [1 / CLASSES] * CLASSES, None

    def __call__(self, x: Logits) -> Tensor:
        source, target = probs(x.weak_labeled), probs(x.weak)
        self.labeled = [
            PAST * a + (1 - PAST) * b for a, b in zip(self.labeled, column_means(source), strict=True)
        ]
        self.pool = self.pool or self.labeled
        self.pool = [PAST * a + (1 - PAST) * b for a, b in zip(self.pool, column_means(target), strict=True)]
        aligned = [
            normalized([v * a / b for v, a, b in zip(row, self.labeled, self.pool, strict=True)])
            for row in target
        ]
        threshold = 0.9 * sum(max(row) for row in source) / len(source)
        terms = [
            -(torch.tensor(row) * torch.log_softmax(z, 0)).sum() if max(row) >= threshold else 0 * z.sum()
            for z, row in zip(x.strong, aligned, strict=True)
        ]
        mu = 0.5 - math.cos(min(math.pi, 2 * math.pi * x.step / STEPS)) / 2
        return supervised(x) + mu * sum(terms) / len(terms)


class UDAPaper:
    """Section 2 and appendix A.1."""

    def __init__(self, schedule: str) -> None:
        self.alpha = {
            "linear": lambda t: t,
            "log": lambda t: 1 - math.exp(-5 * t),
            "exp": lambda t: math.exp((t - 1) * 5),
        }[schedule]

    def __call__(self, x: Logits) -> Tensor:
        eta = self.alpha(x.step / STEPS) * (1 - 1 / CLASSES) + 1 / CLASSES
        q = probs(x.labeled)
        kept = [ce(z, int(y)) for z, y, row in zip(x.labeled, x.targets, q, strict=True) if row[int(y)] < eta]
        known = sum(kept) / len(kept) if kept else 0 * x.labeled.sum()
        terms = []
        for z, weak, row in zip(x.strong, x.weak, probs(x.weak), strict=True):
            sharp = torch.softmax(weak / 0.4, 0)
            apart = (sharp * (torch.log(sharp) - torch.log_softmax(z, 0))).sum()
            terms.append(apart if max(row) > 0.8 else 0 * z.sum())
        return known + sum(terms) / len(terms)


class MeanTeacherPaper:
    """Section 2 and appendix B: squared error of probabilities, averaged over classes, ramped up."""

    def __call__(self, x: Logits) -> Tensor:
        ramp = math.exp(-5 * (1 - min(1, x.step / (0.22 * STEPS))) ** 2)
        apart = [
            functional.mse_loss(torch.softmax(z, 0), torch.tensor(p))
            for z, p in zip(x.strong, probs(x.weak), strict=True)
        ]
        return supervised(x) + 8 * ramp * sum(apart) / len(apart)


CASES: dict[str, tuple[str, dict[str, object], Callable[[], Callable[[Logits], Tensor]]]] = {
    "fixmatch": ("fixmatch", {}, FixMatchPaper),
    "fixmatch, given shares": (
        "fixmatch",
        {"momentum": PAST, "mix": torch.tensor([0.7, 0.2, 0.06, 0.04])},
        lambda: FixMatchPaper([0.7, 0.2, 0.06, 0.04]),
    ),
    "flexmatch": ("flexmatch", {}, FlexMatchPaper),
    "freematch": ("freematch", {"momentum": PAST, "fairness_weight": 0.05}, FreeMatchPaper),
    "softmatch": ("softmatch", {"momentum": PAST}, SoftMatchPaper),
    "softmatch, given shares": (
        "softmatch",
        {"momentum": PAST, "mix": torch.tensor([0.4, 0.3, 0.2, 0.1])},
        lambda: SoftMatchPaper([0.4, 0.3, 0.2, 0.1]),
    ),
    "adamatch": ("adamatch", {"momentum": PAST}, AdaMatchPaper),
    "uda, linear": ("uda", {}, lambda: UDAPaper("linear")),
    "uda, log": ("uda", {"release": "log"}, lambda: UDAPaper("log")),
    "uda, exp": ("uda", {"release": "exp"}, lambda: UDAPaper("exp")),
    "mean_teacher": ("mean_teacher", {}, MeanTeacherPaper),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_paper(case: str) -> None:
    name, options, make = CASES[case]
    method, paper, loop = joint_method(name, TASK, **options), make(), Loop(network())
    method.build(FeatureInfo(12), POOL, CLASSES, STEPS)
    used, differences = [], set()
    for _, batch, made in play_on(method, loop, list(batches())):
        weak, weak_labeled = loop.teacher(batch.unlabeled[0])[0], loop.teacher(batch.labeled[0])[0]
        x = Logits(
            loop.student(batch.labeled[0]),
            batch.targets,
            weak,
            loop.student(batch.unlabeled[1]),
            weak_labeled,
            batch.index.tolist(),
            loop.step,
        )
        expected = paper(x)
        torch.testing.assert_close(made.loss, expected, rtol=1e-4, atol=1e-5)
        wanted = torch.autograd.grad(expected, list(loop.student.parameters()))
        for weight, gradient in zip(loop.student.parameters(), wanted, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-5)
        used.append(float(made.health["utilization"]))
        differences.add(round((expected - supervised(x)).item(), 6))
    assert len(differences) > STEPS / 2  # the unlabeled images took part
    if name != "mean_teacher":
        assert 0.05 < sum(used) / len(used) < 0.98  # and their weights had something to decide
