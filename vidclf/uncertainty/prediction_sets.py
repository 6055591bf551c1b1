"""Prediction sets: for each video the classes that hold its true class with a stated probability (coverage).

A class is in the set of a video if the ensemble gives it at least the lowest probability that was needed for the true
class of most held-out videos of that class. This is split conformal prediction, class by class (Vovk et al. 2005,
Algorithmic Learning in a Random World, section 4.5). Such sets are the smallest (Sadinle et al. 2019,
arXiv:1609.00451). Each class is covered on its own, however rare it is.

Sources count, not videos: all videos of a source (recording) share the weight of one (pooled distributions of Dunn,
Wasserman & Ramdas 2022, arXiv:1809.07441). The coverage holds for videos of further sources like those, and of a known
class.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-9
"""Tolerance for sums of weights."""


@dataclass(frozen=True, kw_only=True)
class TruthScores:
    """Probability that the ensemble gives to the true class of each held-out video.

    Cross-fitted: the temperature behind it comes from videos of other sources.
    """

    truth_B: npt.NDArray[np.float32]
    """calibrated probability of the true class"""
    label_B: npt.NDArray[np.int64]
    """index of the true class"""
    source_B: npt.NDArray[np.integer[Any]]
    """number of each video's source (recording), from 0"""


@dataclass(frozen=True, kw_only=True)
class SetThresholds:
    """Lowest probability with which each class is in a prediction set."""

    coverage: float
    """probability that the set of a video holds its true class"""
    lowest_C: tuple[float, ...]
    """lowest probability by class; 0 for a class that is in every set"""
    num_sources_C: tuple[int, ...]
    """number of held-out sources (recordings) of each class"""

    def text(self, classes: Sequence[str]) -> str:
        """One line for users about the sets."""
        start = f"prediction sets: hold the true class with probability {self.coverage:g}, class by class"
        needed = sources_needed(self.coverage)
        lacking = [
            f"{name} ({count})" for name, count in zip(classes, self.num_sources_C, strict=True) if count < needed
        ]
        if not lacking:
            return start
        return f"{start}; classes with fewer than {needed} held-out sources are in every set: {', '.join(lacking)}"


def sources_needed(coverage: float) -> int:
    """Number of held-out sources of a class below which the class is in every set."""
    return int(np.ceil(coverage / (1 - coverage) - ROUNDING))


def set_thresholds(scores: TruthScores, num_classes: int, coverage: float) -> SetThresholds:
    """Choose for each class the highest threshold that its held-out sources support.

    Of the G sources of a class, each has the weight 1 / (G + 1), divided equally among its videos. The weights of the
    videos whose true class reaches the threshold must add up to at least `coverage`. The class of too few sources is in
    every set, so that a set never covers less than asked.
    """
    lowest, counts = [], []
    for label in range(num_classes):
        inside = scores.label_B == label
        source_B, truth_B = scores.source_B[inside], scores.truth_B[inside]
        _, place_B, size_G = np.unique(source_B, return_inverse=True, return_counts=True)
        weight_B = 1 / ((len(size_G) + 1) * size_G[place_B])
        order_B = np.argsort(-truth_B, kind="stable")
        reached = np.flatnonzero(np.cumsum(weight_B[order_B]) >= coverage - ROUNDING)
        lowest.append(float(truth_B[order_B][reached[0]]) if len(reached) else 0.0)
        counts.append(len(size_G))
    return SetThresholds(coverage=coverage, lowest_C=tuple(lowest), num_sources_C=tuple(counts))


def in_sets(probabilities_BC: npt.NDArray[np.float32], lowest_C: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Whether each class is in the set of each video, as an array [videos, classes].

    The most probable class is in every set, so that no set is empty.
    """
    inside_BC: npt.NDArray[np.bool_] = probabilities_BC >= np.array(lowest_C)
    inside_BC[np.arange(len(inside_BC)), probabilities_BC.argmax(axis=1)] = True
    return inside_BC


def names_in_sets(
    probabilities_BC: npt.NDArray[np.float32], lowest_C: Sequence[float], classes: Sequence[str]
) -> list[list[str]]:
    """Names of the classes in the set of each video, the most probable first."""
    order_BC = np.argsort(-probabilities_BC, axis=1, kind="stable")
    inside_BC = in_sets(probabilities_BC, lowest_C)
    return [
        [classes[index] for index in order_C if inside_C[index]]
        for order_C, inside_C in zip(order_BC.tolist(), inside_BC, strict=True)
    ]
