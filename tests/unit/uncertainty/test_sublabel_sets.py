"""Prediction sets of sublabels: thresholds of frequent and of rare ones, coverage, and an independent library."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax
from scipy.stats import binom

from vidclf.uncertainty.hierarchy import UNKNOWN, Hierarchy
from vidclf.uncertainty.prediction_sets import TruthScores, in_sets, names_in_sets
from vidclf.uncertainty.sublabel_sets import (
    SublabelSetThresholds,
    choose,
    leaf_names,
    leaf_probabilities,
    true_leaves,
)

HIERARCHY = Hierarchy(classes=["A", "B", "C"], sublabels={"A": ["x", "y"], "C": ["x", "z"]})


def scores(truth: list[float], leaves: list[int]) -> TruthScores:
    """Each video is its own source."""
    return TruthScores(truth_B=np.array(truth, np.float32), label_B=np.array(leaves), source_B=np.arange(len(leaves)))


def test_leaves_are_sublabels_and_classes_without_any() -> None:
    assert leaf_names(HIERARCHY) == ["A/x", "A/y", "B", "C/x", "C/z"]
    known = [("A", "y"), ("B", None), ("B", "any"), ("C", "z")]
    unknown = [("A", None), ("A", "z"), ("D", "x"), (None, None), (None, "x")]
    ones_B = np.ones(9)
    assert true_leaves(HIERARCHY, known + unknown, ones_B, ones_B)[1] == [1, 2, 2, 4, *[UNKNOWN] * 5]


def test_probabilities_of_leaves_share_those_of_their_classes() -> None:
    probabilities_BC, conditional_BL = np.array([[0.5, 0.3, 0.2]]), np.array([[0.6, 0.4, 0.25, 0.75]])
    leaves_BN = leaf_probabilities(HIERARCHY, probabilities_BC, conditional_BL)
    assert leaves_BN[0] == pytest.approx([0.3, 0.2, 0.3, 0.05, 0.15])
    names = [("A", "y"), ("B", None), ("A", None)]
    truth_B, found = true_leaves(HIERARCHY, names, np.array([0.5, 0.3, 0.5]), np.array([0.4, 0.9, 0.9]))
    assert found == [1, 2, UNKNOWN]
    assert truth_B[:2] == pytest.approx([0.2, 0.3])


def test_rare_sublabels_share_a_threshold() -> None:
    # Coverage 0.6 takes two sources. A/x has three of its own: of the weights 1/4, three reach 0.6 at 0.5. A/y and C/z
    # have one each: of the weights 1/3 of both together, two reach 0.6 at 0.2. The last video is unknown.
    found = choose(scores([0.9, 0.7, 0.5, 0.2, 0.8, 0.0], [0, 0, 0, 1, 4, UNKNOWN]), 5, 0.6)
    assert found.lowest_N == pytest.approx((0.5, 0.2, 0.2, 0.2, 0.2))
    assert found.num_sources_N == (3, 1, 0, 0, 1)
    assert found.num_shared_sources == 2
    # With a single source among the rare ones, all of these are in every set.
    assert choose(scores([0.9, 0.7, 0.5, 0.2], [0, 0, 0, 1]), 5, 0.6).lowest_N == pytest.approx((0.5, 0, 0, 0, 0))


def test_sets_name_the_leaves_and_are_never_empty() -> None:
    leaves_BN = np.array([[0.3, 0.2, 0.3, 0.05, 0.15], [0.1, 0.1, 0.1, 0.1, 0.6]], np.float32)
    names = names_in_sets(leaves_BN, (0.25, 0.25, 0.25, 0.25, 0.7), leaf_names(HIERARCHY))
    assert names == [["A/x", "B"], ["C/z"]]


def test_the_line_about_the_sets() -> None:
    def text(counts: tuple[int, ...], shared: int) -> str:
        found = SublabelSetThresholds(
            coverage=0.9, lowest_N=(0.1,) * len(counts), num_sources_N=counts, num_shared_sources=shared
        )
        return found.text()

    start = "prediction sets of sublabels: hold the true one with probability 0.9"
    assert text((9, 20), 0) == f"{start}, each on its own"
    rare = f"{start}; 2 of 3 have fewer than 9 held-out sources"
    assert text((9, 8, 4), 12) == f"{rare} (12 together) and are covered on average, not each on its own"
    assert text((9, 3, 4), 7) == f"{rare} (7 together) and are in every set"


def drawn(
    generator: np.random.Generator, num: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Probabilities, true leaves and probabilities of these, of a model that is too sure; leaves 3 and 4 are rare."""
    leaf_B = generator.choice(5, num, p=[0.4, 0.3, 0.25, 0.03, 0.02])
    logits_BN = generator.normal(size=(num, 5)) * 2
    logits_BN[np.arange(num), leaf_B] += np.array([3.0, 2.0, 1.0, 1.0, 0.0])[leaf_B]
    leaves_BN = softmax(2 * logits_BN, axis=1).astype(np.float32)
    return leaves_BN, leaf_B, leaves_BN[np.arange(num), leaf_B]


def test_frequent_ones_are_covered_each_and_rare_ones_on_average() -> None:
    generator = np.random.default_rng(0)
    held = np.zeros((4, 2), int)  # leaves 0, 1 and 2, and the rare ones together
    for _ in range(400):
        _, leaf_B, truth_B = drawn(generator, 120)
        found = choose(scores(truth_B.tolist(), leaf_B.tolist()), 5, 0.8)
        fresh_BN, fresh_B, _ = drawn(generator, 40)
        inside_B = in_sets(fresh_BN, found.lowest_N)[np.arange(40), fresh_B]
        for row in range(4):
            of_row_B = np.minimum(fresh_B, 3) == row
            held[row] += [inside_B[of_row_B].sum(), of_row_B.sum()]
    for num_held, total in held.tolist():
        assert binom.cdf(num_held, total, 0.8) > 0.01, held.tolist()


def test_the_sets_are_those_of_an_independent_library() -> None:
    crepes = pytest.importorskip("crepes", reason="crepes is not installed")
    generator = np.random.default_rng(2)
    _, leaf_B, truth_B = drawn(generator, 400)
    fresh_BN, _, _ = drawn(generator, 300)
    found = choose(scores(truth_B.tolist(), leaf_B.tolist()), 5, 0.95)
    assert [count >= 19 for count in found.num_sources_N] == [True, True, True, False, False]
    # The rare leaves are one bin; the bin of each candidate leaf is its own or that one.
    bins_N = np.array([0, 1, 2, 3, 3])
    judge = crepes.ConformalClassifier().fit(1 - truth_B.astype(np.float64), bins=bins_N[leaf_B])
    unlike_BN = 1 - fresh_BN.astype(np.float64)

    def holds(leaf: int) -> npt.NDArray[np.bool_]:
        bins_B = np.full(300, bins_N[leaf])
        found_B1 = judge.predict_set(unlike_BN[:, [leaf]], bins_B, confidence=0.95, smoothing=False)
        return np.asarray(found_B1[:, 0] == 1)

    theirs_BN = np.stack([holds(leaf) for leaf in range(5)], axis=1)
    assert ((fresh_BN >= np.array(found.lowest_N)) == theirs_BN).all()
