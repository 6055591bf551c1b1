"""Views of a video for test-time augmentation, and the weights with which they vote.

A view is a pure function of the sequence of frame features. The weights are fitted on validation, by
a rule that noise in few videos does not get past: a view that does not help beyond its standard error
gets weight 0.

Shape suffixes: B videos, T frames, D features, C classes, V views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

SLOWER = 1.5
"""Frames of the slower view for each frame of the original."""

PRIOR_VIDEOS = 20
"""Videos' worth of evidence for equal weights that the weights' fit starts from."""

LEAST_PROBABILITY = 1e-12


def reverse(features_TD: Floats) -> Floats:
    """The frames backwards."""
    # A copy, because torch takes no negative strides; of a single frame, too, which numpy calls contiguous.
    return features_TD[::-1].copy()


def faster(features_TD: Floats) -> Floats:
    """Every other frame, from the first on."""
    return features_TD[::2]


def slower(features_TD: Floats) -> Floats:
    """1.5 times as many frames, at even steps from the first to the last, interpolated linearly in time."""
    num_frames = len(features_TD)
    positions = np.linspace(0, num_frames - 1, int(SLOWER * num_frames))
    before = np.floor(positions).astype(int)
    after = np.minimum(before + 1, num_frames - 1)
    share_T1 = (positions - before)[:, None].astype(np.float32)
    mixed_TD = (1 - share_T1) * features_TD[before] + share_T1 * features_TD[after]
    seen_TD: Floats = mixed_TD.astype(features_TD.dtype)
    return seen_TD


VIEWS: dict[str, Callable[[Floats], Floats]] = {
    "original": lambda features_TD: features_TD,
    "reverse": reverse,
    "faster": faster,
    "slower": slower,
}
"""In the order of a prediction's `view_probabilities`; the original first."""

PLAIN = ("original",)


@dataclass(frozen=True, kw_only=True)
class ViewWeight:
    """A view's vote. `gain` is what mixing it half and half with the original adds to the log-likelihood
    of a validation video, on average over the sources (nats), `gain_se` the standard error of that."""

    name: str
    weight: float
    gain: float
    gain_se: float


def fit_weights(
    probabilities_VBC: Floats, labels_B: npt.NDArray[np.integer[Any]], groups: Sequence[str]
) -> list[ViewWeight]:
    """Weights of the `VIEWS`, not negative, with sum 1.

    A view is kept where it gains more than one standard error over the sources, so that it is not
    chosen for a few lucky videos; every source counts once, since videos of one source agree. The
    weights of those kept are the mode of the likelihood of their mixture under `PRIOR_VIDEOS` of
    evidence for equal weights (expectation-maximisation for mixture proportions: Dempster et al.
    1977). With one source nothing can be told, and the original stays alone.
    """
    true_VB = np.take_along_axis(probabilities_VBC, labels_B[None, :, None], axis=2)[:, :, 0].astype(np.float64)
    true_VB = np.maximum(true_VB, LEAST_PROBABILITY)
    names = list(VIEWS)
    gains = [_gain(true_VB[0], true_B, groups) for true_B in true_VB]
    kept = [index for index, (gain, error) in enumerate(gains) if index == 0 or gain > error]
    weights = np.zeros(len(names))
    weights[kept] = _mixture(true_VB[kept])
    return [
        ViewWeight(name=name, weight=round(float(weight), 6), gain=gain, gain_se=error)
        for name, weight, (gain, error) in zip(names, weights, gains, strict=True)
    ]


def _gain(original_B: Floats, view_B: Floats, groups: Sequence[str]) -> tuple[float, float]:
    """Mean over the sources, and its standard error (infinite for a single source)."""
    gain_B = np.log((original_B + view_B) / 2) - np.log(original_B)
    names = np.array(groups)
    per_source = np.array([gain_B[names == name].mean() for name in sorted(set(groups))])
    if len(per_source) < 2:
        return float(per_source.mean()), float("inf")
    return float(per_source.mean()), float(per_source.std(ddof=1) / np.sqrt(len(per_source)))


def _mixture(true_KB: Floats) -> Floats:
    """Proportions of K components that explain the true classes best, drawn to equal ones."""
    num_kept, num_videos = true_KB.shape
    weights_K = np.full(num_kept, 1 / num_kept)
    for _ in range(200):
        share_KB = weights_K[:, None] * true_KB
        share_KB /= share_KB.sum(axis=0)
        weights_K = (share_KB.sum(axis=1) + PRIOR_VIDEOS / num_kept) / (num_videos + PRIOR_VIDEOS)
    return weights_K
