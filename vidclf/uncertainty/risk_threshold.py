"""The trust threshold that keeps the error among accepted videos below a stated risk, and the rule of acceptance.

Shape suffixes: B videos, G sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from vidclf.uncertainty.geometry import Floats
from vidclf.uncertainty.ood import is_out_of_distribution

Bools = npt.NDArray[np.bool_]

Ints = npt.NDArray[np.int64]

CERTIFIED, ESTIMATED, NONE = BASES = ("certified", "estimated", "none")
"""Grounds for a threshold: a statistical certificate, an estimate, or nothing."""

CONFIDENCE_LEVEL = 0.9
"""Probability that a certified risk holds, over the draw of the validation sources."""

THRESHOLDS = np.arange(100) / 100
"""Candidate thresholds."""

ABSTAIN_ON_ALL = 2.0
"""A threshold above every trust score."""


def is_accepted(trust_B: Floats, ood_B: Floats, threshold: float) -> Bools:
    """Whether each video's label counts: its trust score reaches the threshold and it is not out of distribution."""
    accepted_B: Bools = (trust_B >= threshold) & ~is_out_of_distribution(ood_B)
    return accepted_B


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Accepted validation videos and errors per source, for one candidate threshold."""

    threshold: float
    """lowest trust score that is accepted"""
    accepted_G: Ints
    """accepted videos per source, of the sources with an accepted video"""
    errors_G: Ints
    """wrong ones among them"""
    early: dict[str, float]
    """threshold of each early look that decides"""

    @classmethod
    def of(
        cls,
        threshold: float,
        is_accepted_B: Bools,
        correct_B: Bools,
        source_B: npt.NDArray[np.integer],
        early: dict[str, float] | None = None,
    ) -> Acceptance:
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
        return len(self.accepted_G)

    @property
    def num_effective_sources(self) -> float:
        """Number of equally large sources with the same amount of information (Kish 1965)."""
        total = self.accepted_G.sum()
        return float(total**2 / (self.accepted_G**2).sum()) if total else 0.0

    @property
    def estimate(self) -> float:
        """Expected risk, by the rule of succession over the effective number of sources."""
        total = self.accepted_G.sum()
        share = self.errors_G.sum() / total if total else 0.0
        return float((share * self.num_effective_sources + 1) / (self.num_effective_sources + 2))

    def certifies(self, risk: float, error_rate: float, num_wrong: int | None = None) -> bool:
        """Whether a binomial test with error probability `error_rate` shows that the share of wrong sources is at most
        `risk`. A source is wrong if one of its accepted videos is. `num_wrong` replaces the number of wrong sources.
        """
        wrong = int((self.errors_G > 0).sum()) if num_wrong is None else num_wrong
        return self.num_sources > 0 and bool(binom.cdf(wrong, self.num_sources, risk) <= error_rate)

    def estimates(self, risk: float, num_wrong: int | None = None) -> bool:
        """Whether the estimated risk is at most `risk`; `num_wrong` replaces the number of wrong effective sources."""
        number = self.num_effective_sources
        return (self.estimate if num_wrong is None else (num_wrong + 1) / (number + 2)) <= risk


@dataclass(frozen=True, kw_only=True)
class RiskThreshold:
    """The lowest trust score that is accepted, with its evidence from the validation videos."""

    threshold: float
    """`ABSTAIN_ON_ALL` if the basis is `none`, unless the user accepts that"""
    basis: str
    """one of `BASES`"""
    num_accepted: int
    """validation videos that the threshold accepts"""
    num_errors: int
    """accepted validation videos with a wrong label"""
    num_sources: int
    """sources of the accepted validation videos"""
    num_wrong_sources: int
    """sources with an accepted video whose label is wrong"""
    num_videos: int
    """all validation videos"""
    estimate: float
    """expected share of wrong labels among accepted videos; 0.5 if none is accepted"""
    early: dict[str, float]
    """threshold of each early look that decides; the counts above then cover all looks together"""
    num_paths: int = 1
    """paths of candidates that share the probability of a false certificate"""

    @property
    def abstains_on_all(self) -> bool:
        return self.threshold >= ABSTAIN_ON_ALL


def choose(
    paths: Sequence[Sequence[Acceptance]], risk: float, num_videos: int, accept_uncertified: bool
) -> RiskThreshold:
    """The laxest threshold that the validation data support; each path runs from its strictest candidate to its laxest.

    A certificate on any path takes precedence over every estimate. The paths share the probability of a false
    certificate (fixed-sequence testing within a path: Angelopoulos et al. 2021, Learn then Test, arXiv:2110.01052).
    Among paths that accept at least nine tenths of the largest number of accepted videos, the first is taken.
    Without a certificate and without an estimate below the risk no video is accepted. With `accept_uncertified` the
    threshold is then the candidate with the lowest estimate, the highest one if several are equal.
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


def risk_statement(chosen: RiskThreshold, risk: float) -> dict[str, Any]:
    """Entry `risk` of a run's `summary.json`: the stated risk and the threshold chosen for it."""
    return {
        "abstain_risk": risk,
        "confidence_level": CONFIDENCE_LEVEL if chosen.basis == CERTIFIED else None,
        **asdict(chosen),
    }


def _last(path: Sequence[Acceptance], holds: Callable[[Acceptance, int | None], bool]) -> Acceptance | None:
    """The last candidate of an unbroken series that holds, or None.

    The series starts at the first candidate that would hold with one wrong source, or if there is none, with no wrong
    source: stricter candidates accept too few videos to hold with any number of errors.
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


def threshold_text(chosen: RiskThreshold, risk: float) -> str:
    """One line for users about the threshold chosen for `--abstain-risk`."""
    num_needed = sources_to_certify(risk, chosen.num_paths)
    needed = f"certifying it takes {num_needed} accepted validation sources or more, and few wrong ones"
    if chosen.abstains_on_all:
        return (
            f"risk basis none: abstaining on every video, since the {chosen.num_videos} validation videos support no "
            f"trust score for --abstain-risk {risk:g}; {needed}; --accept-uncertified accepts videos all the same"
        )
    start = (
        f"risk basis {chosen.basis}: accepting trust scores from {chosen.threshold:.2f} ({chosen.num_accepted} of "
        f"{chosen.num_videos} validation videos, {chosen.num_errors} of them wrong; {chosen.num_sources} sources, "
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
