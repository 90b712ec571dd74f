"""Triplet accuracy, ranks, Wang et al.'s figures, retrieval figures, heat map and paired comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from scipy.spatial.distance import cdist
from scipy.stats import binom

from streamwatch.errors import SourceUnusable, UsageError
from streamwatch.offline.comparing import compare, pair_up
from streamwatch.offline.evaluation import Settings, bootstrap_interval, evaluate, image_labels
from streamwatch.offline.heatmap import Bounds, heat_map_svg, rank_histogram, regions
from streamwatch.offline.retrieval import CUTS
from streamwatch.offline.runs import Run, load_run, save_run

Integers = NDArray[np.int64]
Vectors = NDArray[np.float32]


def labelled(classes: int, each: int, *, dimensions: int = 16, seed: int = 0) -> tuple[Vectors, Integers, list[str]]:
    """Vectors around a centre for each class, and a triplet within its class for each of them."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), each)
    vectors = rng.normal(size=(classes, dimensions))[label] + 1.5 * rng.normal(size=(len(label), dimensions))
    triplets = []
    for query, kind in enumerate(label):
        mates = np.flatnonzero(label == kind)
        triplets.append([query, *rng.choice(mates[mates != query], 2, replace=False)])
    return vectors.astype(np.float32), np.array(triplets, np.int64), [f"class {kind}" for kind in label]


def on_a_line(*places: float) -> Vectors:
    return np.array(places, np.float32)[:, None]


def test_accuracy_counts_ties_as_half_and_says_how_many() -> None:
    # Given pictures on a line, and triplets that are right, wrong and tied
    vectors = on_a_line(0, 1, 2, -1, 5)
    triplets = np.array([[0, 1, 2], [0, 4, 1], [0, 1, 3], [4, 2, 1]])
    # When they are evaluated
    found = evaluate(vectors, triplets, "euclidean")
    # Then
    assert found.outcomes.tolist() == [1, 0, 0.5, 1]
    assert (found.accuracy, found.ties, found.triplets) == (0.625, 1, 4)
    assert found.low <= found.accuracy <= found.high
    assert found.class_restricted is None
    assert found.retrieval is None


def test_ranks_are_among_all_images_but_the_query() -> None:
    vectors = on_a_line(0, 1, 2, -1, 5)
    found = evaluate(vectors, np.array([[0, 4, 2], [0, 1, 4]]), "sqeuclidean")
    assert found.ranks.tolist() == [[4, 3], [1.5, 4]]  # 1 and −1 share the first two places
    assert found.pool == 4


def test_distances_that_are_not_defined_are_farthest_and_counted() -> None:
    # Given a picture of which the network sees nothing
    vectors = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.float32)
    found = evaluate(vectors, np.array([[0, 2, 1], [0, 1, 2], [2, 0, 1]]), "cosine")
    assert found.undefined == 3
    assert found.outcomes.tolist() == [0, 1, 0.5]


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    # Given 200 studies of triplets whose true accuracy is 0.8, in classes that share their difficulty
    rng = np.random.default_rng(1)
    covered = 0
    for study in range(200):
        chance = np.clip(rng.normal(0.8, 0.1, 60), 0, 1)
        outcomes = (rng.random((60, 5)) < chance[:, None]).astype(np.float64).ravel()
        groups = np.repeat(np.arange(60), 5)
        low, high = bootstrap_interval(outcomes, groups, settings=Settings(seed=study, bootstrap=400))
        covered += low <= 0.8 <= high
    # Then about 95 % of their intervals hold it
    assert 0.90 <= covered / 200 <= 0.99


def test_the_interval_is_wider_where_triplets_of_a_class_go_together() -> None:
    outcomes = np.repeat([1.0, 0.0], 50)
    alone = bootstrap_interval(outcomes, np.arange(100), settings=Settings())
    together = bootstrap_interval(outcomes, np.repeat(np.arange(10), 10), settings=Settings())
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_equal_seeds_give_equal_figures() -> None:
    vectors, triplets, classes = labelled(4, 12)
    one, same, other = (
        evaluate(vectors, triplets, "cosine", classes=classes, settings=Settings(seed=seed, class_sample=8, top=3))
        for seed in (3, 3, 4)
    )
    assert one.class_restricted == same.class_restricted
    assert (one.low, one.high) == (same.low, same.high)
    assert (one.low, one.high, one.class_restricted) != (other.low, other.high, other.class_restricted)


def test_score_at_top_k_is_wang_et_als_over_the_whole_class() -> None:
    # Given classes small enough to be ranked whole
    vectors, triplets, classes = labelled(5, 20)
    top = 4
    # When the class-restricted figures are taken
    found = evaluate(vectors, triplets, "sqeuclidean", classes=classes, settings=Settings(top=top)).class_restricted
    # Then they are what ranking each query's class by hand gives
    label = image_labels(triplets, classes, len(vectors))
    distance = cdist(vectors.astype(np.float64), vectors.astype(np.float64), "sqeuclidean")
    score = counted = 0
    for query, positive, negative in triplets:
        mates = np.flatnonzero((label == label[query]) & (np.arange(len(label)) != query))
        order = mates[np.argsort(distance[query, mates])].tolist()
        ranks = order.index(positive) + 1, order.index(negative) + 1
        if min(ranks) <= top:
            counted += 1
            score += 1 if ranks[0] < ranks[1] else -1
    assert found is not None
    assert (found.score, found.counted) == (score, counted)
    assert (found.smallest, found.largest, found.short) == (19, 19, 100)


def test_a_class_of_1500_images_is_sampled_down_to_1000() -> None:
    # Given a class of 1,500 generated images beside a small one
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(1530, 8)).astype(np.float32)
    large = [[query, *rng.choice(np.delete(np.arange(1500), query), 2, replace=False)] for query in range(0, 1500, 3)]
    large += [[query, (query + 7) % 1500, (query + 13) % 1500] for query in range(1500)]
    small = [[1500 + n, 1500 + (n + 1) % 30, 1500 + (n + 2) % 30] for n in range(30)]
    triplets = np.array(large + small, np.int64)
    classes = ["large"] * len(large) + ["small"] * 30
    # When the class-restricted figures are taken twice
    figures = [
        evaluate(vectors, triplets, "euclidean", classes=classes, settings=Settings(seed=seed)).class_restricted
        for seed in (0, 0)
    ]
    # Then 1,000 of the large class were ranked, all of the small one, which is said, and the same each time
    assert figures[0] == figures[1]
    assert figures[0] is not None
    assert (figures[0].largest, figures[0].smallest, figures[0].short) == (1000, 29, 30)
    # And fewer triplets reach the top 30 of 1,000 than of all 1,500's nearest share: about 2 × 30 / 1000
    assert 0.03 < (figures[0].counted - 30) / len(large) < 0.09


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_retrieval_figures_are_pytorch_metric_learnings(metric: str) -> None:
    # Given vectors of classes of different sizes
    vectors, triplets, classes = labelled(12, 15)
    keep = np.flatnonzero(np.arange(180) % 15 < 3 + np.arange(180) // 15)
    vectors, classes = vectors[keep], [classes[number] for number in keep]
    label = np.unique(classes, return_inverse=True)[1]
    triplets = np.array(
        [
            [query, *[mate for mate in np.flatnonzero(label == label[query]) if mate != query][:2]]
            for query in range(len(label))
        ]
    )
    # When they are evaluated
    found = evaluate(vectors, triplets, metric, classes=classes).retrieval
    # Then the figures are those of the reference
    calculator = AccuracyCalculator(
        include=("mean_average_precision", "r_precision", "precision_at_1"),
        k=len(vectors) - 1,
        knn_func=CustomKNN(LpDistance(normalize_embeddings=metric == "cosine")),
    )
    wanted = calculator.get_accuracy(torch.from_numpy(vectors), torch.from_numpy(label))
    assert found is not None
    assert found.mean_average_precision == pytest.approx(wanted["mean_average_precision"], abs=1e-6)
    assert found.r_precision == pytest.approx(wanted["r_precision"], abs=1e-6)
    assert found.cmc[0] == pytest.approx(wanted["precision_at_1"], abs=1e-6)
    assert found.queries == len(vectors)


def test_recall_and_cmc_are_what_counting_by_hand_gives() -> None:
    vectors, triplets, classes = labelled(6, 9, seed=3)
    found = evaluate(vectors, triplets, "cityblock", classes=classes).retrieval
    label = image_labels(triplets, classes, len(vectors))
    distance = cdist(vectors.astype(np.float64), vectors.astype(np.float64), "cityblock")
    np.fill_diagonal(distance, np.inf)
    hits = label[np.argsort(distance, axis=1)] == label[:, None]
    assert found is not None
    for place, cut in enumerate(CUTS):
        first = hits[:, : min(cut, len(vectors) - 1)].sum(axis=1)
        assert found.recall[place] == pytest.approx((first / 8).mean())
        assert found.cmc[place] == pytest.approx((first > 0).mean())


def test_ties_do_not_help_retrieval() -> None:
    # Given vectors that are all the same
    _, triplets, classes = labelled(3, 5)
    found = evaluate(np.ones((15, 4), np.float32), triplets, "euclidean", classes=classes)
    assert found.retrieval is not None
    assert found.retrieval.mean_average_precision == pytest.approx((1 + 2 + 3 + 4) / 4 / 14)
    assert (found.accuracy, found.ties) == (0.5, 15)


def test_dimensions_that_never_change_are_left_out_of_variances() -> None:
    vectors, triplets, _ = labelled(3, 20)
    padded = np.concatenate([vectors, np.full((60, 2), 3, np.float32)], axis=1)
    for metric in ("seuclidean", "mahalanobis"):
        assert evaluate(padded, triplets, metric).ranks.tolist() == evaluate(vectors, triplets, metric).ranks.tolist()
    with pytest.raises(UsageError, match="no dimension has a variance"):
        evaluate(np.ones((9, 4), np.float32), np.array([[0, 1, 2]]), "seuclidean")


@pytest.mark.parametrize(
    ("vectors", "metric", "message"),
    [
        (np.array([[1], [np.nan], [2]], np.float32), "cosine", "1 of 3 vectors hold NaN or infinity"),
        (np.array([[1], [-1], [2]], np.float32), "jensenshannon", "hold negative numbers"),
        (np.array([[1], [2], [3]], np.float32), "cosinus", "did you mean 'cosine'"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(vectors: Vectors, metric: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(vectors, np.array([[0, 1, 2]]), metric)


def test_a_triplet_without_a_class_stands_for_itself() -> None:
    vectors, triplets, classes = labelled(3, 6)
    some: Sequence[str] = [name if number % 2 else "" for number, name in enumerate(classes)]
    found = evaluate(vectors, triplets, "euclidean", classes=some)
    assert found.class_restricted is not None
    assert found.class_restricted.smallest == 2


def test_the_corners_hold_the_papers_extremes_most_extreme_first() -> None:
    # Given ranks among 100: of p+ first
    ranks = np.array([[5, 95], [1, 100], [95, 96], [100, 2], [3, 4], [1, 2], [50, 50], [10.5, 91]])
    # When they are sorted into the corners
    found = {region.name: region.triplets for region in regions(ranks, 100, Bounds())}
    # Then
    assert found == {"A": (1, 0, 7), "B": (2,), "C": (3,), "D": (5, 4)}
    # And the bounds move them
    wider = {region.name: region.triplets for region in regions(ranks, 100, Bounds(best=0.5, worst=0.03))}
    assert wider["A"] == (1,)
    assert wider["D"] == (5, 4, 6)


@pytest.mark.parametrize("best", [0.0, -0.1, 0.51])
def test_corners_that_overlap_or_are_empty_are_refused(best: float) -> None:
    with pytest.raises(UsageError, match="expected more than 0 and up to 50"):
        Bounds(best=best)


def test_the_heat_map_has_p_plus_across_and_p_minus_up() -> None:
    ranks = np.array([[1, 100], [1, 100], [100, 1]])
    counts = rank_histogram(ranks, 100, bins=4)
    assert counts.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]
    svg = heat_map_svg(ranks, 100, bounds=Bounds(), title="<b>")
    assert "66.7 % of the triplets lie above the line x = y" in svg
    assert "<b>" not in svg
    assert "style=" not in svg


def run_of(folder: Path, name: str, outcomes: dict[str, list[float]], keys: Sequence[str] | None = None) -> Run:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    length = len(next(iter(outcomes.values())))
    names = keys or [f"q{number}\tp\tn" for number in range(length)]
    save_run(path, keys=names, groups=names, cells=[(cell, np.array(values)) for cell, values in outcomes.items()])
    return load_run(str(path))


def test_two_runs_are_compared_by_mcnemars_exact_test(tmp_path: Path) -> None:
    # Given two evaluations of 60 triplets that differ on 12: 10 go to the first, 2 to the second
    first = run_of(tmp_path, "first", {"a/b/c/cosine": [1.0] * 40 + [0.0] * 20})
    second = run_of(tmp_path, "second", {"a/b/c/cosine": [0.0] * 10 + [1.0] * 32 + [0.0] * 18})
    # When they are compared
    [(one, other)] = pair_up(first, second)
    found = compare(one, other, settings=Settings())
    # Then
    assert (found.first_only, found.second_only, found.triplets) == (10, 2, 60)
    assert found.p_value == pytest.approx(2 * binom.cdf(2, 12, 0.5))
    assert found.difference == pytest.approx(8 / 60)
    assert 0 < found.low < found.difference < found.high


def test_equal_runs_do_not_differ(tmp_path: Path) -> None:
    run = run_of(tmp_path, "run", {"x": [1.0, 0.0, 0.5]})
    found = compare(run.cells[0], run.cells[0], settings=Settings())
    assert (found.p_value, found.difference, found.low, found.high) == (1, 0, 0, 0)


def test_only_triplets_of_both_runs_count(tmp_path: Path) -> None:
    first = run_of(tmp_path, "first", {"x": [1.0, 0.0, 1.0]}, keys=["a", "b", "c"])
    second = run_of(tmp_path, "second", {"x": [0.0, 1.0]}, keys=["c", "z"])
    found = compare(first.cells[0], second.cells[0], settings=Settings())
    assert (found.triplets, found.first_accuracy, found.second_accuracy) == (1, 1, 0)
    third = run_of(tmp_path, "third", {"x": [0.0]}, keys=["y"])
    with pytest.raises(UsageError, match="no triplet in common"):
        compare(first.cells[0], third.cells[0], settings=Settings())


def test_what_is_to_be_compared_must_be_clear(tmp_path: Path) -> None:
    first = run_of(tmp_path, "first", {"a": [1.0], "b": [1.0]})
    second = run_of(tmp_path, "second", {"b": [0.0], "c": [0.0]})
    assert [(one.name, other.name) for one, other in pair_up(first, second)] == [("b", "b")]
    with pytest.raises(UsageError, match="which evaluations are to be compared"):
        pair_up(first, first)
    one = load_run(f"{tmp_path / 'first.json'}#a")
    other = load_run(f"{tmp_path / 'second.json'}#c")
    assert [(left.name, right.name) for left, right in pair_up(one, other)] == [("a", "c")]
    with pytest.raises(UsageError, match="no evaluation 'd'"):
        load_run(f"{tmp_path / 'first.json'}#d")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"format": 1, "triplets": ["a"], "groups": ["a"], "outcomes": {"x": "12"}}', "\0"],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(SourceUnusable, match="is no run of"):
        load_run(str(tmp_path))
    with pytest.raises(SourceUnusable, match="no such file"):
        load_run(str(tmp_path / "other"))
