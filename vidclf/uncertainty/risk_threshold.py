"""The trust threshold that keeps the error among accepted videos under a stated risk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

Bools = npt.NDArray[np.bool_]

Ints = npt.NDArray[np.int64]

CERTIFIED, ESTIMATED, NONE = BASES = ("certified", "estimated", "none")

CONFIDENCE_LEVEL = 0.9
"""With which a certified risk holds, over the draw of the validation sources."""

THRESHOLDS = np.arange(100) / 100
"""Trust scores that a threshold is chosen from."""

ABSTAIN_ON_ALL = 2.0
"""A threshold above every trust score."""


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """What validation's sources show of one way to accept videos."""

    threshold: float
    """trust score from which on videos are accepted"""
    accepted_G: Ints
    """accepted videos of each source of which a video is accepted"""
    errors_G: Ints
    """how many of these are wrong"""
    early: dict[str, float]
    """the same threshold of each early stage that decides"""

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
        """Sources of one size that would tell as much (Kish 1965)."""
        total = self.accepted_G.sum()
        return float(total**2 / (self.accepted_G**2).sum()) if total else 0.0

    @property
    def estimate(self) -> float:
        """Expected risk: the rule of succession over the effective number of sources."""
        total = self.accepted_G.sum()
        share = self.errors_G.sum() / total if total else 0.0
        return float((share * self.num_effective_sources + 1) / (self.num_effective_sources + 2))

    def certifies(self, risk: float, error_rate: float, num_wrong: int | None = None) -> bool:
        """Whether the share of wrong sources is at most `risk`, by a test that errs at `error_rate`; with `num_wrong`
        whether it would be with so many of them wrong."""
        wrong = int((self.errors_G > 0).sum()) if num_wrong is None else num_wrong
        return self.num_sources > 0 and bool(binom.cdf(wrong, self.num_sources, risk) <= error_rate)

    def estimates(self, risk: float, num_wrong: int | None = None) -> bool:
        """Whether the estimate is at most `risk`; with `num_wrong` whether it would be with so many effective
        sources wrong."""
        number = self.num_effective_sources
        return (self.estimate if num_wrong is None else (num_wrong + 1) / (number + 2)) <= risk


@dataclass(frozen=True, kw_only=True)
class RiskThreshold:
    """The trust score from which on predictions are accepted, and what validation says of it."""

    threshold: float
    """`ABSTAIN_ON_ALL` where the basis is `none`, unless that is accepted"""
    basis: str
    """one of `BASES`"""
    num_accepted: int
    num_errors: int
    num_sources: int
    num_wrong_sources: int
    """of validation: videos accepted from the threshold on, the wrong ones of these, their sources, and those of the
    sources that have a wrong one"""
    num_videos: int
    """all videos of validation"""
    estimate: float
    """expected share of wrong labels among accepted videos; a half where none is accepted"""
    early: dict[str, float]
    """the threshold of each early stage that decides; the counts are then of all stages together"""

    @property
    def abstains_on_all(self) -> bool:
        return self.threshold >= ABSTAIN_ON_ALL


def choose(
    paths: Sequence[Sequence[Acceptance]], risk: float, num_videos: int, accept_uncertified: bool
) -> RiskThreshold:
    """The threshold that the paths, each from its strictest way to accept to its laxest, support.

    A certificate of any path goes before every estimate; the paths share the probability of a false certificate.
    Of the paths that accept at least nine tenths as many videos as the one that accepts the most, the first is taken.
    Without a certificate or an estimate nothing is accepted, or with `accept_uncertified` from the highest threshold
    of the least estimate on.
    """
    error_rate = (1 - CONFIDENCE_LEVEL) / len(paths)
    certified = [_last(path, lambda one, wrong: one.certifies(risk, error_rate, wrong)) for path in paths]
    estimated = [_last(path, lambda one, wrong: one.estimates(risk, wrong)) for path in paths]
    for basis, found in ((CERTIFIED, certified), (ESTIMATED, estimated)):
        reached = [one for one in found if one is not None]
        if reached:
            most = max(one.accepted_G.sum() for one in reached)
            return _found(next(one for one in reached if one.accepted_G.sum() >= 0.9 * most), basis, num_videos)
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
        )
    # The first of equals: paths begin with their highest threshold.
    return _found(min((one for path in paths for one in path), key=lambda one: one.estimate), NONE, num_videos)


def sources_to_certify(risk: float) -> int:
    """Sources, none of them with a wrong video, that it takes to certify `risk`."""
    return math.ceil(math.log(1 - CONFIDENCE_LEVEL) / math.log(1 - risk))


def risk_statement(found: RiskThreshold, risk: float) -> dict[str, Any]:
    """What a run's `summary.json` states of `--abstain-risk`."""
    return {
        "abstain_risk": risk,
        "confidence_level": CONFIDENCE_LEVEL if found.basis == CERTIFIED else None,
        **asdict(found),
    }


def _last(path: Sequence[Acceptance], holds: Callable[[Acceptance, int | None], bool]) -> Acceptance | None:
    """The last of a path before the first that does not hold."""
    for num_wrong in (1, 0):
        start = next((number for number, one in enumerate(path) if holds(one, num_wrong)), None)
        if start is not None:
            break
    else:
        return None
    last = None
    for one in path[start:]:
        if not holds(one, None):
            break
        last = one
    return last


def _found(one: Acceptance, basis: str, num_videos: int) -> RiskThreshold:
    return RiskThreshold(
        threshold=one.threshold,
        basis=basis,
        num_accepted=int(one.accepted_G.sum()),
        num_errors=int(one.errors_G.sum()),
        num_sources=one.num_sources,
        num_wrong_sources=int((one.errors_G > 0).sum()),
        num_videos=num_videos,
        estimate=one.estimate,
        early=one.early,
    )


def threshold_text(found: RiskThreshold, risk: float) -> str:
    """What comes of `--abstain-risk`, in one line."""
    needed = f"certifying it takes {sources_to_certify(risk)} accepted validation sources or more, and few wrong ones"
    if found.abstains_on_all:
        return (
            f"risk basis none: abstaining on every video, since the {found.num_videos} validation videos support no "
            f"trust score for --abstain-risk {risk:g}; {needed}; --accept-uncertified accepts videos all the same"
        )
    start = (
        f"risk basis {found.basis}: accepting trust scores from {found.threshold:.2f} ({found.num_accepted} of "
        f"{found.num_videos} validation videos, {found.num_errors} of them wrong; {found.num_sources} sources, "
        f"{found.num_wrong_sources} of them with a wrong one)"
    )
    if found.basis == CERTIFIED:
        return f"{start}: an error of at most {risk:g} on sources like these, with confidence {CONFIDENCE_LEVEL:g}"
    estimate = f"{start}: an estimated error of {found.estimate:.3f}"
    if found.basis == ESTIMATED:
        return f"{estimate}, which promises nothing for --abstain-risk {risk:g}; {needed}"
    return (
        f"{estimate}, accepted by --accept-uncertified; validation does not support --abstain-risk {risk:g}; {needed}"
    )
