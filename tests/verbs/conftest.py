"""Runs made from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import fallow
from tests.photos import photos


@pytest.fixture(autouse=True)
def surroundings(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work in an empty folder, with a cache of the tests' own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> fallow.Result:
    """A finished run in ``run/`` beside its photos in ``photos/``; not to be changed."""
    here = tmp_path_factory.mktemp("trained")
    photos(here / "photos", classes=("cat", "dog", "emu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return quick(here / "photos", here / "run")


def quick(data: object, out: Path, **options: object) -> fallow.Result:
    """Train in a second or two."""
    return fallow.train(
        data,
        out=out,
        budget="20s",
        rungs="probe,propagate",
        offline=True,
        embed={"backbone": "pixels"},
        show="nothing",
        **options,
    )
