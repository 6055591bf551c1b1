"""Confusions of classes: the most frequent ones, and an order of the classes for the confusion matrix.

A confusion matrix has a row per true class and a column per predicted class. Its entries count videos.

Shape suffixes: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster import hierarchy

MAX_CONFUSED_PAIRS = 20
"""Largest number of class pairs in the list of the most frequent confusions."""

ALPHABETICAL_CLASSES = 12
"""Largest number of classes for which the confusion matrix keeps the ensemble's order; more are sorted by confusion."""


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """A true class, another class that was predicted instead, and the number of videos with this confusion."""

    label: str
    predicted: str
    num_videos: int
    share: float
    """share of all videos whose true class is `label`"""


def confused_pairs(confusion: list[list[int]], classes: Sequence[str]) -> list[ConfusedPair]:
    """List of the most frequent confusions of two classes, the most frequent first, at most `MAX_CONFUSED_PAIRS`."""
    pairs = [
        ConfusedPair(label=classes[i], predicted=classes[j], num_videos=count, share=count / sum(row))
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.num_videos, -pair.share, pair.label))[:MAX_CONFUSED_PAIRS]


def class_order(confusion: list[list[int]]) -> list[int]:
    """Class indices sorted so that confused classes are neighbours; unsorted for few classes or without confusion.

    The order is that of the leaves of an average-linkage tree in optimal order (Bar-Joseph et al. 2001).
    """
    counts_CC = np.array(confusion, dtype=np.float64)
    num_classes = len(counts_CC)
    share_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    likeness_CC = share_CC + share_CC.T
    np.fill_diagonal(likeness_CC, 0)
    if num_classes <= ALPHABETICAL_CLASSES or not likeness_CC.any():
        return list(range(num_classes))
    distance = (1 - likeness_CC / likeness_CC.max())[np.triu_indices(num_classes, 1)]
    order: list[int] = hierarchy.leaves_list(hierarchy.linkage(distance, "average", optimal_ordering=True)).tolist()
    return order
