"""Small studies on real digits, in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from torch import nn

import fallow
import fallow.study.leave
import fallow.study.plan
from fallow.config import EmbedConfig, NetworkConfig, OptimizationConfig, TrainConfig
from fallow.data import audit, open_source
from fallow.models import Backbone, Embedder, from_module, load_backbone
from fallow.record import DecisionLog
from fallow.study.bank import SpaceBank
from fallow.study.clock import Clock
from fallow.study.context import RungContext
from fallow.study.data import StudyData
from fallow.study.plan import SpacePlan, plan_spaces
from fallow.study.rung import Candidate, Fold
from fallow.study.rungs import RUNGS, Below
from fallow.tasks import classification_task


class Edges(nn.Module):
    """A network with views to decide on, which the pixels have not: random filters, the same in every process."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(3, 24, 3, 2, 1, bias=False)
        drawn = np.random.default_rng(0).normal(size=(24, 3, 3, 3))
        self.filters.weight.data = torch.from_numpy(drawn).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.filters(x)).flatten(1)


def edges() -> Backbone:
    """Return `Edges` as a backbone."""
    return from_module(Edges(), size=8, name="edges")


def two_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let edges and pixels vote wherever a backbone is not asked for."""
    known = {"edges": edges(), "pixels": load_backbone("pixels")}
    monkeypatch.setattr(SpaceBank, "backbone", lambda self, name: known[name])
    monkeypatch.setattr(
        fallow.study.plan, "automatic_backbones", lambda audit, bank: (tuple(known), "Both, for the test.")
    )


CHEAP, TRAINED = "probe,propagate", "finetune,joint,noisy_student,ensemble"
STEPS = 5
"""Steps of a fit where what is learned does not matter."""
FEW = {"classes": (0, 1, 4, 7), "labels": 3, "pool": 20, "test": 6}


def write_digits(
    folder: Path,
    *,
    classes: Sequence[int] = (0, 1, 4, 7),
    labels: int = 3,
    pool: int = 20,
    test: int = 6,
    seed: int | None = None,
) -> Path:
    """Write ``labels``, ``pool`` and ``test`` images a class as files, the first ones or drawn by a seed."""
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    for digit in classes:
        members = np.flatnonzero(data.target == digit)
        if seed is not None:
            members = np.random.default_rng([seed, digit]).permutation(members)
        members = members[: labels + pool + test]
        for position, index in enumerate(members):
            place = folder / "unlabeled"
            if position < labels:
                place = folder / "train" / str(digit)
            elif position < labels + test:
                place = folder / "test" / str(digit)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(place / f"{index:04d}.png")
    return folder


def hasten(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Leave out what takes seconds and does not matter here: the report's pictures and the measured embedding speed."""
    monkeypatch.setenv("FALLOW_CACHE", str(cache))
    monkeypatch.setattr(Embedder, "rate", lambda self, size=None, seconds=1.0: 5000.0)
    monkeypatch.setattr(fallow.study.leave, "gather_report", lambda *given: None)
    monkeypatch.setattr(
        fallow.study.leave, "write_report", lambda path, report: path.write_text("<html></html>")
    )


def train(data: Path, out: Path, **options: Any) -> fallow.Result:
    """Run the cheap rungs on pixels with two repeats, quietly."""
    asked = {
        "rungs": CHEAP,
        "offline": True,
        "budget": "10m",
        "show": "nothing",
        "set": {"choose.repeats": 2},
        "embed": {"backbone": "pixels"},
        **options,
    }
    return fallow.train(str(data), out=out, **asked)


def context(data: Path, cache: Path, votes: str = "pixels") -> RungContext:
    """Return what rungs look at, for the images of a folder; ``edges`` vote under views, ``pixels`` as they are."""
    decisions, clock = DecisionLog(), Clock(600)
    config = TrainConfig(
        offline=True,
        embed=EmbedConfig(backbone="pixels" if votes == "pixels" else "auto"),
        network=NetworkConfig(backbone="small_resnet_8"),
        optimization=OptimizationConfig(batch_size=8, unlabeled_ratio=1),
    )
    made = StudyData.build(audit(open_source(str(data))), 0, decisions)
    bank = SpaceBank(config.embed, cache, offline=True, own=None if votes == "pixels" else edges())
    if votes == "pixels":
        plan = plan_spaces(made, bank, clock, decisions)
    else:
        names = tuple(votes.split("+"))
        views = tuple("turns" if name == "edges" else "none" for name in names)
        plan = SpacePlan(names, (8,) * len(names), views, len(made.pool_ids))  # type: ignore[arg-type]
    return RungContext(made, classification_task(made.classes), bank, config, decisions, clock, plan)


def figures(run: Path) -> dict[str, Any]:
    """Return ``result.json`` without times."""
    found: dict[str, Any] = without_times(json.loads((run / "result.json").read_text()))
    return found


def without_times(value: Any) -> Any:
    """Return JSON without what a clock measured."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if "second" not in k}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def decisions(run: Path) -> dict[str, Any]:
    """Return all decisions by name, without times."""
    return {d["name"]: without_times(d) for d in json.loads((run / "decisions.json").read_text())}


def model(run: Path) -> dict[str, np.ndarray]:
    """Return the tensors of the model that a run leaves."""
    found: dict[str, np.ndarray] = load_file(run / "model" / "model.safetensors")
    return found


def posteriors(run: Path) -> list[dict[str, Any]]:
    """Return the out-of-fold table."""
    rows: list[dict[str, Any]] = pq.read_table(run / "out_of_fold.parquet").to_pylist()
    return rows


def assert_same(one: Path, other: Path) -> None:
    """Check that two runs found the same, to the bit."""
    assert figures(one) == figures(other)
    assert decisions(one) == decisions(other)
    assert posteriors(one) == posteriors(other)
    left, right = model(one), model(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)
    assert (one / "model" / "model.onnx").read_bytes() == (other / "model" / "model.onnx").read_bytes()


class Fitted(Below):
    """The rungs below a fold, all of them fitted when they are asked for, with a few steps where they take any."""

    def __init__(self, ctx: RungContext, fold: Fold | None, names: tuple[str, ...]) -> None:
        super().__init__(ctx, fold, names, {})  # type: ignore[arg-type]

    def _make(self, name: str) -> Candidate:
        return fit(self._ctx, self._fold, name)


def fit(ctx: RungContext, fold: Fold | None, name: str) -> Candidate:
    """Fit a rung with all rungs below it."""
    rung, names = RUNGS[name], list(RUNGS)
    steps = None if rung.workload is None else min(STEPS, rung.workload.most)
    return rung.fit(ctx, fold, Fitted(ctx, fold, tuple(names[: names.index(name)])), steps)
