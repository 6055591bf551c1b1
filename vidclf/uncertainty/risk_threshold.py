"""The trust threshold (lowest trust score to accept) for a stated risk, and the acceptance rule.

The threshold is chosen such that the validation videos support a share of wrong labels among accepted videos of at most
the risk: by statistical tests, or only by an estimate. Both hold for sources (recordings) like those of validation.
They do not allow for the choice of each member's best epoch, which the same videos made.

Shape suffixes: B videos, G sources (videos of one source resemble each other).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betainc

from vidclf.uncertainty.geometry import Floats
from vidclf.uncertainty.ood import is_out_of_distribution

Bools = npt.NDArray[np.bool_]

Ints = npt.NDArray[np.int64]

CERTIFIED, ESTIMATED, NONE = BASES = ("certified", "estimated", "none")
"""Evidence that may support a trust threshold: a statistical certificate, an estimate, or nothing."""

CONFIDENCE_LEVEL = 0.9
"""Probability that the error stays below a certified risk, over the random choice of the validation sources
(recordings)."""

THRESHOLDS = np.arange(100) / 100
"""Trust scores that are considered as thresholds of acceptance: 0 to 0.99 in steps of 0.01."""

ABSTAIN_ON_ALL = 2.0
"""A threshold above every trust score, so that no video is accepted."""


def is_accepted(trust_B: Floats, ood_B: Floats, threshold: float | npt.NDArray[np.float32]) -> Bools:
    """Whether each video's label is accepted: its trust score is at least `threshold`, and the video is not out of
    distribution. Several thresholds, as an array [thresholds, 1], give an array [thresholds, videos]."""
    accepted_B: Bools = (trust_B >= threshold) & ~is_out_of_distribution(ood_B)
    return accepted_B


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Numbers of accepted validation videos and of errors among them in each source (recording), for one candidate
    threshold.

    Sources without an accepted video are left out.
    """

    threshold: float
    """lowest trust score that is accepted"""
    accepted_G: Ints
    """number of accepted videos in each source"""
    errors_G: Ints
    """number of accepted videos with a wrong label in each source"""
    early: dict[str, float]
    """threshold of each early look (classification from few frames) that may decide videos"""

    @classmethod
    def of(
        cls,
        threshold: float,
        is_accepted_B: Bools,
        correct_B: Bools,
        source_B: npt.NDArray[np.integer],
        early: dict[str, float] | None = None,
    ) -> Acceptance:
        """Count accepted videos and errors per source (recording). `source_B` holds the number of each video's source,
        from 0."""
        num_sources = int(source_B.max()) + 1 if len(source_B) else 0
        accepted_G = np.bincount(source_B[is_accepted_B], minlength=num_sources)
        errors_G = np.bincount(source_B[is_accepted_B & ~correct_B], minlength=num_sources)
        is_there_G = accepted_G > 0
        return cls(
            threshold=float(threshold),
            accepted_G=accepted_G[is_there_G],
            errors_G=errors_G[is_there_G],
            early=early or {},
        )

    @property
    def num_sources(self) -> int:
        """Number of sources (recordings) with an accepted video."""
        return len(self.accepted_G)

    @property
    def num_effective_sources(self) -> float:
        """Number of equally large sources (recordings) that would carry the same amount of information (Kish 1965). 0
        if no video is accepted."""
        total = self.accepted_G.sum()
        return float(total**2 / (self.accepted_G**2).sum()) if total else 0.0

    @property
    def estimate(self) -> float:
        """Expected share of wrong labels among accepted videos, by the rule of succession over
        `num_effective_sources`."""
        total = self.accepted_G.sum()
        share = self.errors_G.sum() / total if total else 0.0
        return float((share * self.num_effective_sources + 1) / (self.num_effective_sources + 2))

    def certifies(self, risk: float, error_rate: float, num_wrong: int | None = None) -> bool:
        """Whether binomial tests with error probability `error_rate` show that the share of wrong sources (recordings)
        and the share of wrong labels are at most `risk`.

        A source is wrong if one of its accepted videos has a wrong label. The test of labels counts
        `num_effective_sources`. It matters only if sources differ in size: then few large sources can hold most wrong
        labels. `num_wrong`, if given, replaces the counted number of wrong sources in both tests.
        """
        wrong = int((self.errors_G > 0).sum()) if num_wrong is None else num_wrong
        if self.num_sources == 0 or bdtr(wrong, self.num_sources, risk) > error_rate:
            return False
        number = self.num_effective_sources
        labels = number * self.errors_G.sum() / self.accepted_G.sum() if num_wrong is None else num_wrong
        # P(at most `labels` of `number` are wrong), by the beta distribution, which takes numbers that are not whole.
        return bool(labels < number and betainc(number - labels, labels + 1, 1 - risk) <= error_rate)

    def estimates(self, risk: float, num_wrong: int | None = None) -> bool:
        """Whether the expected share of wrong labels (`estimate`) is at most `risk`.

        If `num_wrong` is given, it is computed as if this number of the effective sources (recordings) were wrong.
        """
        number = self.num_effective_sources
        return (self.estimate if num_wrong is None else (num_wrong + 1) / (number + 2)) <= risk


@dataclass(frozen=True, kw_only=True)
class RiskThreshold:
    """The lowest trust score that is accepted, and the numbers of validation videos and sources (recordings) that
    support it."""

    threshold: float
    """lowest trust score that is accepted; `ABSTAIN_ON_ALL` if the validation data support none, unless the user
    accepts videos all the same"""
    basis: str
    """`certified` by a statistical test, `estimated` (the expected error is small enough), or `none`"""
    num_accepted: int
    """number of validation videos that are accepted"""
    num_errors: int
    """number of accepted validation videos with a wrong label"""
    num_sources: int
    """number of sources (recordings) with an accepted validation video"""
    num_wrong_sources: int
    """number of sources with an accepted validation video whose label is wrong"""
    num_videos: int
    """number of all validation videos"""
    estimate: float
    """expected share of wrong labels among accepted videos, by the rule of succession; 0.5 if none is accepted"""
    early: dict[str, float]
    """threshold of each early look (classification from few frames) that decides videos; the counts above then cover
    all looks together"""
    num_paths: int = 1
    """number of ways to use the early looks (all, the subset, none) that were tried; they share the probability of a
    false certificate"""

    @property
    def abstains_on_all(self) -> bool:
        """Whether no video at all is accepted."""
        return self.threshold >= ABSTAIN_ON_ALL


def choose(
    paths: Sequence[Sequence[Acceptance]], risk: float, num_videos: int, accept_uncertified: bool
) -> RiskThreshold:
    """Choose the laxest trust threshold that the validation data support for an allowed error `risk`.

    Each of `paths` is a series of candidate thresholds, from the strictest to the laxest; paths differ in which early
    looks (classifications from few frames) may decide.

    A certificate on any path takes precedence over every estimate. The paths share the probability of a false
    certificate (fixed-sequence testing within a path: Angelopoulos et al. 2021, Learn then Test, arXiv:2110.01052).
    Among paths that accept at least nine tenths of the largest number of accepted videos, the first is taken. Without a
    certificate and without an estimate below the risk no video is accepted. With `accept_uncertified` the threshold is
    then the candidate with the lowest estimate, the highest one if several are equal.
    """
    error_rate = (1 - CONFIDENCE_LEVEL) / len(paths)
    certified = [_last(path, lambda acceptance, wrong: acceptance.certifies(risk, error_rate, wrong)) for path in paths]
    estimated = [_last(path, lambda acceptance, wrong: acceptance.estimates(risk, wrong)) for path in paths]
    for basis, last_of_paths in ((CERTIFIED, certified), (ESTIMATED, estimated)):
        supported = [acceptance for acceptance in last_of_paths if acceptance is not None]
        if supported:
            counts = [acceptance.accepted_G.sum() for acceptance in supported]
            first = next(index for index, count in enumerate(counts) if count >= 0.9 * max(counts))
            return _threshold(supported[first], basis, num_videos, len(paths))
    if not accept_uncertified:
        return RiskThreshold(
            threshold=ABSTAIN_ON_ALL,
            basis=NONE,
            num_accepted=0,
            num_errors=0,
            num_sources=0,
            num_wrong_sources=0,
            num_videos=num_videos,
            estimate=0.5,
            early={},
            num_paths=len(paths),
        )
    # `min` returns the first of equal candidates, and paths begin with their highest threshold.
    lowest = min((acceptance for path in paths for acceptance in path), key=lambda acceptance: acceptance.estimate)
    return _threshold(lowest, NONE, num_videos, len(paths))


def sources_to_certify(risk: float, num_paths: int = 1) -> int:
    """Number of sources without a wrong video that are needed to certify `risk` on one of `num_paths` paths."""
    return math.ceil(math.log((1 - CONFIDENCE_LEVEL) / num_paths) / math.log(1 - risk))


def risk_statement(chosen: RiskThreshold, risk: float, caveat: str = "") -> dict[str, Any]:
    """Build the entry `risk` of `summary.json` as a dictionary: the allowed error and the threshold chosen for it.

    `caveat`: sentence about the videos for which the risk does not hold (`ensemble/known_sources.py`).
    """
    return {
        "abstain_risk": risk,
        "confidence_level": CONFIDENCE_LEVEL if chosen.basis == CERTIFIED else None,
        **asdict(chosen),
        "caveat": caveat,
    }


def _last(path: Sequence[Acceptance], holds: Callable[[Acceptance, int | None], bool]) -> Acceptance | None:
    """The laxest candidate of a path that can be accepted, or None: the last of an unbroken series for which `holds` is
    True.

    `holds` tests a candidate, with its counted errors or with a given number of wrong sources (recordings). The series
    starts at the first candidate that would hold with one wrong source, or if there is none, with no wrong source:
    stricter candidates accept too few videos to hold with any number of errors.
    """
    for num_wrong in (1, 0):
        start = next((index for index, acceptance in enumerate(path) if holds(acceptance, num_wrong)), None)
        if start is not None:
            break
    else:
        return None
    last = None
    for acceptance in path[start:]:
        if not holds(acceptance, None):
            break
        last = acceptance
    return last


def _threshold(acceptance: Acceptance, basis: str, num_videos: int, num_paths: int) -> RiskThreshold:
    """Build a `RiskThreshold` from the chosen candidate `acceptance`."""
    return RiskThreshold(
        threshold=acceptance.threshold,
        basis=basis,
        num_accepted=int(acceptance.accepted_G.sum()),
        num_errors=int(acceptance.errors_G.sum()),
        num_sources=acceptance.num_sources,
        num_wrong_sources=int((acceptance.errors_G > 0).sum()),
        num_videos=num_videos,
        estimate=acceptance.estimate,
        early=acceptance.early,
        num_paths=num_paths,
    )


def threshold_text(chosen: RiskThreshold, risk: float, caveat: str = "") -> str:
    """One line for users about the threshold chosen for `--abstain-risk`, with the sentence `caveat` at its end if a
    threshold was found."""
    text = _threshold_text(chosen, risk)
    return f"{text}; {caveat}" if caveat and not chosen.abstains_on_all else text


def _threshold_text(chosen: RiskThreshold, risk: float) -> str:
    """The line of `threshold_text` without a caveat."""
    num_needed = sources_to_certify(risk, chosen.num_paths)
    needed = f"certifying it takes at least {num_needed} accepted held-out sources without a wrong video, more with one"
    if chosen.abstains_on_all:
        return (
            f"risk basis none: abstaining on every video, since the {chosen.num_videos} held-out videos support no "
            f"trust score for --abstain-risk {risk:g}; {needed}; --accept-uncertified accepts videos all the same"
        )
    start = (
        f"risk basis {chosen.basis}: accepting trust scores from {chosen.threshold:.2f} ({chosen.num_accepted} of "
        f"{chosen.num_videos} held-out videos, {chosen.num_errors} of them wrong; {chosen.num_sources} sources, "
        f"{chosen.num_wrong_sources} of them with a wrong one)"
    )
    if chosen.basis == CERTIFIED:
        return f"{start}: an error of at most {risk:g} on sources like these, with confidence {CONFIDENCE_LEVEL:g}"
    estimate = f"{start}: an estimated error of {chosen.estimate:.3f}"
    if chosen.basis == ESTIMATED:
        return f"{estimate}, which promises nothing for --abstain-risk {risk:g}; {needed}"
    return (
        f"{estimate}, accepted by --accept-uncertified; validation does not support --abstain-risk {risk:g}; {needed}"
    )
