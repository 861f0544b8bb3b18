from __future__ import annotations

import numpy as np
import pytest

from fallow.errors import RunError
from fallow.models import Branch, EmbeddingClassifier, FeatureMap, LinearHead, Space

RNG = np.random.default_rng(0)
ONE = Space("one", "a", 32, "turns")
TWO = Space("two", "b", 16, "none")


def _branch(space: Space, dim: int, pool: str, matrix: bool = True) -> Branch:
    k = 4 if matrix else dim
    weights = RNG.normal(size=(dim, 4)).astype(np.float32) if matrix else None
    feature_map = FeatureMap(RNG.normal(size=dim).astype(np.float32), weights, 0.5 if matrix else 1.0)
    head = LinearHead(
        RNG.normal(size=(k, 3)).astype(np.float32) * 5, RNG.normal(size=3).astype(np.float32), 1.7
    )
    return Branch(space, feature_map, head, pool)  # type: ignore[arg-type]


@pytest.fixture
def classifier() -> EmbeddingClassifier:
    branches = [_branch(ONE, 6, "probs"), _branch(ONE, 6, "features", False), _branch(TWO, 7, "features")]
    return EmbeddingClassifier(branches, ["x", "y", "z"], 0.8, [2, 1, 1])


@pytest.fixture
def features() -> dict[str, np.ndarray]:
    return {
        ONE.key: RNG.normal(size=(10, 8, 6)).astype(np.float32),
        TWO.key: RNG.normal(size=(10, 1, 7)).astype(np.float32),
    }


def _by_the_formula(classifier: EmbeddingClassifier, features: dict[str, np.ndarray]) -> np.ndarray:
    """Written from the definition, one image and one view at a time, in float64."""

    def judged(branch: Branch, vector: np.ndarray) -> np.ndarray:
        fm, head = branch.feature_map, branch.head
        v = np.sign(vector) * np.abs(vector) ** fm.power - fm.mean
        v = v if fm.matrix is None else v @ fm.matrix
        logits = (v / np.linalg.norm(v) @ head.weight + head.bias) / head.temperature
        return logits - np.log(np.exp(logits).sum())

    rows = []
    for row in range(len(features[ONE.key])):
        total = 0
        for branch, weight in zip(classifier.branches, classifier.branch_weights, strict=True):
            views = features[branch.space.key][row].astype(np.float64)
            if branch.pool == "features":
                part = judged(branch, views.mean(0))
            else:
                part = np.mean([judged(branch, view) for view in views], axis=0)
            total = total + weight * part
        probs = np.exp(total / classifier.temperature)
        rows.append(probs / probs.sum())
    return np.array(rows)


def test_it_is_the_vote_that_the_docstring_says(
    classifier: EmbeddingClassifier, features: dict[str, np.ndarray]
) -> None:
    probs = classifier.predict_probs(features)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs, _by_the_formula(classifier, features), atol=1e-5)
    np.testing.assert_allclose(classifier.branch_weights, [0.5, 0.25, 0.25])
    assert classifier.spaces == (ONE, TWO)


def test_state_goes_there_and_back(classifier: EmbeddingClassifier, features: dict[str, np.ndarray]) -> None:
    tensors, meta = classifier.state()
    again = EmbeddingClassifier.from_state(tensors, meta)
    np.testing.assert_array_equal(again.predict_probs(features), classifier.predict_probs(features))
    assert again.state()[1] == meta
    with pytest.raises(RunError, match="incomplete"):
        EmbeddingClassifier.from_state({k: v for k, v in tensors.items() if "bias" not in k}, meta)
    with pytest.raises(RunError, match="kind"):
        EmbeddingClassifier.from_state(tensors, {"kind": "other"})


def test_images_do_not_see_each_other(
    classifier: EmbeddingClassifier, features: dict[str, np.ndarray]
) -> None:
    whole = classifier.predict_probs(features)
    single = classifier.predict_probs({key: value[4:5] for key, value in features.items()})
    np.testing.assert_allclose(single[0], whole[4], atol=1e-6)


def test_extreme_logits_stay_finite() -> None:
    head = LinearHead(np.array([[1e4, -1e4]], np.float32), np.zeros(2, np.float32))
    branch = Branch(TWO, FeatureMap(np.zeros(1, np.float32)), head)
    probs = EmbeddingClassifier([branch], ["a", "b"]).predict_probs({TWO.key: np.ones((1, 1, 1), np.float32)})
    np.testing.assert_allclose(probs, [[1, 0]])
    zero = EmbeddingClassifier([branch], ["a", "b"]).predict_probs({TWO.key: np.zeros((1, 1, 1), np.float32)})
    np.testing.assert_allclose(zero, [[0.5, 0.5]])


def test_what_does_not_fit_is_refused(features: dict[str, np.ndarray]) -> None:
    branch = _branch(TWO, 7, "features")
    for arguments in (
        ([], ["a"]),
        ([branch], ["a", "b"]),
        ([branch], ["x", "y", "z"], 1.0, [1, 2]),
        ([branch], ["x", "y", "z"], 0.0),
        ([branch], ["x", "y", "z"], 1.0, [-1]),
    ):
        with pytest.raises(RunError):
            EmbeddingClassifier(*arguments)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="two@b/16/none"):
        EmbeddingClassifier([branch], ["x", "y", "z"]).predict_probs({})
