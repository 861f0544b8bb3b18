"""Nothing that is scored on a label has seen it, and nothing has seen the test split."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from fallow.study import RUNGS, Fold, strength
from fallow.study.context import RungContext
from fallow.study.data import StudyData, plan_folds
from fallow.study.spaces import decide_views, spaces_of
from tests.study.digits import context, decisions, fit, hasten, train, write_digits


def studied(ctx: RungContext, rung: str, fold: Fold) -> dict[str, np.ndarray]:
    """Fit a rung on a fold, with the rungs below it, and return all that came out of it."""
    candidate = fit(ctx, fold, rung)
    everything = (*ctx.data.labeled_ids, *ctx.data.pool_ids, *ctx.data.test_ids)
    said = candidate.predict(ctx.data.images(everything)).probs.numpy()
    return {
        **candidate.state()[0],
        "said": said,
        "spaces": np.array([s.key for s in spaces_of(ctx, fold)]),
        "views": np.array(json.dumps(decide_views(ctx, fold)[1].to_json())),
    }


def with_other_labels(ctx: RungContext, fold: Fold) -> RungContext:
    """Return the same study with the held-out labels of a fold changed, and nothing computed yet."""
    y = ctx.data.y.copy()
    y[fold.held_out] = (y[fold.held_out] + 1) % len(ctx.data.classes)
    return replace(ctx, data=replace(ctx.data, y=y), scratch={})


@pytest.mark.parametrize(
    ("votes", "pool", "search_from"),
    [
        # Below 300 images in the pool labeled images take part in the normalization; above, folds share their inputs.
        pytest.param("pixels", 20, 100, id="small pool"),
        pytest.param("pixels", 130, 100, id="large pool"),
        pytest.param("edges", 20, 100, id="views, small pool"),
        pytest.param("edges", 130, 10, id="views and a searched strength"),
        pytest.param("edges+pixels", 130, 10, id="two vote"),
    ],
)
# Rungs about extra images have a test of their own, with such images.
@pytest.mark.parametrize("rung", [name for name, rung in RUNGS.items() if not rung.info.needs_extra])
def test_the_held_out_labels_of_a_fold_change_nothing_that_its_rungs_produce(
    rung: str, votes: str, pool: int, search_from: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if RUNGS[rung].workload is not None and (votes, pool) not in (("pixels", 20), ("edges+pixels", 130)):
        pytest.skip("trained rungs take their inputs from the same places, and longer")
    monkeypatch.setattr(strength, "SEARCH_FROM", search_from)
    ctx = context(write_digits(tmp_path / "data", labels=4, pool=pool), tmp_path / "cache", votes)
    assert (len(ctx.data.pool_ids) >= 300) == (pool == 130)
    folds = plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions)
    found = [studied(ctx, rung, fold) for fold in folds[:3]]
    # The labels that a fold does see matter, also where it decides on views and strength.
    assert len({one["said"].tobytes() for one in found}) == 3
    assert (len({str(one["views"]) for one in found}) == 1) == (votes == "pixels")
    RUNGS["probe"].fit(ctx, None, {})
    made = ctx.decisions.get("probe.strength")
    assert made is not None
    assert (made.source == "search") == (search_from == 10)
    for fold, one in zip(folds, found, strict=False):
        other = studied(with_other_labels(ctx, fold), rung, fold)
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value.tobytes() == other[name].tobytes(), name


def test_twins_and_groups_are_held_out_together(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "data", labels=6, pool=10)
    copies = []
    for name in ("0", "4"):
        first, second = sorted((folder / "train" / name).iterdir())[:2]
        shutil.copy(first, folder / "train" / name / f"again-{first.name}")
        Image.open(second).save(
            folder / "train" / name / f"saved-{second.stem}.bmp"
        )  # other bytes, same picture
        shutil.copy(first, folder / "unlabeled" / f"of-{first.name}")
        copies += [(first, f"again-{first.name}"), (second, f"saved-{second.stem}.bmp")]
    ctx = context(folder, tmp_path / "cache")
    assert not [i for i in ctx.data.pool_ids if "of-" in i]
    place = {Path(id_).name: row for row, id_ in enumerate(ctx.data.labeled_ids)}
    for fold in plan_folds(ctx.data, ctx.config.choose, 0, ctx.decisions):
        out = set(fold.held_out.tolist())
        for original, copy in copies:
            assert (place[original.name] in out) == (place[copy] in out)


def test_other_test_images_change_nothing_that_any_fit_produces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    one = write_digits(tmp_path / "one")
    other = shutil.copytree(one, tmp_path / "other")
    rng = np.random.default_rng(0)
    for file in sorted((other / "test").rglob("*.png")):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(file)
    files = {}
    for data in (one, other):
        out = tmp_path / f"run-{data.name}"
        train(data, out)
        files[data.name] = {
            p.relative_to(out): load_file(p)
            for p in [*out.glob("stages/*/f*.safetensors"), out / "model" / "model.safetensors"]
        }
    assert files["one"].keys() == files["other"].keys()
    assert len(files["one"]) > 10
    for path, tensors in files["one"].items():
        for name, array in tensors.items():
            np.testing.assert_array_equal(array, files["other"][path][name], err_msg=f"{path} {name}")
    mixes = [decisions(tmp_path / f"run-{name}")["choose.weights"] for name in ("one", "other")]
    assert mixes[0] == mixes[1]


def test_the_choice_is_on_disk_before_the_first_test_label_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    out, found = tmp_path / "run", []
    real = StudyData.test_classes

    def watched(self: StudyData) -> np.ndarray:
        found.append(
            ((out / "choice.json").is_file(), len((out / "test_reads.jsonl").read_text().splitlines()))
        )
        return real(self)

    monkeypatch.setattr(StudyData, "test_classes", watched)
    train(write_digits(tmp_path / "data"), out)
    assert found == [(True, 2)]
