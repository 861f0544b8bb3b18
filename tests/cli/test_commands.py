"""What each command says of itself, prints for people and prints for scripts."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fallow as package
from fallow.config import Section, TrainConfig
from tests.cli.conftest import QUICK, Fallow
from tests.photos import photos, put

OPTIONS = {
    "train": ("DATA", "--config", "--set", "--resume", "--json", "--quiet"),
    "label": ("DATA", "--model", "--precision", "--coverage", "--certify", "--format", "--resume", "--json"),
    "pretrain": ("DATA", "--method", "--backbone", "--set", "--resume", "--json"),
    "predict": ("MODEL", "IMAGES", "--out", "--format", "--json"),
    "evaluate": ("MODEL", "DATA", "--split", "--json"),
    "export": ("RUN", "--out", "--format", "--json"),
    "methods": ("--json",),
    "init": ("PATH", "--json"),
    "doctor": ("--json",),
    "demo": ("--out", "--seed", "--budget", "--json"),
}


def test_the_help_names_every_command(fallow: Fallow) -> None:
    ran = fallow("--help")
    assert ran.code == 0
    assert all(name in ran.out for name in OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_help_of_a_command_names_its_options_and_gives_an_example(fallow: Fallow, name: str) -> None:
    ran = fallow(name, "--help")
    assert ran.code == 0
    assert ran.err == ""
    assert all(option in ran.out for option in OPTIONS[name])
    assert f"fallow {name}" in ran.out.partition("Examples:")[2]


def test_the_help_of_train_names_every_key_of_the_config(fallow: Fallow) -> None:
    text = fallow("train", "--help").out
    for name, field in TrainConfig.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
            assert f"--{name} " in text
        elif name == "embed":
            assert all(f"--{key} " in text for key in field.annotation.model_fields)
        elif name != "replay":
            told = re.search(rf"^ {name}  .*?(?=^ \w|\Z)", text, re.MULTILINE | re.DOTALL)
            assert told is not None
            assert " ".join(told[0].split()).endswith(", ".join(field.annotation.model_fields))


def test_what_init_writes_explains_every_key(fallow: Fallow) -> None:
    fallow("init", "my.yaml")
    text = Path("my.yaml").read_text(encoding="utf-8")
    for name, field in TrainConfig.model_fields.items():
        kind = field.annotation
        if name == "replay":
            assert "replay" not in text
        elif isinstance(kind, type) and issubclass(kind, Section):
            for key, inner in kind.model_fields.items():
                assert f"  # {inner.description}\n  {key}: " in text
        else:
            assert f"# {field.description}\n{name}: " in text


def test_the_version_is_that_of_the_package(fallow: Fallow) -> None:
    assert fallow("--version").out.strip() == f"fallow {package.__version__}"


def test_every_command_prints_json_for_scripts(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    run, data = trained / "run", trained / "photos"
    result = json.loads(fallow("train", data, "--out", "run", "--json").out)
    assert result["run"] == "run"
    assert result["chosen"]["rung"] in [rung["rung"] for rung in result["rungs"]]
    predicted = json.loads(fallow("predict", run, data / "unlabeled", "--json").out)["predictions"]
    assert [p["label"] for p in predicted] == ["cat", "dog"] * 4
    assert json.loads(fallow("evaluate", run, data, "--json").out)["accuracy"]["n"] == 4
    assert "propagate" in [m["name"] for m in json.loads(fallow("methods", "--json").out)["methods"]]
    assert json.loads(fallow("doctor", "--json").out)["version"] == package.__version__
    assert json.loads(fallow("export", run, "--out", "model", "--json").out)["same"] is True
    assert json.loads(fallow("init", "--json").out) == {"path": "fallow.yaml"}
    written = json.loads(fallow("predict", run, data / "test", "--out", "new.csv", "--json").out)
    assert written == {"out": "new.csv", "images": 4, "unreadable": 0}


def test_a_piped_command_prints_plain_lines_without_colors_and_bars(trained: Path) -> None:
    words = ("train", trained / "photos", "--out", "run", *QUICK)
    command = [sys.executable, "-c", "from fallow.cli import main; main()"]
    ended = subprocess.run([*command, *map(str, words)], capture_output=True, check=True)
    assert all(line.startswith(b"fallow  ") for line in ended.stderr.splitlines())
    assert not set(b"\x1b\r") & {*ended.stderr, *ended.stdout}
    assert b"chosen" in ended.stdout


def test_a_run_that_nobody_watches_tells_what_is_finished_on_stderr_alone(
    fallow: Fallow, trained: Path
) -> None:
    loud = fallow("train", trained / "photos", "--out", "loud")
    lines = loud.err.splitlines()
    assert all(line.startswith("fallow ") for line in lines)
    for told in ("labeled", "probe: done", "propagate: done"):
        assert len([line for line in lines if told in line]) == 1
    as_json = fallow("train", trained / "photos", "--out", "as-json", "--json")
    assert json.loads(as_json.out)["run"] == "as-json"
    assert "propagate: done" in as_json.err
    quiet = fallow("train", trained / "photos", "--out", "quiet", "--quiet")
    assert quiet.err == ""
    assert "chosen" in quiet.out


def test_the_package_and_its_config_load_without_torch() -> None:
    code = "import fallow, fallow.config, fallow.cli, sys; print([m for m in ('torch', 'timm', 'sklearn') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_what_init_writes_is_a_config_of_defaults_that_train_accepts(fallow: Fallow, trained: Path) -> None:
    assert fallow("init", "my.yaml").code == 0
    text = Path("my.yaml").read_text(encoding="utf-8")
    assert "seed: 0\n" in text
    assert "offline: false\n" in text
    ran = fallow("train", trained / "photos", "--config", "my.yaml", "--out", "run", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["seed"] == 0


def test_a_runs_own_config_makes_the_same_run_again(fallow: Fallow, trained: Path) -> None:
    ran = fallow("train", trained / "photos", "--config", trained / "run" / "config.yaml", "--out", "again")
    assert ran.code == 0
    first, again = (json.loads((run / "result.json").read_text()) for run in (trained / "run", Path("again")))
    assert first["chosen"] == again["chosen"]


def test_predictions_come_as_a_table_or_as_json_lines(fallow: Fallow, trained: Path) -> None:
    run, pool = trained / "run", trained / "photos" / "unlabeled"
    table = list(csv.DictReader(io.StringIO(fallow("predict", run, pool).out)))
    lines = [json.loads(line) for line in fallow("predict", run, pool, "--format", "jsonl").out.splitlines()]
    assert list(table[0]) == ["path", "label", "probability", "error"]
    assert [row["path"] for row in table] == [line["path"] for line in lines]
    assert [row["label"] for row in table] == [line["label"] for line in lines]
    for row, line in zip(table, lines, strict=True):
        assert float(row["probability"]) == pytest.approx(line["probability"], abs=1e-4)
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert line["probability"] == max(line["probabilities"].values())


def test_predictions_in_a_file_are_those_on_the_screen(fallow: Fallow, trained: Path) -> None:
    run, pool = trained / "run", trained / "photos" / "unlabeled"
    ran = fallow("predict", run, pool, "--out", "far/new.csv")
    assert ran.out == "wrote 8 predictions to far/new.csv\n"
    assert Path("far/new.csv").read_text() == fallow("predict", run, pool).out


def test_files_folders_and_globs_are_found_and_hidden_and_other_files_are_not(
    fallow: Fallow, trained: Path
) -> None:
    put(Path("new/b.png"))
    put(Path("new/deep/a.jpg"))
    put(Path("new/._b.png"))
    put(Path("new/c.png")).rename("new/no-ending")
    Path("new/notes.txt").write_text("no photo")
    run = trained / "run"

    def paths(*words: object) -> list[str]:
        return [line.split(",")[0] for line in fallow("predict", run, *words).out.splitlines()[1:]]

    assert paths("new") == ["new/b.png", "new/no-ending", "new/deep/a.jpg"]
    assert paths("new/**/*.jpg", "new/b.png") == ["new/deep/a.jpg", "new/b.png"]


def test_a_relative_and_a_model_folder_name_the_same_model(fallow: Fallow, trained: Path) -> None:
    image = put(Path("a.png"), 1)
    assert (
        fallow("predict", trained / "run", image).out
        == fallow("predict", trained / "run" / "model", image).out
    )


def test_pictures_of_16_bits_are_predicted_as_they_were_trained(fallow: Fallow, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def deep(path: Path, bright: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = rng.normal(3000 if bright else 1000, 200, (12, 12))
        Image.fromarray(np.clip(values, 0, 65535).astype(np.uint16)).save(path)

    for i in range(4):
        for name in ("dark", "light"):
            deep(Path(f"data/train/{name}/{i}.png"), name == "light")
            deep(Path(f"new/{name}-{i}.png"), name == "light")
        deep(Path(f"data/unlabeled/{i}.png"), i % 2 == 0)
    assert fallow("train", "data", "--out", "run").code == 0
    rows = list(csv.DictReader(io.StringIO(fallow("predict", "run", "new").out)))
    assert [row["label"] for row in rows] == ["dark"] * 4 + ["light"] * 4
    assert [p.label for p in package.load("run").predict("new")] == [row["label"] for row in rows]


def test_methods_and_doctor_tell_what_there_is(fallow: Fallow) -> None:
    assert "propagate" in fallow("methods").out
    said = fallow("doctor").out
    assert "pixels" in said
    assert "cache: " in said


def test_a_list_with_a_label_map_trains(fallow: Fallow) -> None:
    for split, count in (("train", 3), ("test", 2)):
        lines = []
        for kind in range(2):
            for i in range(count):
                put(Path(f"data/images/{split}-{kind}-{i}.png"), kind)
                lines.append(f"images/{split}-{kind}-{i}.png,{kind}")
        Path(f"data/{split}.csv").write_text("\n".join(lines))
    for i in range(6):
        put(Path(f"data/images/pool-{i}.png"), i % 2)
    Path("data/unlabeled.csv").write_text("\n".join(f"images/pool-{i}.png" for i in range(6)))
    Path("data/label_map.csv").write_text("0,cat\n1,dog\n")
    ran = fallow("train", "data", "--out", "run", "--json")
    found = json.loads(ran.out)["counts"]
    assert [found[k] for k in ("labeled", "unlabeled", "test", "classes")] == [6, 6, 4, 2]
    assert json.loads(Path("run/model/labels.json").read_text()) == ["cat", "dog"]


def test_the_demo_leaves_the_digits_and_a_run_and_can_be_given_again(
    fallow: Fallow, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fallow.verbs import demo as verb

    def few(folder: Path, *, seed: int) -> None:
        photos(folder)

    monkeypatch.setattr(sys.modules[verb.__module__], "write_digits", few)
    for _ in range(2):
        ran = fallow("demo", "runs/demo", "--budget", "20s")
        assert ran.code == 0
        assert "report  runs/demo/report.html" in ran.out
    assert Path("runs/demo-data/seed-0/train/cat/0.png").is_file()
