"""`fallow forecast` and `fallow suggest` from the words to the files they leave."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

import fallow as package
from tests.cli.checks import refused
from tests.cli.conftest import Fallow
from tests.photos import photos, put

PIXELS = ("--offline", "--backbone", "pixels", "--out", "out")
SCRIPTS = "<script>alert(1)</script>"


def test_both_commands_explain_themselves_and_have_nothing_to_resume(fallow: Fallow) -> None:
    for name, option in (("forecast", "--price-per-label"), ("suggest", "--n ")):
        ran = fallow(name, "--help")
        assert ran.code == 0
        assert option in ran.out
        assert "--resume" not in ran.out
        assert f"fallow {name} photos/" in ran.out.partition("Examples:")[2]


def test_a_forecast_leaves_a_sentence_a_page_and_figures(fallow: Fallow) -> None:
    photos(Path("data"), labeled=12, pool=20)
    ran = fallow("forecast", "data", *PIXELS, "--more", "30", "--price-per-label", "0.2")
    assert ran.code == 0
    assert ran.err == ""
    assert "30 more labels: " in ran.out
    kept = json.loads(Path("out/forecast.json").read_text())
    assert kept["sentence"] in ran.out
    assert [rung["rung"] for rung in kept["rungs"]] == ["probe", "propagate"]
    page = Path("out/forecast.html").read_text()
    assert page.count('class="trace k') == 2
    assert "<script" not in page
    assert "labels today" in page
    assert kept["counts"]["test"] == 0  # the test split is not looked at


def test_the_same_forecast_comes_as_json_and_from_python(fallow: Fallow) -> None:
    photos(Path("data"), labeled=12, pool=20)
    told = json.loads(fallow("forecast", "data", *PIXELS, "--json").out)
    made = package.forecast("data", out="again", offline=True, embed={"backbone": "pixels"}, show="nothing")
    assert told["sentence"] == made.sentence
    assert told["rungs"] == json.loads(json.dumps(made.to_json()))["rungs"]


@pytest.mark.parametrize(("labeled", "said"), [(2, "at least 3 of each class"), (4, "there are 8 labels")])
def test_too_few_labels_are_told_in_a_sentence_and_are_no_error(
    fallow: Fallow, labeled: int, said: str
) -> None:
    photos(Path("data"), labeled=labeled)
    ran = fallow("forecast", "data", *PIXELS)
    assert ran.code == 0
    assert "Nothing can be forecast yet" in ran.out
    assert said in ran.out
    assert json.loads(Path("out/forecast.json").read_text())["rungs"] == []
    assert "<svg" not in Path("out/forecast.html").read_text()


def test_suggestions_come_as_a_table_as_tasks_and_as_pictures(fallow: Fallow) -> None:
    photos(Path("data"), pool=12)
    ran = fallow("suggest", "data", *PIXELS, "--n", "5")
    assert ran.code == 0
    rows = list(csv.DictReader(Path("out/suggest.csv").read_text().splitlines()))
    assert list(rows[0]) == ["path", "reason", "score", "cluster"]
    assert len({row["path"] for row in rows}) == 5
    assert all((Path("data") / row["path"]).is_file() for row in rows)
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    tasks = json.loads(Path("out/label-studio.json").read_text())
    assert [task["data"]["path"] for task in tasks] == [row["path"] for row in rows]
    assert tasks[0]["predictions"][0]["result"][0]["value"]["choices"][0] in ("cat", "dog")
    assert 'value="cat"' in Path("out/label-studio.xml").read_text()
    page = Path("out/suggest.html").read_text()
    assert page.count("data:image/webp;base64,") == 5
    assert "Label these 5 images, in this order." in ran.out


def test_a_heap_of_images_without_a_label_is_enough_to_begin_with(fallow: Fallow) -> None:
    photos(Path("data"), pool=10)
    ran = fallow("suggest", "data/unlabeled", *PIXELS, "--n", "4", "--json")
    assert ran.code == 0
    told = json.loads(ran.out)
    assert len(told["items"]) == 4
    assert "to begin with" in told["sentence"]
    assert "TextArea" in Path("out/label-studio.xml").read_text()
    assert all("predictions" not in task for task in json.loads(Path("out/label-studio.json").read_text()))


def test_more_than_there_are_and_none_at_all_are_said(fallow: Fallow) -> None:
    photos(Path("data"), pool=3)
    assert "3 images, in this order (50 were asked for" in fallow("suggest", "data", *PIXELS).out
    shutil.rmtree("data/unlabeled")
    shutil.rmtree("out")
    ran = fallow("suggest", "data", *PIXELS)
    assert ran.code == 0
    assert "every image is labeled" in ran.out
    assert Path("out/suggest.csv").read_text() == "path,reason,score,cluster\n"


def test_names_of_files_and_classes_are_shown_as_they_are_and_run_nothing(fallow: Fallow) -> None:
    photos(Path("data"), classes=("<b>cat", "dog&"), labeled=12, pool=4)
    put(Path("data/unlabeled") / f"{SCRIPTS.replace('/', '')}.png", 0)
    fallow("suggest", "data", *PIXELS, "--n", "9")
    page = Path("out/suggest.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>cat" not in page


def test_what_cannot_be_used_is_told_in_a_sentence_and_leaves_no_folder(fallow: Fallow) -> None:
    photos(Path("data"))
    refused(fallow("suggest", "data", *PIXELS, "--n", "0"), "'n'")
    refused(fallow("forecast", "data", *PIXELS, "--price-per-label", "free"), "price_per_label")
    refused(fallow("forecast", "nowhere", *PIXELS), "nowhere")
    refused(fallow("forecast", "data/unlabeled", *PIXELS), "labels are missing")
    assert not Path("out").exists()
    fallow("suggest", "data", *PIXELS)
    refused(fallow("suggest", "data", *PIXELS), "out", "not empty")
