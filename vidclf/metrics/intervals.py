"""How far a figure would move with other sources: 95 % intervals that count sources.

Videos of one source resemble each other, so that intervals by videos would call a figure surer than it is. The
variance is that of ratios of totals over sources (Taylor linearisation: Cochran 1977, section 6.4). It gives a number
of independent videos that would tell as much, which the exact interval of a proportion is computed from, with Student's
correction for the number of sources (Korn & Graubard 1998). Few sources may differ less than others would: one more
source is added to the variance, all of whose videos agree. Where every video is right, or none, each source counts
once. Below `MIN_SOURCES` there is no interval.

Shape suffixes: B videos, G sources, K summed values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

MIN_SOURCES = 5

Interval = tuple[float, float]

Floats = npt.NDArray[np.float64]


class SourceIntervals:
    """95 % intervals of figures of some videos, whose sources are known."""

    def __init__(self, groups: Sequence[str]) -> None:
        """`groups` names the source of each video; at least one video."""
        if len(groups) == 0:
            raise ValueError("intervals need at least one video")
        names, self._source_B = np.unique(np.asarray(groups), return_inverse=True)
        self.num_sources = len(names)

    def totals(self, values_BK: npt.NDArray[np.generic]) -> Floats:
        """Sums [G, K] of each column over the videos of every source."""
        columns = [
            np.bincount(self._source_B, weights=column_B.astype(np.float64), minlength=self.num_sources)
            for column_B in values_BK.T
        ]
        return np.stack(columns, axis=1)

    def share(self, is_hit_B: npt.NDArray[np.bool_], is_in_B: npt.NDArray[np.bool_] | None = None) -> Interval | None:
        """Of the share of hits among some of the videos, or all."""
        inside_B = np.ones(len(is_hit_B), bool) if is_in_B is None else is_in_B
        hit_G, num_G = self.totals(np.stack([is_hit_B & inside_B, inside_B], axis=1)).T
        return of_ratio(hit_G, num_G)

    def mean_of_sources(self, is_hit_B: npt.NDArray[np.bool_]) -> tuple[float, Interval | None]:
        """The mean over sources of each source's share of hits, and its interval."""
        hit_G, num_G = self.totals(np.stack([is_hit_B, np.ones(len(is_hit_B))], axis=1)).T
        share_G = hit_G / num_G
        return float(share_G.mean()), of_ratio(share_G, np.ones(self.num_sources))

    def difference(self, is_hit_B: npt.NDArray[np.bool_], is_base_B: npt.NDArray[np.bool_]) -> Interval | None:
        """Of the difference of two shares of hits among the same videos; Student's, and where they hit the same
        videos, as wide as the interval of a share of 0."""
        gain_B = is_hit_B.astype(np.float64) - is_base_B
        gain_G, num_G = self.totals(np.stack([gain_B, np.ones(len(gain_B))], axis=1)).T
        if self.num_sources < MIN_SOURCES:
            return None
        if not gain_B.any():
            _, high = of_ratio(np.zeros(self.num_sources), num_G) or (0.0, 1.0)
            return -high, high
        gain = float(gain_B.mean())
        half = student_95(num_G) * _standard_error(gain_G / num_G.sum() - gain * num_G / num_G.sum())
        return max(-1.0, gain - half), min(1.0, gain + half)


@dataclass(frozen=True, kw_only=True)
class F1Intervals:
    """Intervals of F1 scores, and of their means; a class that is neither present nor predicted has none."""

    per_class: list[Interval | None]
    macro: Interval | None
    weighted: Interval | None

    @classmethod
    def of(
        cls, sources: SourceIntervals, is_label_BC: npt.NDArray[np.bool_], is_top_BC: npt.NDArray[np.bool_]
    ) -> F1Intervals:
        # F1 is twice the hits over the videos of the class and those taken for it.
        hit_GC = 2 * sources.totals(is_label_BC & is_top_BC)
        label_GC = sources.totals(is_label_BC)
        sum_GC = label_GC + sources.totals(is_top_BC)
        num_G = label_GC.sum(axis=1)
        total, sum_C, share_C = num_G.sum(), sum_GC.sum(axis=0), label_GC.sum(axis=0) / num_G.sum()
        f1_C = hit_GC.sum(axis=0) / np.maximum(sum_C, 1)
        influence_GC = (hit_GC - f1_C * sum_GC) / np.maximum(sum_C, 1)
        weighted = float(f1_C @ share_C)
        is_seen_C = sum_C > 0
        return cls(
            per_class=[of_ratio(*pair) for pair in zip(hit_GC.T, sum_GC.T, strict=True)],
            macro=of_value(float(f1_C[is_seen_C].mean()), influence_GC[:, is_seen_C].mean(axis=1), num_G),
            weighted=of_value(weighted, influence_GC @ share_C + (label_GC @ f1_C - weighted * num_G) / total, num_G),
        )


def of_ratio(hit_G: Floats, num_G: Floats) -> Interval | None:
    """Of a ratio of totals over sources in [0, 1]; None with fewer than `MIN_SOURCES` that have part in it."""
    is_there_G = num_G > 0
    hit_G, num_G = hit_G[is_there_G], num_G[is_there_G]
    if len(num_G) < MIN_SOURCES:
        return None
    total = num_G.sum()
    value = float(hit_G.sum() / total)
    return of_value(value, (hit_G - value * num_G) / total, num_G)


def of_value(value: float, influence_G: Floats, num_G: Floats) -> Interval | None:
    """Of a figure in [0, 1] that is a smooth function of totals over sources: `influence_G` is what each source adds to
    its linearisation, in sum 0; `num_G` are the videos of each."""
    if len(num_G) < MIN_SOURCES:
        return None
    total = float(num_G.sum())
    sources = number = effective_sources(num_G)
    if 1e-12 < value < 1 - 1e-12:
        share = (value * sources + 1) / (sources + 2)
        added = share * (1 - share) / sources
        variance = ((sources - 1) * _standard_error(influence_G) ** 2 + added) / sources
        # No source tells more than its videos would if each were a source.
        number = min(value * (1 - value) / variance, total) * (_student_95(total) / _student_95(sources)) ** 2
    hits = number * value
    low = float(stats.beta.ppf(0.025, hits, number - hits + 1)) if hits > 1e-9 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, number - hits)) if number - hits > 1e-9 else 1.0
    return low, high


def effective_sources(num_G: Floats) -> float:
    """Sources of one size that would tell as much (Kish 1965)."""
    return float(num_G.sum() ** 2 / (num_G**2).sum())


def student_95(num_G: Floats) -> float:
    """Standard errors on each side of a figure, by the effective number of sources."""
    return _student_95(effective_sources(num_G))


def _student_95(number: float) -> float:
    return float(stats.t.ppf(0.975, max(number - 1, 1.0)))


def _standard_error(influence_G: Floats) -> float:
    number = len(influence_G)
    return float(np.sqrt(number / (number - 1) * ((influence_G - influence_G.mean()) ** 2).sum()))
