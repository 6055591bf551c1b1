"""Cross-fitting: scores for each validation video from a fit that has not seen its source."""

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
    """A value for each video, from a fit to the other folds; from a fit to all where there is one fold."""
    values_B = np.empty(len(folds_B))
    for fold in np.unique(folds_B):
        outside = folds_B == fold
        inside = ~outside if not outside.all() else outside
        values_B[outside] = apply(fit(inside), outside)
    return values_B


def group_folds(labels: Sequence[int], groups: Sequence[str], num_folds: int) -> npt.NDArray[np.int64]:
    """A fold for each video, none of which holds a part of a source: the sources of each class dealt
    out in the order of their names, one class going on where the one before stopped."""
    label_of = dict(zip(groups, labels, strict=True))
    order = sorted(label_of, key=lambda group: (label_of[group], group))
    fold_of = {group: position % num_folds for position, group in enumerate(order)}
    return np.array([fold_of[group] for group in groups], dtype=np.int64)
