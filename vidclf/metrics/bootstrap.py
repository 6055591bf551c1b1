"""How far a figure would move with other sources: bootstrap over groups of videos.

Videos of one source resemble each other, so that resampling videos would call a figure surer than it
is; whole sources are drawn instead (cluster bootstrap: Davison & Hinkley 1997, section 3.8).

Shape suffixes: B videos, G groups, R resamples, K summed values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NUM_RESAMPLES = 1000

BLOCK_WEIGHTS = 2**22
"""Weights in memory at a time (32 MB): a million sources times a thousand resamples would be 8 GB."""

Interval = tuple[float, float]


class GroupBootstrap:
    """Draws of as many groups as there are, with replacement; the same ones for the same seed."""

    def __init__(self, groups: Sequence[str], num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> None:
        """`groups` names the source of each video; at least one video."""
        if len(groups) == 0:
            raise ValueError("a bootstrap needs at least one video")
        names, self._group_B = np.unique(np.asarray(groups), return_inverse=True)
        self.num_groups = len(names)
        self._num_resamples = num_resamples
        self._seed = seed

    def sums(self, values_BK: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        """Totals [R, K] of each column over the videos of every resample.

        Accuracy, precision and the like are ratios of such totals; a figure and another one that it is
        compared with must come from one call, so that their resamples are the same.
        """
        totals_GK = np.zeros((self.num_groups, values_BK.shape[1]))
        np.add.at(totals_GK, self._group_B, values_BK.astype(np.float64))
        generator = np.random.default_rng(self._seed)
        sums_RK = np.empty((self._num_resamples, values_BK.shape[1]))
        at_a_time = max(1, BLOCK_WEIGHTS // self.num_groups)
        for start in range(0, self._num_resamples, at_a_time):
            stop = min(start + at_a_time, self._num_resamples)
            weights_RG = np.stack(
                [
                    np.bincount(generator.integers(self.num_groups, size=self.num_groups), minlength=self.num_groups)
                    for _ in range(start, stop)
                ]
            ).astype(np.float64)
            sums_RK[start:stop] = weights_RG @ totals_GK
        return sums_RK


def ratio(numerator_R: npt.NDArray[np.float64], denominator_R: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Elementwise quotient, NaN where there is nothing to divide by (a class that a resample lacks)."""
    return np.divide(numerator_R, denominator_R, out=np.full_like(numerator_R, np.nan), where=denominator_R > 0)


def interval_95(figure_R: npt.NDArray[np.float64]) -> Interval | None:
    """2.5 and 97.5 percentile of a figure over the resamples that define it; None where none does."""
    defined = figure_R[~np.isnan(figure_R)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
