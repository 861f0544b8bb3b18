"""What experience says: the shipped table, and how it is read."""

from __future__ import annotations

from math import exp

import pytest

from fallow.study import prior, priors

Row = dict[str, object]


def measured(data: str, per_class: float, gain: float, sd: float = 0.02, **other: object) -> Row:
    pair = {"rung": "propagate", "over": "probe", "network": None}
    return {"data": data, **pair, "per_class": per_class, "gain": gain, "sd": sd, "draws": 6, **other}


ROWS = (
    measured("a", 2.0, 0.10),
    measured("a", 20.0, 0.01, 0.01),
    measured("b", 2.0, 0.04),
    measured("b", 2.5, 0.00),
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
    assert prior("propagate", 2.0, without="b").mean == pytest.approx(0.10, abs=0.003)
    assert prior("propagate", 2.0, without="a").mean == pytest.approx(0.02, abs=0.002)


def test_an_unknown_rung_is_expected_to_change_nothing() -> None:
    assert prior("no such rung", 5.0).mean == 0.0


def test_a_pair_is_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    joint = measured("a", 2.0, 0.03, rung="joint", over="propagate", network="scratch")
    monkeypatch.setattr(priors, "rows", lambda: (*ROWS, joint))
    assert prior("joint", 2.0, over="propagate").mean == pytest.approx(0.03)
    assert prior("joint", 2.0).mean == 0.0  # over the probe it was not measured


def test_a_pair_that_was_never_measured_is_told_through_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "rows", lambda: ROWS)
    known, unknown = prior("propagate", 2.0), prior("blend", 2.0)
    found = prior("propagate", 2.0, over="blend")
    assert found.mean == pytest.approx(known.mean)
    assert found.sd == pytest.approx((known.sd**2 + unknown.sd**2) ** 0.5)


def test_data_sets_with_another_kind_of_network_hardly_count(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"rung": "joint", "over": "propagate"}
    told = (
        measured("a", 5.0, -0.10, network="scratch", **pair),
        measured("b", 5.0, 0.02, network="pretrained", **pair),
        measured("c", 5.0, 0.02, network="pretrained", **pair),
    )
    monkeypatch.setattr(priors, "rows", lambda: told)
    alike = prior("joint", 5.0, over="propagate")
    fitting = prior("joint", 5.0, over="propagate", network="pretrained")
    assert alike.mean == pytest.approx(-0.02)
    assert fitting.mean == pytest.approx((0.02 + 0.02 - 0.03) / 2.3)
    assert fitting.sd < alike.sd


def test_the_spread_of_unequal_data_sets_is_the_weighted_unbiased_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = (measured("a", 2.0, 0.10, 0.0), measured("b", 4.0, -0.06, 0.0))
    monkeypatch.setattr(priors, "rows", lambda: told)
    # b is one octave away and weighs exp(-1/2): two points have the variance d^2 / 2 whatever they weigh.
    w = exp(-0.5)
    count = (1 + w) ** 2 / (1 + w * w)
    assert prior("propagate", 2.0).sd == pytest.approx((0.16**2 / 2 * (1 + 1 / count)) ** 0.5)
