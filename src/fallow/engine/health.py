"""Does it learn? Research code fails silently: this says in a sentence what is wrong, and what helps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fallow.engine.growth import Growth
from fallow.methods import Batch, Step

_LOST, _WORSE = 0.3, 1.07
"""The loss has grown when it is higher than in the first step by this share of its chance value, as of a network that forgets
what it knew; or when it is so many times as high as that of one that knows nothing."""
_GROWN = 1.5
"""The same where the chance value is unknown."""
_UNUSED, _ALL = 0.005, 0.995
_SURE = 0.7
"""A fixed threshold that all images pass is no news where it is lower than this: methods may have none."""
_ONE_CLASS = 0.9
_EARLY, _LATE, _LATER = 0.04, 0.25, 0.5
"""Shares of the run from which a check speaks: failures that need no patience, and those that do."""
_CHANCE = 0.03
_SMALLEST = 5
_AT_FIRST, _FIRST_STEPS = 0.1, 200
"""Weights are watched up to this share of the run and so many steps: later they may grow in a run that learns too."""


CURE = "lower the learning rate with --set optimization.lr, or take --set optimization.precision=fp32"


class Diverged(Exception):
    """A loss or a weight that is no number: nothing that comes after it means anything."""


@dataclass(frozen=True)
class Finding:
    """Something that a person should know about a fit.

    Attributes:
        kind: Short name: ``growing``, ``chance``, ``unused``, ``all used``, ``one class``, ``never predicted``.
        step: When it was first seen.
        sentence: What is wrong and what helps.
    """

    kind: str
    step: int
    sentence: str


class Watch:
    """Sees every step and looks at the figures now and then, so that an accelerator is not waited for.

    Args:
        steps: Steps planned.
        classes: Names of the classes, for sentences.
        chance_loss: Supervised loss of a model that knows nothing, ln(classes) for classification; None: unknown.
        tell: Told each finding when it is first seen, in a sentence.
        module: What is trained, whose weights are watched in the first steps; None: they are not.
    """

    def __init__(
        self,
        steps: int,
        classes: Sequence[str] = (),
        chance_loss: float | None = None,
        tell: Callable[[str], None] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        self.growth = Growth(module)
        self.steps, self.classes, self.chance_loss = steps, tuple(classes), chance_loss
        self._tell, self._told = tell, set[str]()
        self.every = max(1, steps // 100)
        self.findings: dict[str, Finding] = {}
        self._pending: list[dict[str, Tensor]] = []
        self._guesses: Tensor | None = None
        seen = max(_SMALLEST, steps // 50)
        self._losses: deque[float] = deque(maxlen=seen)
        self._begun: float | None = None
        self._used: deque[float] = deque(maxlen=seen)
        self._asked: deque[float] = deque(maxlen=seen)
        # Of all steps between two looks together: a vector a step would be much to keep where there are many classes.
        self._guessed: deque[Tensor] = deque(maxlen=max(2 * seen, steps // 10) // self.every)

    @property
    def hopeless(self) -> bool:
        """Whether no further step will help; a joint method's labels always leave hope."""
        return False

    def see_batch(self, step: int, made: Step, batch: Batch) -> dict[str, float] | None:
        """Take the figures of a step, and the images that they are of; see `see`."""
        return self.see(step, made)

    def see(self, step: int, made: Step) -> dict[str, float] | None:
        """Take the figures of a step; return them in words' reach (mean over the last few) when they were looked at.

        Raises:
            Diverged: A loss is not finite; the first such step is named.
        """
        figures = {k: v.detach() for k, v in _tensors(made).items()}
        self._pending.append({k: v for k, v in figures.items() if v.ndim == 0})
        if (guesses := figures.get("pseudo_classes")) is not None:
            self._guesses = guesses.float() if self._guesses is None else self._guesses + guesses
        if (step + 1) % self.every and step + 1 < self.steps:
            return None
        return self._look(step)

    def state(self) -> dict[str, Any]:
        """Return what was seen, as JSON: a run that goes on says what it would have said."""
        return {
            "pending": [{k: v.item() for k, v in figures.items()} for figures in self._pending],
            "guesses": None if self._guesses is None else self._guesses.tolist(),
            "losses": list(self._losses),
            "begun": self._begun,
            "used": list(self._used),
            "asked": list(self._asked),
            "guessed": [counts.tolist() for counts in self._guessed],
            "told": sorted(self._told),
            "findings": [asdict(found) for found in self.findings.values()],
            "sizes": self.growth.sizes,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._pending = [{k: torch.tensor(v) for k, v in figures.items()} for figures in state["pending"]]
        self._guesses = None if state["guesses"] is None else torch.tensor(state["guesses"])
        for mine, kept in ((self._losses, "losses"), (self._used, "used"), (self._asked, "asked")):
            mine.clear()
            mine.extend(state[kept])
        self._begun = state["begun"]
        self._guessed.clear()
        self._guessed.extend(torch.tensor(counts) for counts in state["guessed"])
        self._told = set(state["told"])
        self.findings = {found["kind"]: Finding(**found) for found in state["findings"]}
        self.growth.sizes = list(state["sizes"])

    def _look(self, step: int) -> dict[str, float]:
        first = step - len(self._pending) + 1
        names = dict.fromkeys(name for figures in self._pending for name in figures)
        columns = {
            n: torch.stack([f[n].float().cpu() for f in self._pending if n in f]).tolist() for n in names
        }
        for offset, loss in enumerate(columns["loss"]):
            if not math.isfinite(loss):
                at = f"{first + offset + 1} of {self.steps}{self._where(offset)}"
                raise Diverged(f"the loss is {loss} at step {at}: {CURE}")
        supervised = columns.get("supervised_loss", columns["loss"])
        self._losses.extend(supervised)
        self._begun = supervised[0] if self._begun is None else self._begun
        self._used.extend(columns.get("utilization", ()))
        self._asked.extend(columns.get("threshold", ()))
        if self._guesses is not None:
            self._guessed.append(self._guesses.cpu())
        self._pending, self._guesses = [], None
        self._check(step)
        return {name: sum(column) / len(column) for name, column in columns.items()}

    def _where(self, offset: int) -> str:
        """Return which images were seen in a step since the last look, in words."""
        return ""

    def _check(self, step: int) -> None:
        done = (step + 1) / self.steps
        standing = {f.kind: f for f in (*self._loss_checks(step, done), *self._pool_checks(step, done))}
        for kind in standing.keys() - self._told if self._tell is not None else ():
            self._told.add(kind)
            self._tell(f"at step {step + 1} of {self.steps}: {standing[kind].sentence}")  # type: ignore[misc]
        # What was seen before keeps its first step; what no longer holds is forgotten.
        self.findings = {kind: self.findings.get(kind, found) for kind, found in standing.items()}

    def _loss_checks(self, step: int, done: float) -> list[Finding]:
        found, loss = [], sum(self._losses) / len(self._losses)
        begun = self._begun or 0.0
        if done >= _EARLY / 2 and step >= _SMALLEST and loss > self._too_much(begun):
            found.append(
                Finding(
                    "growing",
                    step,
                    f"the loss grows instead of falling ({begun:.2f} at first, {loss:.2f} now): the learning rate is too "
                    "high, lower it with --set optimization.lr",
                )
            )
        if _EARLY / 2 <= done <= _AT_FIRST and _SMALLEST <= step < _FIRST_STEPS:
            said = self.growth.sentence(step)
            found += [Finding("growing", step, said)] if said and not found else []
        chance = self.chance_loss
        if chance is not None and done >= _LATE and abs(loss - chance) < _CHANCE * chance:
            found.append(
                Finding(
                    "chance",
                    step,
                    f"the loss stays at its chance value {chance:.2f}: the network is not learning, whatever else looks "
                    "healthy; try another learning rate (--set optimization.lr), and look at whether the labels are right",
                )
            )
        return found

    def _too_much(self, begun: float) -> float:
        """Return the loss above which it has grown."""
        chance = self.chance_loss
        if chance is None:
            return _GROWN * max(begun, 0.1)
        return min(begun + _LOST * chance, _WORSE * max(begun, chance))

    def _pool_checks(self, step: int, done: float) -> list[Finding]:
        found: list[Finding] = []
        if self._used and done >= _EARLY:
            used = sum(self._used) / len(self._used)
            if used < _UNUSED:
                found.append(
                    Finding(
                        "unused",
                        step,
                        f"only {used:.1%} of the unlabeled images pass the threshold, so that they teach nothing: take a "
                        "method whose threshold adapts (--method softmatch or freematch)",
                    )
                )
            elif used > _ALL and done <= 2 * _EARLY and self._fixed():
                found.append(
                    Finding(
                        "all used",
                        step,
                        "all unlabeled images pass the threshold from the start, so that it sorts nothing out: the "
                        "network is too sure of itself, calibrate it or raise the threshold",
                    )
                )
        if self._guessed and done >= _EARLY:
            found += self._class_checks(step, done)
        return found

    def _fixed(self) -> bool:
        """Say whether there is a high threshold that does not adapt."""
        return bool(self._asked) and max(self._asked) == min(self._asked) >= _SURE

    def _class_checks(self, step: int, done: float) -> list[Finding]:
        counts = torch.stack(list(self._guessed)).sum(0)
        share = counts / counts.sum().clamp_min(1)
        if len(counts) > 1 and float(share.max()) > max(_ONE_CLASS, 1.5 / len(counts)):
            name = self._named([int(share.argmax())])
            sentence = (
                f"{float(share.max()):.0%} of the unlabeled images are called {name}: the labels the network gives itself "
                "have collapsed onto it; take --method adamatch, or label more of the other classes"
            )
            return [Finding("one class", step, sentence)]
        never = [c for c in range(len(counts)) if not counts[c]]
        if never and done >= _LATER:
            sentence = (
                f"no unlabeled image is called {self._named(never)}: either there is none in the pool, or the network does "
                "not know the class; a few more labels of it would help"
            )
            return [Finding("never predicted", step, sentence)]
        return []

    def _named(self, which: list[int]) -> str:
        names = [f"'{self.classes[c]}'" if c < len(self.classes) else f"class {c}" for c in which]
        return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


def _tensors(made: Step) -> Mapping[str, Tensor]:
    """Return all figures of a step as tensors."""
    found = {**made.logs, **made.health, "loss": made.loss}
    return {k: v if isinstance(v, Tensor) else torch.tensor(float(v)) for k, v in found.items()}
