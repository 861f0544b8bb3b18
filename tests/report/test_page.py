from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fallow.record import Decision, Interval, RungResult, Waterfall
from fallow.report import ClassRow, MapPoint, ReportData, Thumb, thumbnail, write_report
from fallow.report.page import render, script_json
from tests.report.sample import bare, complete, interval, picture, result

HOSTILE = (
    '</script><script>document.title="pwned"</script><img src=x onerror="document.title=1">'
    "&\"'{{ 7*7 }}\u202e\u2028"
)
VOID = {"meta", "link", "br", "wbr", "img", "use", "circle", "rect", "path"}


class Checker(HTMLParser):
    """Collect tags and text, and insist that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def words(page: str) -> str:
    return " ".join(" ".join(check(page).text).replace("\u00a0", " ").split())


def hostile() -> ReportData:
    data = complete(classes=3, points=30)
    names = [f"{HOSTILE}{i}" for i in range(3)]
    points = [
        MapPoint(i, i * i, f"{HOSTILE}{i}", "unlabeled", None, names[0], 0.5, names[1], 0.5) for i in range(5)
    ]
    return replace(
        data,
        result=result(verdict=HOSTILE, labels_worth_note=HOSTILE),
        run_name=HOSTILE,
        data=HOSTILE,
        classes=names,
        map_points=points,
        map_names=(HOSTILE, HOSTILE),
        per_class=[ClassRow(name, 3, None, 0.5) for name in names],
        misclassified=[Thumb(HOSTILE, picture(np.random.default_rng(0)), HOSTILE, 0.5, HOSTILE + "x")],
        surest=[Thumb(HOSTILE, None, HOSTILE, 0.5)],
        decisions=[Decision(HOSTILE, HOSTILE, "rule", HOSTILE, {HOSTILE: [HOSTILE]})],
        audit={
            "source": HOSTILE,
            "class_counts": {"train": {HOSTILE: 1}},
            "skipped": [{"id": HOSTILE, "kind": "damaged", "reason": HOSTILE, "split": HOSTILE}],
            "twins": [{"ids": [HOSTILE] * 20, "how": HOSTILE}],
        },
        environment={HOSTILE: HOSTILE},
        command=HOSTILE,
        notes=[HOSTILE],
    )


def test_complete_page_says_everything() -> None:
    page = render(complete())
    text = words(page)
    for part in (
        "84.8 %",
        "labels only 72.6 %",
        "≈ 160 labels",
        "What these figures mean",
        "labels spread to similar unlabeled images",
        "3 min 02 s",
        "+12.2 ± 4.1",
        "cut short at step 120",
        "Clusters, before and after",
        "Reach without trespass",
        "leave off",
        "fine up to 0.3",
        "Commonest confusions",
        "Class by class",
        "The most doubtful",
        "embed. views",
        "the file ends early",
        "1 leak",
        "1 conflict",
        "1 group of twins",
        "coral-otter-again",
        "once; they decided nothing",
    ):
        assert part in text, part


def test_page_asks_the_network_for_nothing() -> None:
    page = render(complete())
    for tag, attrs in check(page).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            link = attrs.get(name)
            assert link is None or link.startswith(("data:", "#")), (tag, link)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)


def test_page_is_accessible_in_structure() -> None:
    for data in (complete(), bare()):
        tags = check(render(data)).tags
        assert ("html", {"lang": "en"}) in tags
        assert [tag for tag, _ in tags].count("h1") == 1
        levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert all("alt" in attrs for tag, attrs in tags if tag == "img")
        names = [tag for tag, _ in tags]
        assert names.count("table") == names.count("caption")
        anchors = {attrs["id"] for _, attrs in tags if "id" in attrs}
        links = {a["href"][1:] for t, a in tags if t == "a" and a.get("href")}
        assert links <= anchors


def test_everything_missing_still_makes_a_page() -> None:
    text = words(render(bare()))
    assert "cannot be measured" in text
    assert "There are no unlabeled images" in text
    assert "nothing can be held out" in text
    assert "Reach" not in text
    assert "None" not in text


def test_labels_only_was_chosen() -> None:
    data = complete()
    probe = data.result.rungs[0]
    page = render(replace(data, result=result(chosen=probe, worth_labels=0)))
    assert page.count('<svg class="map"') == 1
    assert "from labels alone" in words(page)


def test_hostile_names_stay_words() -> None:
    page = render(hostile())
    checker = check(page)
    scripts = [attrs for tag, attrs in checker.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "map-data"}, {}]
    assert not any(name.startswith("on") for _, attrs in checker.tags for name in attrs)
    images = [attrs["src"] for tag, attrs in checker.tags if tag == "img"]
    assert all(src is not None and src.startswith("data:image/webp;base64,") for src in images)
    assert "{{ 7*7 }}" in " ".join(checker.text)
    data = re.search(r'<script type="application/json" id="map-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["classes"] == [f"{HOSTILE}{i}" for i in range(3)]


def test_names_that_are_not_unicode_are_written(tmp_path: Path) -> None:
    data = replace(bare(), run_name="caf\udce9\x00", notes=["caf\udce9"])
    write_report(tmp_path / "r.html", data)
    (tmp_path / "r.html").read_text(encoding="utf-8")


def test_script_json_cannot_end_its_element() -> None:
    value = {"a": "</script><!--", "b": [1, None, "\u2028&"]}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_large_runs_stay_under_ten_megabytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    heavy = thumbnail(noise, 96, 95)  # far heavier than any photo
    classes = [f"class {i}" for i in range(1000)]
    points = [
        MapPoint(
            i % 50, i // 50, f"u/{i}", "unlabeled", None, classes[i % 999], 0.4, classes[i % 1000], 0.8, heavy
        )
        for i in range(5000)
    ]
    grid = [Thumb(f"{i}", heavy, classes[i], 0.5, classes[i + 1]) for i in range(500)]
    data = replace(
        complete(),
        classes=classes,
        map_points=points,
        misclassified=grid,
        surest=grid,
        doubtful=grid,
        confusion=np.full((1000, 1000), 3),
        per_class=[ClassRow(name, 3, 0.5, 0.5, 0.5) for name in classes],
        audit={"skipped": [{"id": f"{i}" * 50, "reason": "broken", "split": "train"} for i in range(5000)]},
    )
    write_report(tmp_path / "r.html", data)
    assert (tmp_path / "r.html").stat().st_size < 10_000_000
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<use ") <= 2 * 2000 + 1000
    assert "4,976 more" in page


def test_waterfall_bars_are_measured_and_to_scale() -> None:
    page = render(complete())
    assert 'aria-label="error 15.2 %, 95 % interval 11.2 to 19.2, 210 images"' in page
    fills = [float(w) for w in re.findall(r'class="fill" style="width:([\d.]+)%"', page)]
    assert fills[1] / fills[0] == pytest.approx(0.152 / 0.274, rel=0.01)
    assert "0 34.0 %" in words(page), "the scale ends where the longest interval does"
    assert page.count('class="worse"') == 1


def test_a_perfect_and_a_hopeless_rung() -> None:
    perfect = RungResult("probe", Interval(1.0, 1.0, 1.0, 40), 1.0, kept=True, seconds=1)
    page = render(
        replace(
            bare(),
            result=result(rungs=(perfect,), waterfall=Waterfall(), labels_only=perfect, chosen=perfect),
        )
    )
    assert "0.0 %" in words(page)
    hopeless = RungResult("probe", interval(0.0, 0.0), 0.0, kept=True, seconds=1)
    assert "100.0 %" in words(
        render(replace(bare(), result=result(rungs=(hopeless,), waterfall=Waterfall())))
    )


def test_held_out_without_a_test_split() -> None:
    rungs = tuple(replace(rung, test=None) for rung in result().rungs)
    study = result(rungs=rungs, labels_only=rungs[0], chosen=rungs[1], test_reads=())
    text = words(render(replace(complete(), result=study, confusion_source="held-out")))
    assert "There is no test split" in text
    assert "Test accuracy" not in text
    assert "Error, test" not in text
    assert "Counted on held-out images" in text


def test_the_page_opens_with_the_sentence_then_the_waterfall_then_the_map() -> None:
    data = replace(complete(), result=result(verdict="It helped by 3.5 points. On 420 test images: 84.8 %."))
    checker = check(render(data))
    order = [attrs["id"] for tag, attrs in checker.tags if tag == "h2" and "id" in attrs]
    wanted = [
        "waterfall",
        "map",
        "reach",
        "pseudo",
        "confusion",
        "classes",
        "mistakes",
        "decisions",
        "audit",
        "again",
    ]
    assert order == wanted
    sentence = re.search(r"<h1>(.*?)</h1>", render(data))
    assert sentence is not None
    assert sentence[1] == "It helped by 3.5 points."


def test_bars_say_how_many_images_are_behind_them_when_they_differ() -> None:
    text = words(render(complete()))
    assert "210 images, 5 held-out fits" in text
    assert "84 images, 5 held-out fits" in text
    rungs = result().rungs[:2]
    bars = Waterfall(result().waterfall.bars[:2])
    assert "held-out fits" not in words(
        render(replace(complete(), result=result(rungs=rungs, waterfall=bars)))
    )


def test_long_lists_are_cut_with_the_number_of_the_rest() -> None:
    mix = {f"class {i}": 0.05 for i in range(20)}
    data = replace(
        complete(), decisions=[Decision("pool.mix", mix, "rule", "Estimated.", {"mean_certainty": 0.69})]
    )
    text = words(render(data))
    assert "class 7 0.05, and 12 more" in text
    assert "mean certainty 0.69" in text


def test_a_twin_that_is_told_as_leak_or_conflict_is_told_once() -> None:
    audit = dict(complete().audit)
    pair = ["train/a/9.jpg", "test/a/1.jpg"]
    audit["twins"] = [
        *audit["twins"],
        {"ids": pair, "how": "same file"},
        {"ids": [pair[0], "x"], "how": "same file"},
    ]
    text = words(render(replace(complete(), audit=audit)))
    assert text.count("train/a/9.jpg") == 2, "as the leak, and as the twin of another image"
    assert "2 groups of twins" in text


def test_time_for_reach_that_was_missing_is_said() -> None:
    assert "no time was left" in words(render(replace(complete(), reach=())))
