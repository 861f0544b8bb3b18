"""Images embedded and looked up, from a folder to an answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import nn

import fallow
from fallow.errors import ConfigError, DataError, RunError
from tests.photos import photos


class Colors(nn.Module):
    """A network that says of an image its mean colors."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = photos(
        tmp_path_factory.mktemp("embed") / "data", classes=("cat", "dog", "<b>emu"), labeled=8, pool=6, test=0
    )
    (folder / "unlabeled" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> fallow.Embedded:
    return fallow.embed(data, model="pixels", out=tmp_path_factory.mktemp("out") / "vectors", map="tsne")


def test_table_array_and_result_say_the_same(made: fallow.Embedded, data: Path) -> None:
    table = pq.read_table(made.path / "embeddings.parquet")
    array = np.load(made.path / "embeddings.npy")
    assert table["path"].to_pylist() == list(made.ids)
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), array)
    np.testing.assert_array_equal(array, made.vectors)
    assert array.dtype == np.float32
    assert set(table["split"].to_pylist()) == {"train", "unlabeled"}
    for path, split, label in zip(*(table[c].to_pylist() for c in ("path", "split", "label")), strict=True):
        assert (data / path).is_file()
        assert label == (Path(path).parent.name if split == "train" else None)


def test_a_file_that_cannot_be_read_is_left_out_and_told(made: fallow.Embedded) -> None:
    kept = json.loads((made.path / "embed.json").read_text())
    assert "unlabeled/torn.png" in kept["skipped"]
    assert "torn.png" in made.screen()
    assert "torn.png" in (made.path / "neighbors.html").read_text()


def test_names_on_the_pages_are_escaped(made: fallow.Embedded) -> None:
    for name in ("neighbors.html", "map.html"):
        page = (made.path / name).read_text()
        assert "<b>emu" not in page
        assert "emu" in page


def test_an_embedded_image_finds_itself_and_its_class(made: fallow.Embedded, data: Path) -> None:
    rows = [i for i, name in enumerate(made.labels.tolist()) if name]
    asked = [data / made.ids[i] for i in rows]
    found = fallow.find(asked, made.path, k=3, threshold="none")
    for one, row in zip(found.found, rows, strict=True):
        assert one.near[0].path == made.ids[row]
        assert one.near[0].distance == pytest.approx(0, abs=1e-5)
        assert one.label == made.labels[row]
        assert len(one.near) == 3
        assert [near.distance for near in one.near] == sorted(near.distance for near in one.near)


def test_nothing_matches_within_no_distance_and_an_unreadable_image_says_why(
    made: fallow.Embedded, data: Path
) -> None:
    stranger = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert not fallow.find(stranger, made.path, threshold=0.0)[0].match
    found = fallow.find([data / "unlabeled" / "torn.png", stranger], made.path)
    assert found[0].error
    assert found[1].near
    assert "cannot be read" in found.screen()
    assert found.to_json()["images"][0]["error"] == found[0].error


def test_a_threshold_is_the_calibrated_one_and_says_what_it_is_worth(
    made: fallow.Embedded, data: Path
) -> None:
    best = made.gallery.calibration.usually
    assert best is not None
    found = fallow.find(data / made.ids[0], made.path)
    assert found.threshold == best.distance
    assert f"{100 * best.precision:.1f} %" in found.meaning
    with pytest.raises(ConfigError, match="give one of them"):
        fallow.find(data / made.ids[0], made.path, threshold=0.1, precision=0.8)


def test_without_labels_what_is_usual_stands_for_a_match(data: Path, tmp_path: Path) -> None:
    made = fallow.embed(data / "unlabeled", model="pixels", out=tmp_path / "v", map="none")
    assert not (made.path / "map.html").exists()
    found = fallow.find(data / "unlabeled" / made.ids[0], made.path)
    assert found.threshold == made.gallery.calibration.usual
    assert "needs labels" in found.meaning
    with pytest.raises(ConfigError, match="too few labels"):
        fallow.find(data / "unlabeled" / made.ids[0], made.path, precision=0.9)


def test_a_network_that_was_handed_in_is_needed_again(data: Path, tmp_path: Path) -> None:
    made = fallow.embed(data, model=Colors(), size=16, out=tmp_path / "v", map="none")
    assert made.vectors.shape[1] == 3
    asked = data / made.ids[0]
    with pytest.raises(ConfigError, match="hand it to"):
        fallow.find(asked, made.path)
    assert fallow.find(asked, made.path, model=Colors())[0].near[0].path == made.ids[0]


def test_other_weights_than_those_that_embedded_are_told(
    made: fallow.Embedded, data: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(made.path, tmp_path / "copy")
    meta = json.loads((copy / "embed.json").read_text())
    meta["model"]["parts"][0][1] = "0123456789ab"
    (copy / "embed.json").write_text(json.dumps(meta))
    with pytest.raises(RunError, match="other weights"):
        fallow.find(data / made.ids[0], copy)


def test_an_index_answers_as_the_exact_search_does(data: Path, made: fallow.Embedded, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    indexed = fallow.embed(data, model="pixels", out=tmp_path / "v", map="none", index=True)
    asked = [data / name for name in made.ids[:5]]
    plain, fast = (fallow.find(asked, where, k=2, threshold="none") for where in (made.path, indexed.path))
    assert [one.near[0].path for one in fast.found] == [one.near[0].path for one in plain.found]


@pytest.mark.slow
def test_a_map_by_umap_is_there_where_it_is_installed(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("umap")
    made = fallow.embed(data, model="pixels", out=tmp_path / "v", map="umap")
    assert "laid out by UMAP" in (made.path / "map.html").read_text()


def test_what_cannot_be_used_is_told_in_a_sentence_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no embedded images"):
        fallow.find(data / "unlabeled", tmp_path)
    with pytest.raises(DataError, match="no image to look up"):
        fallow.find([], fallow.embed(data, model="pixels", map="none", out=tmp_path / "g").path)
    with pytest.raises(DataError, match="matches nothing"):
        fallow.find(tmp_path / "not-there.png", fallow.embed(data, model="pixels", out=tmp_path / "e").path)
    with pytest.raises(DataError):
        fallow.embed(tmp_path / "nowhere", out=tmp_path / "v")
    assert not (tmp_path / "v").exists()
