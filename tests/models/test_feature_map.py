from dataclasses import replace

import numpy as np
import pytest

from fallow.errors import DataError
from fallow.models.feature_map import FeatureMap, fit_feature_map, unit_length

RNG = np.random.default_rng(0)


def correlated(n: int = 200, d: int = 12) -> np.ndarray:
    return (RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d)) + 3.0).astype(np.float32)


def test_transform_follows_its_formula():
    x = correlated()
    fitted = fit_feature_map(x, components=5, whiten=0.5, power=0.5)
    expected = (np.sign(x) * np.abs(x) ** 0.5 - fitted.mean) @ fitted.matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    out = fitted.transform(x)
    assert out.dtype == np.float32
    assert out.shape == (200, 5)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_full_whitening_makes_all_spreads_equal():
    x = correlated()
    fitted = fit_feature_map(x, components=12, whiten=1.0, shrink=0.0)
    spread = ((x - fitted.mean) @ fitted.matrix).std(axis=0)
    np.testing.assert_allclose(spread / spread[0], 1.0, atol=1e-3)


def test_no_whitening_with_all_components_keeps_cosines():
    x = correlated()
    out = fit_feature_map(x, components=12).transform(x)
    centered = unit_length(x - x.mean(axis=0))
    np.testing.assert_allclose(out @ out.T, centered @ centered.T, atol=1e-4)


def test_fewer_rows_than_columns_finds_the_same_directions():
    x = correlated(9, 12)
    out = fit_feature_map(x, components=12).transform(x)
    centered = unit_length(x - x.mean(axis=0))
    assert out.shape[1] == 8
    np.testing.assert_allclose(out @ out.T, centered @ centered.T, atol=1e-4)


def test_unrotated_map_only_centers():
    x = correlated()
    fitted = fit_feature_map(x, components=None)
    assert fitted.matrix is None
    assert fitted.dim_out == 12
    np.testing.assert_allclose(fitted.transform(x), unit_length(x - x.mean(axis=0)), atol=1e-5)


def test_state_round_trip():
    x = correlated()
    for fitted in (
        fit_feature_map(x, components=4, whiten=0.3, power=0.7),
        fit_feature_map(x, components=None),
    ):
        back = FeatureMap.from_state(fitted.state())
        np.testing.assert_allclose(back.transform(x), fitted.transform(x), atol=1e-6)


@pytest.mark.parametrize(
    "x",
    [
        np.ones((10, 4), np.float32),
        np.zeros((3, 4), np.float32),
        np.ones((1, 4), np.float32),
        np.repeat(np.eye(4, dtype=np.float32)[:2], 5, axis=0),
    ],
    ids=["constant", "zero", "one-row", "duplicates"],
)
@pytest.mark.parametrize("whiten", [0.0, 1.0])
def test_degenerate_features_give_no_nan(x, whiten):
    out = fit_feature_map(x, whiten=whiten).transform(x)
    assert np.isfinite(out).all()


def test_errors_say_what_is_wrong():
    with pytest.raises(DataError, match="not finite"):
        fit_feature_map(np.full((3, 2), np.nan, np.float32))
    with pytest.raises(DataError, match="n >= 1"):
        fit_feature_map(np.zeros((0, 2), np.float32))
    with pytest.raises(DataError, match=r"expects \(n, 12\)"):
        fit_feature_map(correlated()).transform(np.zeros((2, 3), np.float32))


def test_the_identity_changes_nothing_and_says_so_on_disk():
    x = correlated()
    identity = FeatureMap.identity(12)
    np.testing.assert_array_equal(identity.transform(x), x)
    back = FeatureMap.from_state(identity.state())
    assert not back.unit
    np.testing.assert_array_equal(back.transform(x), x)


def test_a_map_may_keep_lengths():
    x = correlated()
    fitted = fit_feature_map(x, components=5)
    free = replace(fitted, unit=False)
    np.testing.assert_allclose(free.transform(x), (x - fitted.mean) @ fitted.matrix, atol=1e-4)
    np.testing.assert_allclose(unit_length(free.transform(x)), fitted.transform(x), atol=1e-6)


def test_states_that_do_not_speak_of_length_are_of_unit_length():
    state = fit_feature_map(correlated(), components=4).state()
    assert "unit" not in state
    assert FeatureMap.from_state(state).unit
