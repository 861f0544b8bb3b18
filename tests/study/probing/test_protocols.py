"""Each protocol against what its figure is by definition, and against what no protocol may do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, average_precision_score, silhouette_samples
from sklearn.metrics.cluster import contingency_matrix

from fallow.models import unit_length
from fallow.study.probing.clusters import clusters, purity, silhouette
from fallow.study.probing.deal import Deal
from fallow.study.probing.heads import allowed_shots, draw_shots, linear, low_shot, mlp, svm
from fallow.study.probing.job import ON_FEATURES
from fallow.study.probing.neighbors import average_precision, knn, retrieval, vote
from fallow.study.probing.scores import Scores
from fallow.types import silent

RNG = np.random.default_rng(3)
CLASSES, DIM = 3, 12


def _deal(count: int, test: int = 0, groups: tuple[str, ...] | None = None, seed: int = 0) -> Deal:
    y = (np.arange(count) % CLASSES).astype(np.int64)
    tested = np.arange(count) >= count - test
    return Deal.of(y, groups or tuple(map(str, range(count))), tested, CLASSES, seed)


def _apart(y: np.ndarray, spread: float = 0.02) -> np.ndarray:
    """Features in which the classes lie apart."""
    made = np.eye(CLASSES, DIM)[y] + RNG.normal(scale=spread, size=(len(y), DIM))
    return made.astype(np.float32)


def _noise(count: int) -> np.ndarray:
    return RNG.normal(size=(count, DIM)).astype(np.float32)


@pytest.mark.parametrize("name", ON_FEATURES)
@pytest.mark.parametrize("test", [0, 21])
def test_features_in_which_the_classes_lie_apart_are_judged_perfect(name: str, test: int) -> None:
    deal = _deal(72, test)
    for scores in ON_FEATURES[name](_apart(deal.y), deal, silent):
        found = scores.interval()
        assert found.value == pytest.approx(1.0, abs=0.01), scores.name
        assert found.low <= found.value + 1e-9
        assert found.high <= 1.0
        assert scores.judged == found.n
        assert found.n == len(deal.judged) or (name == "low-shot" and not test)  # some were in every draw


@pytest.mark.parametrize("protocol", [knn, linear, svm, mlp, low_shot])
def test_features_that_say_nothing_of_the_classes_are_judged_at_chance(
    protocol: Callable[..., list[Scores]],
) -> None:
    """A protocol that sees a label on which it is scored would be right far more often."""
    deal = _deal(240)
    for scores in protocol(_noise(240), deal, silent):
        assert 0.2 < scores.interval().value < 0.46, scores.name


def test_clusters_and_ranks_of_features_that_say_nothing_are_at_chance() -> None:
    deal = _deal(240)
    found = {s.name: s.interval().value for s in [*clusters(_noise(240), deal, silent)]}
    assert abs(found["ARI"]) < 0.05
    assert found["NMI"] < 0.08
    assert found["purity"] < 0.5
    ranks = {s.name: s.interval().value for s in retrieval(_noise(240), deal, silent)}
    assert 0.2 < ranks["recall@1"] < 0.46
    assert ranks["recall@5"] == pytest.approx(1 - (2 / 3) ** 5, abs=0.1)
    assert ranks["mAP"] == pytest.approx(1 / 3, abs=0.05)


def test_the_vote_of_neighbors_is_the_sum_of_exp_of_cosine_over_the_temperature() -> None:
    bank, queries, y = unit_length(_noise(40)), unit_length(_noise(15)), RNG.integers(0, CLASSES, 40)
    for k, named in zip((1, 7, 40), vote(bank, y, queries, (1, 7, 40), CLASSES), strict=True):
        for query, answer in zip(queries, named, strict=True):
            cosine = [float(query @ row) for row in bank]
            nearest = sorted(range(40), key=lambda i: -cosine[i])[:k]
            votes = [sum(np.exp(cosine[i] / 0.07) for i in nearest if y[i] == c) for c in range(CLASSES)]
            assert answer == int(np.argmax(votes))


def test_no_more_neighbors_vote_than_there_are_and_the_number_is_told() -> None:
    few = knn(_apart(_deal(24).y), _deal(24), silent)
    assert [(s.name, s.title) for s in few] == [("knn@20", "nearest neighbors, k = 19")]
    assert few[0].detail == "as many as there are"
    some = knn(_apart(_deal(300, 60).y), _deal(300, 60), silent)
    assert [s.title for s in some] == ["nearest neighbors, k = 20", "nearest neighbors, k = 200"]


def test_average_precision_is_that_of_scikit_learn() -> None:
    same = RNG.random((30, 50)) < 0.2
    same[:, 3] = True
    rank = -np.arange(50.0)
    expected = [average_precision_score(row, rank) for row in same]
    assert average_precision(same) == pytest.approx(np.array(expected))


def test_retrieval_ranks_by_cosine_and_asks_neither_itself_nor_its_group() -> None:
    count = 30
    groups = tuple(str(i // 6) for i in range(count))  # two of each class in a group
    deal, x = _deal(count, groups=groups), _noise(count)
    scores = {s.name: s.each for s in retrieval(x, deal, silent)}
    z = unit_length(x)
    for i in range(count):
        others = [j for j in range(count) if groups[j] != groups[i]]
        others.sort(key=lambda j: -float(z[i] @ z[j]))
        right = [deal.y[j] == deal.y[i] for j in others]
        assert scores["recall@5"][i] == any(right[:5])
        expected = average_precision_score(right, -np.arange(len(right)))
        assert scores["mAP"][i] == pytest.approx(expected)


def test_with_a_test_split_only_its_images_ask_and_only_others_are_found() -> None:
    deal, x = _deal(60, 15), _noise(60)
    x[45:] = x[30:45]  # the nearest image is a copy of another class or of the same one
    scores = {s.name: s.each for s in retrieval(x, deal, silent)}
    assert np.isnan(scores["recall@1"][:45]).all()
    assert scores["recall@1"][45:].tolist() == (deal.y[45:] == deal.y[30:45]).tolist()


def test_cluster_figures_are_those_of_the_clusters_that_k_means_finds() -> None:
    y, found = RNG.integers(0, 4, 200), RNG.integers(0, 5, 200)
    assert purity(y, found) == pytest.approx(contingency_matrix(y, found).max(0).sum() / 200)
    deal = _deal(90)
    scores = {s.name: s for s in clusters(_apart(deal.y, 0.4), deal, silent)}
    assert len(scores["ARI"].draws) == 5
    assert adjusted_rand_score(deal.y, deal.y) >= scores["ARI"].interval().value
    low, high = scores["NMI"].interval().low, scores["NMI"].interval().high
    assert low < scores["NMI"].draws.mean() < high


def test_the_silhouette_is_that_of_scikit_learn_on_cosines() -> None:
    deal = _deal(60, 30)
    z = unit_length(_apart(deal.y, 0.3))[deal.judged]
    found = silhouette(z, deal)
    expected = silhouette_samples(z, deal.y[deal.judged], metric="cosine")
    assert found.each[deal.judged] == pytest.approx(expected)
    assert found.interval().value == pytest.approx(expected.mean())


def test_draws_of_few_labels_are_balanced_nested_reproducible_and_never_judged() -> None:
    deal = _deal(120)
    for draw in range(5):
        drawn = draw_shots(deal, 16, draw)
        assert (deal.y[drawn] == np.arange(CLASSES)[:, None]).all()
        assert len(np.unique(drawn)) == CLASSES * 16
        assert (draw_shots(deal, 4, draw) == drawn[:, :4]).all()
    assert (draw_shots(deal, 16, 0) == draw_shots(_deal(120), 16, 0)).all()
    assert (draw_shots(deal, 16, 0) != draw_shots(deal, 16, 1)).any()
    assert (draw_shots(deal, 16, 0) != draw_shots(_deal(120, seed=1), 16, 0)).any()


def test_one_image_of_a_class_at_least_is_left_to_judge_few_labels() -> None:
    assert allowed_shots(_deal(15)) == [1, 2, 4]
    assert allowed_shots(_deal(12)) == [1, 2]
    assert allowed_shots(_deal(12 + 6, 6)) == [1, 2, 4]


@pytest.mark.parametrize("protocol", [knn, linear, low_shot, retrieval])
def test_images_of_one_group_are_never_on_both_sides(protocol: Callable[..., list[Scores]]) -> None:
    """Pairs that are copies of each other but for a label drawn by lot: who may look at the copy is right every time."""
    count = 120
    y = np.repeat(RNG.integers(0, CLASSES, count // 2), 2)
    x = np.repeat(_noise(count // 2) * 5, 2, axis=0)
    groups = tuple(str(i // 2) for i in range(count))
    deal = Deal.of(y, groups, np.zeros(count, bool), CLASSES, 0)
    for scores in protocol(x, deal, silent):
        if scores.name not in ("recall@5", "recall@10"):
            assert scores.interval().value < 0.6, scores.name


def test_what_is_judged_is_never_learned_from() -> None:
    for deal in (_deal(60), _deal(60, 15)):
        for _, rest, held in deal.splits():
            assert not set(rest) & set(held)
            assert set(held) <= set(deal.judged)
            assert set(deal.y[rest]) == set(range(CLASSES))
    once = _deal(60)
    assert sorted(np.concatenate(once.rounds[0])) == list(range(60))
    assert [p.tolist() for p in once.rounds[0]] != [p.tolist() for p in once.rounds[1]]


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_same_seed_measures_the_same(name: str) -> None:
    deal, x = _deal(60), _apart(_deal(60).y, 0.5)
    for one, other in zip(
        ON_FEATURES[name](x, deal, silent), ON_FEATURES[name](x, _deal(60), silent), strict=True
    ):
        assert one.draws.tolist() == other.draws.tolist()
        assert one.interval() == other.interval()


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_backbone_does_not_differ_from_itself_and_surely_from_noise(name: str) -> None:
    deal = _deal(96)
    good, poor = _apart(deal.y, 0.2), _noise(96)
    for one, other in zip(
        ON_FEATURES[name](good, deal, silent), ON_FEATURES[name](poor, deal, silent), strict=True
    ):
        assert one.less(one).value == 0.0
        assert one.less(one).low <= 0.0 <= one.less(one).high
        difference = one.less(other)
        assert difference.value == pytest.approx(one.interval().value - other.interval().value, abs=1e-6)
        if one.name not in ("recall@5", "recall@10"):  # of three classes noise finds one among ten
            assert difference.low > 0, one.name


def test_an_interval_holds_what_other_draws_change() -> None:
    each = np.tile([0.0, 1.0], 50)
    calm = Scores("a", "a", "share", each, np.array([0.5, 0.5, 0.5]), 100, 10)
    wild = Scores("a", "a", "share", each, np.array([0.4, 0.5, 0.6]), 100, 10)
    more = 4.3027 * 0.1 / np.sqrt(3)  # Student's t with two degrees of freedom
    low = calm.interval().value - calm.interval().low
    assert wild.interval().value - wild.interval().low == pytest.approx(np.hypot(low, more), rel=1e-3)
    assert wild.spread == pytest.approx(0.1)
    assert Scores("a", "a", "share", each, np.array([0.5]), 100, 10).spread is None
