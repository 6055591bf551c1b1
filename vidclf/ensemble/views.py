"""Views (variants of a video for test-time augmentation), and the weights of their votes.

The predictions from all views are averaged with these weights.

A view is computed from the sequence of frame features alone. The weights are fitted on the validation split. A view
gets weight 0 unless it helps significantly, so that noise in a few videos does not decide.

Shape suffixes: B videos, T frames, D features, C classes, V views, K selected views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.floating[Any]]

SLOWER = 1.5
"""Number of frames of the slowed-down variant of a video for each frame of the original."""

PRIOR_VIDEOS = 20
"""Strength of the prior that all views (test-time variants of a video) have the same weight: it counts like this number
of videos."""

WORTHLESS_RATE = 0.05
"""Largest probability that any view without a gain is let in, of all views together."""

LEAST_PROBABILITY = 1e-12
"""Floor of probabilities before logarithms are taken."""


def reverse(features_TD: Floats) -> Floats:
    """The frame features in reverse order."""
    # A copy, because torch takes no negative strides, not even of a single frame, which numpy calls contiguous.
    return features_TD[::-1].copy()


def faster(features_TD: Floats) -> Floats:
    """The features of every other frame, starting with the first."""
    return features_TD[::2]


def slower(features_TD: Floats) -> Floats:
    """1.5 times as many frames, evenly spaced from the first to the last; their features are interpolated linearly in
    time."""
    num_frames = len(features_TD)
    positions = np.linspace(0, num_frames - 1, int(SLOWER * num_frames))
    before = np.floor(positions).astype(int)
    after = np.minimum(before + 1, num_frames - 1)
    share_T1 = (positions - before)[:, None].astype(np.float32)
    mixed_TD = (1 - share_T1) * features_TD[before] + share_T1 * features_TD[after]
    view_TD: Floats = mixed_TD.astype(features_TD.dtype)
    return view_TD


VIEWS: dict[str, Callable[[Floats], Floats]] = {
    "original": lambda features_TD: features_TD,
    "reverse": reverse,
    "faster": faster,
    "slower": slower,
}
"""All views (variants of a video for test-time augmentation): name and function that makes the view from the frame
features.

Their order is that of a prediction's `view_probabilities`. The original is first.
"""

PLAIN = ("original",)
"""Names of the views (variants of a video) that are used without test-time augmentation."""


@dataclass(frozen=True, kw_only=True)
class ViewWeight:
    """The weight of one view (variant of a video) when predictions are averaged, with the evidence for it."""

    name: str
    """name of the variant, as in `VIEWS`"""
    weight: float
    """share of the variant in the average, 0 to 1"""
    gain: float
    """gain in log-likelihood per validation video, in nats, if the variant is mixed half and half with the original;
    averaged over sources (recordings)"""
    gain_se: float | None
    """standard error of `gain` over the sources (recordings); None for a single source"""


def fit_weights(
    probabilities_VBC: Floats, labels_B: npt.NDArray[np.integer[Any]], groups: Sequence[str]
) -> list[ViewWeight]:
    """Fit the weights with which predictions from the `VIEWS` (variants of a video) are averaged: not negative, with
    sum 1.

    `labels_B` holds the class index of each video, `groups` its source (recording).

    A view is selected if its gain is significantly above 0, by a one-sided t-test over the sources (Student 1908). The
    level of a test is `WORTHLESS_RATE` divided by the number of views besides the original (Bonferroni), so that at
    most this share of ensembles lets in any view that is worthless. Every source counts once, since videos of one
    source resemble each other. The weights of the selected views
    maximise the posterior of their mixture, with a prior of `PRIOR_VIDEOS` for equal weights (expectation-maximisation
    for mixture proportions: Dempster et al. 1977). With fewer than 6 sources there is too little evidence, and only the
    original has weight.
    """
    true_VB = np.take_along_axis(probabilities_VBC, labels_B[None, :, None], axis=2)[:, :, 0].astype(np.float64)
    true_VB = np.maximum(true_VB, LEAST_PROBABILITY)
    names = list(VIEWS)
    gains = [mixing_gain(true_VB[0], true_B, groups) for true_B in true_VB]
    least = least_standard_errors(len(set(groups)), len(names) - 1)
    selected = [index for index, (gain, error) in enumerate(gains) if index == 0 or gain > least * error]
    weights = np.zeros(len(names))
    weights[selected] = mixture_weights(true_VB[selected])
    known = [(gain, error if math.isfinite(error) else None) for gain, error in gains]
    return [
        ViewWeight(name=name, weight=round(float(weight), 6), gain=gain, gain_se=error)
        for name, weight, (gain, error) in zip(names, weights, known, strict=True)
    ]


def least_standard_errors(num_sources: int, num_candidates: int) -> float:
    """Number of standard errors that the gain of a view must exceed, if one of `num_candidates` views is to be chosen
    over the original on `num_sources` sources.

    It is infinite for so few sources that all of them gain by chance too often, even if gains and losses are equally
    likely: below 6 sources for three candidates. The t-test would rely on normal gains there.
    """
    level = WORTHLESS_RATE / num_candidates
    return float(stdtrit(num_sources - 1, 1 - level)) if 0.5**num_sources <= level else float("inf")


def mixing_gain(original_B: Floats, view_B: Floats, groups: Sequence[str]) -> tuple[float, float]:
    """Gain in log-likelihood if a view (variant of a video) is mixed half and half with the original: mean over sources
    and standard error.

    `original_B` and `view_B` hold the probability of each video's true class, `groups` its source (recording). For a
    single source the standard error is infinite.
    """
    gain_B = np.log((original_B + view_B) / 2) - np.log(original_B)
    _, source_B, sizes = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    of_sources = np.split(gain_B[np.argsort(source_B, kind="stable")], np.cumsum(sizes)[:-1])
    per_source = np.array([gains.mean() for gains in of_sources])
    if len(per_source) < 2:
        return float(per_source.mean()), float("inf")
    return float(per_source.mean()), float(per_source.std(ddof=1) / np.sqrt(len(per_source)))


def mixture_weights(true_KB: Floats) -> Floats:
    """Weights of the selected views (variants of a video), with sum 1, that best explain the true classes under a prior
    for equal weights.

    `true_KB` holds the probability of each video's true class by each view.
    """
    num_selected, num_videos = true_KB.shape
    weights_K = np.full(num_selected, 1 / num_selected)
    for _ in range(200):
        share_KB = weights_K[:, None] * true_KB
        share_KB /= share_KB.sum(axis=0)
        weights_K = (share_KB.sum(axis=1) + PRIOR_VIDEOS / num_selected) / (num_videos + PRIOR_VIDEOS)
    return weights_K
