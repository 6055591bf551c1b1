"""Prediction sets of sublabels: for each video the sublabels that hold its true one with a stated probability.

A leaf is a sublabel of a class, or a class without sublabels. It is in the set of a video if its probability reaches a
threshold, as a class is in a prediction set (`prediction_sets.py`). A sublabel with enough held-out sources has a
threshold of its own, so that it is covered on its own. The others share one, so that they are covered on average
(Ding et al. 2023, arXiv:2306.09335). If they have too few sources even together, they are in every set.

Shape suffixes: B videos, C classes, L sublabels of all classes, N leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidclf.uncertainty.hierarchy import UNKNOWN, Floats, Hierarchy
from vidclf.uncertainty.prediction_sets import TruthScores, set_thresholds, sources_needed


@dataclass(frozen=True, kw_only=True)
class SublabelSetThresholds:
    """Lowest probability with which each leaf is in the set of sublabels of a video."""

    coverage: float
    """probability that the set of a video holds its true leaf"""
    lowest_N: tuple[float, ...]
    """lowest probability by leaf; 0 for a leaf that is in every set"""
    num_sources_N: tuple[int, ...]
    """number of held-out sources (recordings) of each leaf"""
    num_shared_sources: int
    """number of held-out sources of the leaves that share a threshold"""

    def text(self) -> str:
        """One line for users about the sets."""
        needed = sources_needed(self.coverage)
        num_rare = sum(count < needed for count in self.num_sources_N)
        start = f"prediction sets of sublabels: hold the true one with probability {self.coverage:g}"
        if not num_rare:
            return f"{start}, each on its own"
        rare = f"{num_rare} of {len(self.num_sources_N)} have fewer than {needed} held-out sources"
        if self.num_shared_sources < needed:
            return f"{start}; {rare} ({self.num_shared_sources} together) and are in every set"
        return f"{start}; {rare} ({self.num_shared_sources} together) and are covered on average, not each on its own"


def choose(scores: TruthScores, num_leaves: int, coverage: float) -> SublabelSetThresholds:
    """Choose the lowest probability of each leaf.

    `scores` holds the probability of the true leaf of each held-out video, and its index as `label_B`; videos with an
    `UNKNOWN` one have no influence.
    """
    known_B = scores.label_B != UNKNOWN
    leaf_B, source_B, truth_B = scores.label_B[known_B], scores.source_B[known_B], scores.truth_B[known_B]
    counts = [len(np.unique(source_B[leaf_B == leaf])) for leaf in range(num_leaves)]
    # The rare leaves are one category behind the others.
    category_N = np.array(
        [leaf if count >= sources_needed(coverage) else num_leaves for leaf, count in enumerate(counts)], np.int64
    )
    of_category = TruthScores(truth_B=truth_B, label_B=category_N[leaf_B], source_B=source_B)
    found = set_thresholds(of_category, num_leaves + 1, coverage)
    return SublabelSetThresholds(
        coverage=coverage,
        lowest_N=tuple(found.lowest_C[category] for category in category_N.tolist()),
        num_sources_N=tuple(counts),
        num_shared_sources=found.num_sources_C[num_leaves],
    )


def leaf_names(hierarchy: Hierarchy) -> list[str]:
    """Names of the leaves: `class/sublabel`, or that of a class without sublabels."""
    return [
        name
        for label in hierarchy.classes
        for name in ([f"{label}/{sublabel}" for sublabel in hierarchy.sublabels.get(label, ())] or [label])
    ]


def leaf_probabilities(hierarchy: Hierarchy, probabilities_BC: Floats, conditional_BL: Floats) -> Floats:
    """Probability of each leaf, as an array [B, N]; they sum to 1."""
    joint_BL = hierarchy.joint(probabilities_BC, conditional_BL)
    columns = []
    for index in range(len(hierarchy.classes)):
        inside_L = hierarchy.parent_L == index
        columns.append(joint_BL[:, inside_L] if inside_L.any() else probabilities_BC[:, [index]])
    joined: Floats = np.concatenate(columns, axis=1)
    return joined


def true_leaves(
    hierarchy: Hierarchy, names_B: Sequence[tuple[str | None, str | None]], truth_B: Floats, within_B: Floats
) -> tuple[Floats, list[int]]:
    """Probability and index of the true leaf of each video. The index is `UNKNOWN` if the class of the video has
    sublabels and its own is not among them.

    `names_B`: true label and sublabel. `truth_B`: probability of the true class. `within_B`: conditional probability of
    the true sublabel.
    """
    index_of = {name: index for index, name in enumerate(leaf_names(hierarchy))}
    has_sublabels_B = np.array([label in hierarchy.sublabels for label, _ in names_B], bool)
    leaves = [
        index_of.get(f"{label}/{sublabel}" if label in hierarchy.sublabels else str(label), UNKNOWN)
        for label, sublabel in names_B
    ]
    return np.where(has_sublabels_B, truth_B * within_B, truth_B), leaves
