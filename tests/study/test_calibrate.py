"""Probabilities that mean what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fallow.export import load_bundle
from fallow.study.calibrate import calibrate, calibration_error, log_loss
from fallow.study.evidence import OutOfFold, tempered
from tests.study.digits import decisions, hasten, train, write_digits


def simulated(n: int, classes: int, sharpened: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw honest posteriors, labels from them, and return the posteriors made ``sharpened`` times too sure."""
    rng = np.random.default_rng(seed)
    honest = tempered(rng.dirichlet(np.ones(classes), n), 0.5)
    labels = np.array([rng.choice(classes, p=p) for p in honest])
    return tempered(honest, 1 / sharpened).astype(np.float32), labels


def evidence_of(probs: np.ndarray, labels: np.ndarray, repeats: int = 1) -> OutOfFold:
    found = OutOfFold(tuple(map(str, range(len(labels)))), labels, probs.shape[1])
    for repeat in range(repeats):
        for fold in range(2):
            held_out = np.arange(fold, len(labels), 2)
            found.add("probe", f"{repeat}-{fold}", held_out, probs[held_out])
    return found


@pytest.mark.parametrize("sharpened", [3.0, 0.4])
def test_a_model_that_is_too_sure_or_too_modest_becomes_calibrated_on_images_it_was_not_fitted_on(
    sharpened: float,
) -> None:
    probs, labels = simulated(3000, 5, sharpened, 0)
    temperature, made = calibrate("probe", evidence_of(probs[:400], labels[:400]), 2)
    assert temperature == pytest.approx(sharpened, rel=0.25)
    assert made.value == temperature
    fresh, truth = probs[400:], labels[400:]
    better = tempered(fresh, temperature)
    assert calibration_error(better, truth) < 0.5 * calibration_error(fresh, truth)
    assert log_loss(better, truth) < log_loss(fresh, truth)
    np.testing.assert_array_equal(better.argmax(1), fresh.argmax(1))


def test_few_labels_are_believed_less_and_repeats_do_not_make_them_more() -> None:
    probs, labels = simulated(400, 5, 3.0, 1)
    few, many = (calibrate("probe", evidence_of(probs[:n], labels[:n]), 2)[0] for n in (12, 400))
    assert 1.0 < few < many
    again = calibrate("probe", evidence_of(probs[:12], labels[:12], repeats=10), 2)[0]
    assert again == pytest.approx(few, abs=1e-3)


def test_where_nothing_is_held_out_the_temperature_stays_one_and_the_reason_is_given() -> None:
    temperature, made = calibrate("probe", OutOfFold(("a",), np.array([0]), 2), 0)
    assert temperature == 1.0
    assert made.value == 1.0
    assert "held out" in made.rule


def test_the_posteriors_shown_are_calibrated_and_the_guesses_are_not_touched() -> None:
    probs, labels = simulated(60, 3, 4.0, 2)
    evidence = evidence_of(probs, labels)
    before = evidence.correct(("probe",))
    evidence.calibrate("probe", 4.0)
    shown = evidence.probs("probe")[1]
    np.testing.assert_allclose(shown, tempered(probs, 4.0), rtol=1e-4)
    np.testing.assert_array_equal(evidence.correct(("probe",))[1]["probe"], before[1]["probe"])
    np.testing.assert_allclose(np.exp(evidence.rows("probe")[1][:30]), probs[::2], atol=1e-6)  # as they were


def test_the_exported_model_carries_the_temperature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    result = train(write_digits(tmp_path / "data", labels=5), tmp_path / "run")
    bundle = load_bundle(tmp_path / "run" / "model")
    rung = result.study.chosen.rung
    value = decisions(tmp_path / "run")[f"{rung}.temperature"]["value"]
    assert value != 1.0
    assert bundle.classifier().temperature == value
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    assert bundle.predict_probs([image]).sum() == pytest.approx(1.0, abs=1e-5)
