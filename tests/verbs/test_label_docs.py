"""The loops of docs/label.md train, one after the other, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fallow.config import LABEL_FORMATS
from fallow.export.labels import WRITERS
from fallow.record.labels import COLUMNS, VERDICTS
from tests.photos import photos

PAGE = (Path(__file__).parents[2] / "docs" / "label.md").read_text(encoding="utf-8")


def test_the_loops_of_the_page_train_on_labels_given_and_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fallow.study.plan.candidate_backbones", lambda: ["pixels"])  # no network to trace
    monkeypatch.setattr("fallow.study.data._TARGET_FITS", 2)
    photos(tmp_path / "photos", ("cat", "dog"), labeled=8, pool=24)
    plain, fabric = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(plain, "docs/label.md", "exec"), names)
    assert "of these labels are right" in capsys.readouterr().out
    data, model = names["data"], names["model"]
    assert len(data) > 16

    def right() -> float:
        images, targets = torch.stack([data[i][0] for i in range(16)]), data.targets[:16]
        with torch.inference_mode():
            return float((model.eval()(images).argmax(1) == targets).float().mean())

    assert right() > 0.9
    exec(compile(fabric, "docs/label.md", "exec"), names)
    assert right() > 0.9
    assert len(names["soft"]) >= len(data)


def test_the_page_names_every_format_column_and_verdict() -> None:
    assert all(f"`{name}`" in PAGE for name in {*WRITERS, *LABEL_FORMATS} - {"csv"})
    assert all(f"`{name}`" in PAGE for name in (*COLUMNS, *VERDICTS))
