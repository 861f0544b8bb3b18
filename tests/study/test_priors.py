"""What experience says: the shipped table, and how it is read."""

from __future__ import annotations

import pytest

from fallow.study import prior, priors

ROWS = (
    {"data": "a", "rung": "propagate", "per_class": 2.0, "gain": 0.10, "sd": 0.02, "draws": 6},
    {"data": "a", "rung": "propagate", "per_class": 20.0, "gain": 0.01, "sd": 0.01, "draws": 6},
    {"data": "b", "rung": "propagate", "per_class": 2.0, "gain": 0.04, "sd": 0.02, "draws": 6},
    {"data": "b", "rung": "propagate", "per_class": 2.5, "gain": 0.00, "sd": 0.02, "draws": 6},
)


def test_the_shipped_table_knows_every_rung_that_uses_the_pool_and_gains_fall_with_labels() -> None:
    shipped = priors.rows()
    assert len({row["data"] for row in shipped}) >= 4
    gains = [prior("propagate", k).mean for k in (1, 2, 5, 20, 60)]
    assert gains == sorted(gains, reverse=True)
    assert gains[1] > 0.03


def test_data_sets_weigh_equally_however_many_cells_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "rows", lambda: ROWS)
    found = prior("propagate", 2.0)
    near = prior("propagate", 20.0)
    # a is 0.10 (its far cell hardly counts), b the mean of 0.04 and 0.00.
    assert found.mean == pytest.approx((0.10 + 0.02) / 2, abs=0.004)
    assert near.mean < found.mean


def test_the_spread_is_that_of_a_new_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "rows", lambda: (ROWS[0], ROWS[2]))
    # Two data sets at 0.10 and 0.04: variance 0.0018, of a prediction 1.5 times as much; draws add 0.02 squared.
    assert prior("propagate", 2.0).sd == pytest.approx((1.5 * 0.0018 + 0.02**2) ** 0.5, rel=1e-6)


def test_a_data_set_that_is_left_out_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "rows", lambda: ROWS)
    assert prior("propagate", 2.0, "b").mean == pytest.approx(0.10, abs=0.003)
    assert prior("propagate", 2.0, "a").mean == pytest.approx(0.02, abs=0.002)


def test_an_unknown_rung_is_expected_to_change_nothing() -> None:
    assert prior("no such rung", 5.0).mean == 0.0
