"""Prediction sets: thresholds by class and source, coverage in a simulation, and an independent library as judge."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax
from scipy.stats import binom

from vidclf.uncertainty.prediction_sets import SetThresholds, TruthScores, in_sets, names_in_sets, set_thresholds

CLASSES = ["A", "B", "C"]


def scores(truth: list[float], labels: list[int], sources: list[int] | None = None) -> TruthScores:
    return TruthScores(
        truth_B=np.array(truth, np.float32),
        label_B=np.array(labels),
        source_B=np.array(sources if sources is not None else range(len(labels))),
    )


def test_a_threshold_is_reached_by_the_asked_share_of_the_sources_of_its_class() -> None:
    # Four sources of A, each with a weight of 1/5: 0.6 takes three of them, 0.8 all four, 0.9 more than there are.
    found = {
        coverage: set_thresholds(scores([0.9, 0.5, 0.7, 0.2, 0.4], [0, 0, 0, 0, 1]), 2, coverage).lowest_C
        for coverage in (0.5, 0.6, 0.8, 0.9)
    }
    assert {coverage: pytest.approx(lowest) for coverage, lowest in found.items()} == {
        0.5: (0.5, 0.4),
        0.6: (0.5, 0.0),
        0.8: (0.2, 0.0),
        0.9: (0.0, 0.0),
    }


def test_a_source_of_many_videos_has_the_weight_of_one() -> None:
    # Eight wrong videos of one source and three right sources: 3/5 of the weight is at 0.9.
    chosen = set_thresholds(scores([0.1] * 8 + [0.9] * 3, [0] * 11, [0] * 8 + [1, 2, 3]), 1, 0.6)
    assert chosen.lowest_C == (pytest.approx(0.9),)
    assert chosen.num_sources_C == (4,)
    assert set_thresholds(scores([0.1] * 8 + [0.9] * 3, [0] * 11), 1, 0.6).lowest_C == (pytest.approx(0.1),)


def test_sets_are_never_empty_and_name_the_most_probable_class_first() -> None:
    probabilities_BC = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.34, 0.33, 0.33]], np.float32)
    lowest = (0.4, 0.2, 0.8)
    assert in_sets(probabilities_BC, lowest).tolist() == [[True, True, False], [False, True, True], [True, True, False]]
    assert names_in_sets(probabilities_BC, lowest, CLASSES) == [["A", "B"], ["C", "B"], ["A", "B"]]


def test_classes_of_too_few_sources_are_named() -> None:
    chosen = SetThresholds(coverage=0.95, lowest_C=(0.2, 0.0), num_sources_C=(19, 18))
    assert chosen.text(["A", "B"]) == (
        "prediction sets: hold the true class with probability 0.95, class by class; classes with fewer than 19 "
        "held-out sources are in every set: B (18)"
    )
    assert "every set" not in SetThresholds(coverage=0.9, lowest_C=(0.2,), num_sources_C=(9,)).text(["A"])


def drawn(generator: np.random.Generator, num: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Probabilities and classes of videos by a model that is too sure, and worse at class 2, which is rare."""
    labels_B = generator.choice(3, num, p=[0.5, 0.4, 0.1])
    logits_BC = generator.normal(size=(num, 3)) * 2
    logits_BC[np.arange(num), labels_B] += np.array([3.0, 2.0, 0.5])[labels_B]
    return softmax(2 * logits_BC, axis=1).astype(np.float32), labels_B


def test_each_class_is_covered_as_asked_in_a_simulation() -> None:
    generator = np.random.default_rng(0)
    held = {label: [0, 0] for label in range(3)}
    for _ in range(300):
        probabilities_BC, labels_B = drawn(generator, 400)
        truth_B = probabilities_BC[np.arange(400), labels_B]
        chosen = set_thresholds(scores(truth_B.tolist(), labels_B.tolist()), 3, 0.9)
        fresh_BC, fresh_B = drawn(generator, 30)
        inside_BC = in_sets(fresh_BC, chosen.lowest_C)
        for label in range(3):
            is_class_B = fresh_B == label
            held[label][0] += int(inside_BC[is_class_B, label].sum())
            held[label][1] += int(is_class_B.sum())
    for num_held, total in held.values():
        # With n sources of a class the coverage is between 0.9 and 0.9 + 1 / (n + 1), here at most 0.93.
        assert binom.cdf(num_held, total, 0.9) > 0.01, (num_held, total)
        assert binom.sf(num_held - 1, total, 0.93) > 0.01, (num_held, total)


def test_videos_of_one_source_do_not_count_as_many() -> None:
    """Sources are right or wrong as a whole. Counting videos would take 12 sources of 30 videos for 360 facts."""
    generator = np.random.default_rng(1)
    by_source = by_video = 0
    for _ in range(2000):
        truth_G = generator.uniform(size=12)
        truth_B, source_B = np.repeat(truth_G, 30).tolist(), np.repeat(np.arange(12), 30).tolist()
        fresh = np.float32(generator.uniform())
        by_source += fresh >= set_thresholds(scores(truth_B, [0] * 360, source_B), 1, 0.9).lowest_C[0]
        by_video += fresh >= set_thresholds(scores(truth_B, [0] * 360), 1, 0.9).lowest_C[0]
    assert binom.cdf(by_source, 2000, 0.9) > 0.01
    assert binom.cdf(by_video, 2000, 0.9) < 1e-6


def test_the_sets_are_those_of_an_independent_library() -> None:
    crepes = pytest.importorskip("crepes", reason="crepes is not installed")
    generator = np.random.default_rng(2)
    probabilities_BC, labels_B = drawn(generator, 500)
    fresh_BC, _ = drawn(generator, 400)
    truth_B = probabilities_BC[np.arange(500), labels_B]
    judge = crepes.ConformalClassifier().fit(1 - truth_B, bins=labels_B)
    # The bin of each candidate class is the class itself.
    theirs_BC = np.stack(
        [
            judge.predict_set(1 - fresh_BC[:, [label]], np.full(400, label), confidence=0.9, smoothing=False)[:, 0] == 1
            for label in range(3)
        ],
        axis=1,
    )
    chosen = set_thresholds(scores(truth_B.tolist(), labels_B.tolist()), 3, 0.9)
    ours_BC = fresh_BC >= np.array(chosen.lowest_C)
    assert (ours_BC == theirs_BC).all()
