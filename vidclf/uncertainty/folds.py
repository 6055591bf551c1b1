"""Cross-fitting: a value for each video from a fit without videos of its source (recording).

Shape suffixes: B videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Fitted = TypeVar("Fitted")
"""Whatever the `fit` function of `cross_fitted` returns."""


def cross_fitted(
    folds_B: npt.NDArray[np.int64],
    fit: Callable[[npt.NDArray[np.bool_]], Fitted],
    apply: Callable[[Fitted, npt.NDArray[np.bool_]], Any],
) -> npt.NDArray[np.floating[Any]]:
    """Compute a value per video from a fit on videos of other folds (groups of videos for cross-fitting).

    `folds_B` holds the fold number of each video. For each fold, `fit` gets a mask of the videos outside the fold;
    `apply` gets the result of `fit` and a mask of the videos in the fold, and returns their values. With a single fold
    the fit uses all videos. Returns an array with one number per video.
    """
    values_B = np.empty(len(folds_B))
    for fold in np.unique(folds_B):
        outside = folds_B == fold
        inside = ~outside if not outside.all() else outside
        values_B[outside] = apply(fit(inside), outside)
    return values_B


def group_folds(labels: Sequence[int], groups: Sequence[str], num_folds: int) -> npt.NDArray[np.int64]:
    """Assign each video to a fold, so that all videos of a source (recording) are in the same one.

    Returns an array with one fold number per video, from 0 to `num_folds` - 1. `groups` holds the sources, `labels` the
    class indices. The sources are dealt to the folds class by class, sorted by name. Each class continues at the fold
    where the class before stopped. All videos of a source must have the same label.
    """
    label_of = dict(zip(groups, labels, strict=True))
    order = sorted(label_of, key=lambda group: (label_of[group], group))
    fold_of = {group: position % num_folds for position, group in enumerate(order)}
    return np.array([fold_of[group] for group in groups], dtype=np.int64)
