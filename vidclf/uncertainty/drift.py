"""Drift: whether the videos of an archive are like those on which an ensemble was calibrated.

Three tests compare scores of the archive with those of the calibration videos. Each is one-sided: an archive that is
easier than calibration breaks no promise.

- The share of videos beyond the OOD line. In calibration about 5 % were beyond it. The line was fitted on few videos,
  so the number of others beyond it has a beta-binomial distribution (Vovk 2012, arXiv:1209.2673).
- The distribution of OOD scores, and that of trust scores: two-sample tests of Smirnov (1939), with the tail
  probability exp(-2 D² n m / (n + m)) for the largest distance D of the distribution functions.

After a cross calibration, the confidence of the members of one fold takes the place of the trust score
(`ensemble/fold_confidence.py`).

All sample sizes are effective numbers of sources (Kish 1965), because videos of one source resemble each other. The
tests share the probability `FALSE_ALARM`. They are three, or two (without trust or confidence) for an ensemble whose
cross calibration is of an earlier version.

Shape suffixes: B videos.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, betaln

from vidclf.uncertainty.geometry import Floats
from vidclf.uncertainty.ood import is_out_of_distribution
from vidclf.uncertainty.risk_threshold import CERTIFIED, ESTIMATED, NONE

FALSE_ALARM = 0.05
"""Probability that drift is found in an archive that is like calibration."""

MIN_SOURCES = 5
"""Smallest effective number of sources, in calibration and in the archive, for which drift is tested."""

BEYOND, OOD, TRUST, CONFIDENCE = "beyond_ood_line", "ood_score", "trust_score", "fold_confidence"
"""Names of the tests. An ensemble has one of the last two."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of some videos, and how many independent videos they are worth."""

    trust_B: Floats | None
    """trust score (estimated probability that the label is right), or what `measure` says; None if it is unknown"""
    ood_B: Floats
    """OOD score (distance from the training videos); above 1 a video is beyond the line"""
    num_sources: float
    """effective number of sources"""
    measure: str = TRUST
    """name of the test that compares `trust_B`: `TRUST`, or `CONFIDENCE` for the confidence of the members of one fold
    (in a cross calibration, and in runs of such an ensemble)"""

    @classmethod
    def of(
        cls,
        trust_B: npt.NDArray[Any] | None,
        ood_B: npt.NDArray[Any],
        sources: Sequence[Any],
        measure: str = TRUST,
    ) -> Scores:
        """Scores of videos whose sources are named by `sources`. An OOD score that is NaN counts as infinite."""
        ood = np.asarray(ood_B, np.float64)
        return cls(
            trust_B=np.asarray(trust_B, np.float64) if trust_B is not None else None,
            measure=measure,
            ood_B=np.where(np.isnan(ood), math.inf, ood),
            num_sources=effective_number(sources),
        )


_WITHOUT_DRIFT = {
    CERTIFIED: "the certified risk may be relied on for this archive",
    ESTIMATED: "nothing speaks against the estimated risk, which promises nothing",
    NONE: "there is no risk to rely on, because validation supports none: label more videos",
}
"""What follows where no drift is found, by the basis of the risk's threshold."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Comparison of an archive with calibration."""

    num_videos: int
    """number of videos that were compared"""
    num_sources: float
    """effective number of their sources"""
    beyond: float
    """share of the videos beyond the OOD line"""
    beyond_95: tuple[float, float]
    """95 % interval of that share (Clopper & Pearson 1934) for the effective number of sources"""
    expected: float
    """share beyond the line that calibration expects"""
    distances: dict[str, float]
    """largest distance of the distribution functions, by the name of the score, in the harmful direction"""
    p_values: dict[str, float]
    """probability of a difference at least as large without drift, by the name of the test; empty if there are too few
    sources for a test"""

    @property
    def found(self) -> list[str]:
        """Names of the tests that found drift."""
        return [name for name, value in self.p_values.items() if value <= FALSE_ALARM / len(self.p_values)]

    def sentence(self, basis: str) -> str:
        """Whether the stated risk may be relied on for the archive, and what to do. `basis` is that of the risk's
        threshold."""
        low, high = self.beyond_95
        share = (
            f"{_percent(self.beyond)} of {self.num_videos} videos are beyond the OOD line (95 % interval "
            f"{_percent(low)} to {_percent(high)} for {round(self.num_sources, 1):g} effective sources, expected "
            f"{_percent(self.expected)})"
        )
        if not self.p_values:
            return (
                f"drift: not tested, too few sources here or in calibration; {share}; the stated risk cannot be "
                "checked for this archive: label some of its videos and evaluate them"
            )
        if not self.found:
            return f"drift: none found, {share}; {_WITHOUT_DRIFT[basis]}"
        words = {OOD: "OOD scores are higher", TRUST: "trust scores are lower", CONFIDENCE: "confidences are lower"}
        parts = [words[name] for name in self.found if name in words]
        scores = f", {' and '.join(parts)} than in calibration" if parts else ""
        return (
            f"drift: found, {share}{scores}; do not rely on the stated risk for this archive: label videos of it "
            "(--label-next N lists the most informative ones), add them to the training archive and train again"
        )

    def as_json(self, basis: str) -> dict[str, Any]:
        """The values for the entry `drift` of `summary.json`. `basis` is that of the risk's threshold."""
        return {
            "sentence": self.sentence(basis),
            "found": self.found,
            "num_videos": self.num_videos,
            "num_effective_sources": round(self.num_sources, 1),
            "beyond_ood_line": {
                "share": self.beyond,
                "interval_95": list(self.beyond_95),
                "expected": self.expected,
            },
            "distances": self.distances,
            "p_values": self.p_values,
        }


def compare(calibration: Scores, archive: Scores, level: float, num_line_videos: int) -> Drift:
    """Compare the scores of an archive with those of the calibration videos.

    `level`: probability that a further video stays below the OOD line. `num_line_videos`: number of videos on which the
    line was fitted. Scores of trust are compared if both have them by the same measure.
    """
    num_videos, number = len(archive.ood_B), archive.num_sources
    beyond = float(is_out_of_distribution(archive.ood_B).mean())
    distances, p_values = {OOD: excess(calibration.ood_B, archive.ood_B)}, {}
    known_B, seen_B = calibration.trust_B, archive.trust_B
    if known_B is not None and seen_B is not None and calibration.measure == archive.measure:
        distances[archive.measure] = excess(-known_B, -seen_B)
    if min(round(number), round(calibration.num_sources)) >= MIN_SOURCES:
        # The line's videos are worth as many independent ones as the calibration videos, in proportion.
        num_line = num_line_videos * calibration.num_sources / len(calibration.ood_B)
        p_values = {
            BEYOND: beyond_p_value(beyond, number, level, num_line),
            **{
                name: smirnov_p_value(distance, calibration.num_sources, number) for name, distance in distances.items()
            },
        }
    return Drift(
        num_videos=num_videos,
        num_sources=number,
        beyond=beyond,
        beyond_95=clopper_pearson(beyond, number),
        expected=1 - level,
        distances=distances,
        p_values=p_values,
    )


def effective_number(sources: Sequence[Any]) -> float:
    """Number of equally large sources that would carry the same amount of information (Kish 1965)."""
    sizes = np.array(list(Counter(sources).values()), np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def excess(reference_B: Floats, values_B: Floats) -> float:
    """By how much the share of `values_B` above some limit exceeds that share of `reference_B`, at most over all
    limits."""
    limits = np.concatenate([reference_B, values_B])
    below_reference = np.searchsorted(np.sort(reference_B), limits, side="right") / len(reference_B)
    below_values = np.searchsorted(np.sort(values_B), limits, side="right") / len(values_B)
    return max(0.0, float((below_reference - below_values).max()))


def smirnov_p_value(distance: float, number: float, other_number: float) -> float:
    """Probability of a one-sided distance of two distribution functions at least as large, for samples of these sizes
    from one distribution (asymptotic)."""
    return math.exp(-2 * distance**2 * number * other_number / (number + other_number))


def beyond_p_value(share: float, number: float, level: float, num_line: float) -> float:
    """Probability that at least this share of `number` videos is beyond a line that was fitted on `num_line` others.

    The share of the population beyond such a line has the distribution Beta((n + 1)(1 - level), (n + 1) level).
    """
    count = math.floor(share * number + 1e-9)
    total = max(round(number), count)
    a, b = (num_line + 1) * (1 - level), (num_line + 1) * level
    if count == 0:
        return 1.0
    # The sum of the beta-binomial probabilities from `count` on. `scipy.stats` has them too, but takes 0.3 CPU seconds
    # to load, which every classification would spend.
    count_K = np.arange(count, total + 1)
    log_choose_K = -math.log(total + 1) - betaln(total - count_K + 1, count_K + 1)
    return min(1.0, float(np.exp(log_choose_K + betaln(count_K + a, total - count_K + b) - betaln(a, b)).sum()))


def clopper_pearson(share: float, number: float) -> tuple[float, float]:
    """95 % interval of a proportion (Clopper & Pearson 1934); `number` need not be whole."""
    hits = share * number
    low = float(betaincinv(hits, number - hits + 1, 0.025)) if hits > 1e-9 else 0.0
    high = float(betaincinv(hits + 1, number - hits, 0.975)) if number - hits > 1e-9 else 1.0
    return low, high


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
