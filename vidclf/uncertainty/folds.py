"""Cross-fitting: a value for each video from a fit that has not seen the video's source.

Shape suffixes: B videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Fitted = TypeVar("Fitted")


def cross_fitted(
    folds_B: npt.NDArray[np.int64],
    fit: Callable[[npt.NDArray[np.bool_]], Fitted],
    apply: Callable[[Fitted, npt.NDArray[np.bool_]], Any],
) -> npt.NDArray[np.floating[Any]]:
    """A value per video, [B]: `fit` is called with the videos of the other folds (a mask [B]), `apply` with its result
    and the videos of the fold. With a single fold the fit uses all videos."""
    values_B = np.empty(len(folds_B))
    for fold in np.unique(folds_B):
        outside = folds_B == fold
        inside = ~outside if not outside.all() else outside
        values_B[outside] = apply(fit(inside), outside)
    return values_B


def group_folds(labels: Sequence[int], groups: Sequence[str], num_folds: int) -> npt.NDArray[np.int64]:
    """A fold index per video, [B]; all videos of a source (`groups`) are in the same fold.

    The sources are dealt to the folds class by class, in the order of their names. Each class continues at the fold
    where the class before stopped. All videos of a source must have the same label.
    """
    label_of = dict(zip(groups, labels, strict=True))
    order = sorted(label_of, key=lambda group: (label_of[group], group))
    fold_of = {group: position % num_folds for position, group in enumerate(order)}
    return np.array([fold_of[group] for group in groups], dtype=np.int64)
