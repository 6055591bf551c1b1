"""95 % confidence intervals of accuracies and F1 scores, with sources as the sampling unit.

A source is a recording from which videos were cut.

Videos of one source resemble each other, so intervals that count videos would be too narrow. The variance is the one of
ratios of totals over sources (Taylor linearisation: Cochran 1977, section 6.4). It yields an effective number of
independent videos. The interval is the exact interval of a proportion for this number, with Student's correction for
the degrees of freedom (Korn & Graubard 1998). There are few degrees of freedom if a few large sources make most of the
variance (Satterthwaite 1946).

The sources that go wrong may be missing from a sample. Then the others differ little, and the variance is far too
small. Therefore half a source is added to the variance, whose videos are all wrong, or all right if most videos are
wrong. (Jeffreys' prior of a proportion adds half a video in the same way.) No interval is wider than if all videos of a
source agreed. With fewer than `MIN_SOURCES` effective sources there is no interval.

The coverage of these intervals is measured in `benchmarks/interval_coverage.py`.

Shape suffixes: B videos, G sources, C classes, K summed values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

MIN_SOURCES = 5
"""Smallest effective number of sources (recordings, see `effective_sources`), rounded, for which an interval is
given."""

TOO_FEW_SOURCES = f"no interval: fewer than {MIN_SOURCES} effective sources"
"""Text in place of an interval that is None."""

ADDED_SOURCES = 0.5
"""Number of sources (recordings) that contradict all others and are added to the variance."""

Interval = tuple[float, float]
"""Lower and upper end of a confidence interval."""

Floats = npt.NDArray[np.float64]


class SourceIntervals:
    """Computes 95 % intervals of shares of a set of videos (such as accuracy), given the source (recording) of each
    video."""

    def __init__(self, groups: Sequence[str]) -> None:
        """`groups` names the source (recording) of each video. Raises ValueError if there is no video."""
        if len(groups) == 0:
            raise ValueError("intervals need at least one video")
        names, self._source_B = np.unique(np.asarray(groups), return_inverse=True)
        self.num_sources = len(names)

    def totals(self, values_BK: npt.NDArray[np.generic]) -> Floats:
        """Sum of each column of `values_BK` over the videos of each source (recording), as an array [sources,
        columns]."""
        columns = [
            np.bincount(self._source_B, weights=column_B.astype(np.float64), minlength=self.num_sources)
            for column_B in values_BK.T
        ]
        return np.stack(columns, axis=1)

    def share(self, is_hit_B: npt.NDArray[np.bool_], is_in_B: npt.NDArray[np.bool_] | None = None) -> Interval | None:
        """95 % interval of the share of videos for which `is_hit_B` is True, among all videos or among those for which
        `is_in_B` is True.

        None if the videos are from too few sources (recordings).
        """
        inside_B = np.ones(len(is_hit_B), bool) if is_in_B is None else is_in_B
        hit_G, num_G = self.totals(np.stack([is_hit_B & inside_B, inside_B], axis=1)).T
        return of_ratio(hit_G, num_G)

    def mean_of_sources(self, is_hit_B: npt.NDArray[np.bool_]) -> tuple[float, Interval | None]:
        """The share of hits (`is_hit_B`) in each source (recording), averaged over the sources; returns this mean and
        its 95 % interval."""
        hit_G, num_G = self.totals(np.stack([is_hit_B, np.ones(len(is_hit_B))], axis=1)).T
        share_G = hit_G / num_G
        return float(share_G.mean()), of_ratio(share_G, np.ones(self.num_sources))

    def difference(self, is_hit_B: npt.NDArray[np.bool_], is_base_B: npt.NDArray[np.bool_]) -> Interval | None:
        """95 % interval of the share of `is_hit_B` minus the share of `is_base_B` among the same videos.

        It is made of the intervals of two shares: of the videos that are hits only by `is_hit_B`, and of those that are
        hits only by `is_base_B` (Zou & Donner 2008, doi:10.1002/sim.3095). If no video differs, it is as wide on each
        side as the interval of a share of 0. None if the videos are from too few sources (recordings).
        """
        gained_B, lost_B = is_hit_B & ~is_base_B, is_base_B & ~is_hit_B
        gained_G, lost_G, num_G = self.totals(np.stack([gained_B, lost_B, np.ones(len(gained_B))], axis=1)).T
        gained_95, lost_95 = of_ratio(gained_G, num_G), of_ratio(lost_G, num_G)
        if gained_95 is None or lost_95 is None:
            return None
        gained, lost = float(gained_B.mean()), float(lost_B.mean())
        influence_G, lost_influence_G = gained_G - gained * num_G, lost_G - lost * num_G
        norm = float(np.linalg.norm(influence_G) * np.linalg.norm(lost_influence_G))
        correlation = float(influence_G @ lost_influence_G) / norm if norm else 0.0

        def width(of_gained: float, of_lost: float) -> float:
            """Distance of one end of the interval from the difference, given that of an end of each share."""
            return float(np.sqrt(max(of_gained**2 + of_lost**2 - 2 * correlation * of_gained * of_lost, 0.0)))

        low = gained - lost - width(gained - gained_95[0], lost_95[1] - lost)
        high = gained - lost + width(gained_95[1] - gained, lost - lost_95[0])
        return max(-1.0, low), min(1.0, high)


@dataclass(frozen=True, kw_only=True)
class F1Intervals:
    """95 % intervals of the F1 score of each class and of their means.

    An interval is None if too few sources (recordings) contribute, or for a class that is neither present nor
    predicted.
    """

    per_class: list[Interval | None]
    macro: Interval | None
    """of the unweighted mean over classes"""
    weighted: Interval | None
    """of the mean over classes weighted by their numbers of videos"""

    @classmethod
    def of(
        cls, sources: SourceIntervals, is_label_BC: npt.NDArray[np.bool_], is_top_BC: npt.NDArray[np.bool_]
    ) -> F1Intervals:
        # F1 = 2 × hits / (videos of the class + videos predicted as the class).
        """Compute the intervals from each video's true class and predicted class, both as one truth value per class."""
        hit_GC = 2 * sources.totals(is_label_BC & is_top_BC)
        label_GC = sources.totals(is_label_BC)
        sum_GC = label_GC + sources.totals(is_top_BC)
        num_G = label_GC.sum(axis=1)
        total, sum_C, share_C = num_G.sum(), sum_GC.sum(axis=0), label_GC.sum(axis=0) / num_G.sum()
        f1_C = hit_GC.sum(axis=0) / np.maximum(sum_C, 1)
        influence_GC = (hit_GC - f1_C * sum_GC) / np.maximum(sum_C, 1)
        weighted = float(f1_C @ share_C)
        is_counted_C = sum_C > 0
        return cls(
            per_class=[of_ratio(*pair) for pair in zip(hit_GC.T, sum_GC.T, strict=True)],
            macro=of_value(float(f1_C[is_counted_C].mean()), influence_GC[:, is_counted_C].mean(axis=1), num_G),
            weighted=of_value(weighted, influence_GC @ share_C + (label_GC @ f1_C - weighted * num_G) / total, num_G),
        )


def of_ratio(hit_G: Floats, num_G: Floats) -> Interval | None:
    """95 % interval of the ratio of two totals over sources (recordings): the sum of `hit_G` divided by the sum of
    `num_G`, in [0, 1].

    None if too few sources have a `num_G` above 0.
    """
    contributes_G = num_G > 0
    hit_G, num_G = hit_G[contributes_G], num_G[contributes_G]
    total = num_G.sum()
    if total == 0:
        return None
    value = float(hit_G.sum() / total)
    return of_value(value, (hit_G - value * num_G) / total, num_G)


def of_value(value: float, influence_G: Floats, num_G: Floats) -> Interval | None:
    """95 % interval of a value in [0, 1] that is a smooth function of totals over sources (recordings).

    `influence_G` holds the contribution of each source to the function's linear approximation, with sum 0. `num_G`
    holds the number of videos of each source. None if there are fewer than `MIN_SOURCES` effective sources.
    """
    sources = effective_sources(num_G)
    if round(sources) < MIN_SOURCES:
        return None
    total, freedom = float(num_G.sum()), degrees_of_freedom(num_G)
    added = ADDED_SOURCES * (max(value, 1 - value) / (freedom + 1)) ** 2
    variance = _standard_error(influence_G) ** 2 + added
    # The videos carry as much information as the effective sources if all videos of a source agree, and as much as
    # independent videos at most.
    number = min(value * (1 - value) / variance, total) * (_student_95(max(total - 1, 1.0)) / _student_95(freedom)) ** 2
    number = min(max(number, sources), total)
    hits = number * value
    low = float(stats.beta.ppf(0.025, hits, number - hits + 1)) if hits > 1e-9 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, number - hits)) if number - hits > 1e-9 else 1.0
    return low, high


def effective_sources(num_G: Floats) -> float:
    """Number of equally large sources (recordings) that would carry the same amount of information (Kish 1965).

    `num_G` holds the number of videos of each source.
    """
    return float(num_G.sum() ** 2 / (num_G**2).sum())


def degrees_of_freedom(num_G: Floats) -> float:
    """Degrees of freedom of a variance over sources (recordings), at least 1 (Satterthwaite 1946, doi:10.2307/3002019).

    It is 1 less than the number of equally large sources whose variance would be as uncertain. `num_G` holds the number
    of videos of each source. A source's part of the variance grows with the square of its number of videos.
    """
    part_G = num_G**2
    return max(float(part_G.sum() ** 2 / (part_G**2).sum()) - 1, 1.0)


def _student_95(freedom: float) -> float:
    """Half width of a 95 % interval in standard errors, by Student's t with `freedom` degrees of freedom."""
    return float(stats.t.ppf(0.975, freedom))


def _standard_error(influence_G: Floats) -> float:
    """Standard error of a value, from the contribution of each source (recording) to it."""
    number = len(influence_G)
    return float(np.sqrt(number / (number - 1) * ((influence_G - influence_G.mean()) ** 2).sum()))
