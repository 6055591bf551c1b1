"""The trust threshold that keeps the error among accepted videos under a stated risk."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from vidclf.uncertainty.trust_score import Bools, Floats

CONFIDENCE_LEVEL = 0.9
"""With which a risk threshold holds, over the draw of the validation videos."""

THRESHOLDS = np.arange(100) / 100
"""Trust scores that a risk threshold is chosen from."""


@dataclass(frozen=True, kw_only=True)
class RiskThreshold:
    """The trust score from which on predictions are accepted, and what validation says of it."""

    threshold: float
    basis: str
    """`certified`: the error of accepted videos is at most the risk, with `CONFIDENCE_LEVEL`;
    `estimated`: (errors + 1) / (accepted + 2) is at most the risk; `unreached`: that is as low as it gets,
    and above the risk; `as full`, of an early stage of the cascade: above the risk, but the errors that the
    full look would spare are not"""
    num_accepted: int
    num_errors: int
    num_videos: int
    """of validation: accepted at this threshold, wrong among these, and all that may be accepted"""
    num_spared: int | None = None
    """of the errors, with `as full`: those that the full look would not make"""

    @property
    def estimate(self) -> float:
        """Expected error of accepted videos, by the rule of succession."""
        return (self.num_errors + 1) / (self.num_accepted + 2)


def risk_threshold(trust_B: Floats, correct_B: Bools, risk: float) -> RiskThreshold:
    """The lowest of `THRESHOLDS` that keeps the error among accepted videos at or under `risk`.

    From the highest threshold downwards the hypothesis that the risk is exceeded is tested with the
    binomial tail of the errors seen, at 1 - `CONFIDENCE_LEVEL`, beginning with the first threshold that
    accepts enough videos for a test without an error to succeed; the last one before a test fails is
    taken. Where not even the first succeeds, the lowest threshold is taken at which the estimated
    error is at most `risk`, and where there is none, the lowest with the least estimated error.
    """
    found = [at_threshold(threshold, trust_B, correct_B) for threshold in THRESHOLDS[::-1]]
    certified = None
    for candidate in found:
        if candidate.num_accepted < videos_to_certify(risk):
            continue
        if binom.cdf(candidate.num_errors, candidate.num_accepted, risk) > 1 - CONFIDENCE_LEVEL:
            break
        certified = candidate
    if certified is not None:
        return _based(certified, "certified")
    within = [candidate for candidate in found if candidate.estimate <= risk]
    if within:
        return _based(within[-1], "estimated")
    return _based(min(found[::-1], key=lambda candidate: candidate.estimate), "unreached")


def videos_to_certify(risk: float) -> int:
    """Videos, all right, that it takes to certify `risk` at `CONFIDENCE_LEVEL`."""
    return math.ceil(math.log(1 - CONFIDENCE_LEVEL) / math.log(1 - risk))


def at_threshold(threshold: float, trust_B: Floats, correct_B: Bools, basis: str = "") -> RiskThreshold:
    """What validation says of accepting from `threshold` on."""
    is_accepted_B = trust_B >= threshold
    return RiskThreshold(
        threshold=float(threshold),
        basis=basis,
        num_accepted=int(is_accepted_B.sum()),
        num_errors=int((is_accepted_B & ~correct_B).sum()),
        num_videos=len(trust_B),
    )


def _based(found: RiskThreshold, basis: str) -> RiskThreshold:
    return replace(found, basis=basis)


def threshold_text(found: RiskThreshold, risk: float) -> str:
    """What comes of `--abstain-risk`, in one line."""
    on_validation = f"{found.num_accepted} of {found.num_videos} validation videos, {found.num_errors} of them wrong"
    start = f"accepting trust scores from {found.threshold:.2f} ({on_validation})"
    if found.basis == "certified":
        return f"{start}: an error of at most {risk:g} with confidence {CONFIDENCE_LEVEL:g}"
    needed = videos_to_certify(risk)
    if found.basis == "estimated":
        return (
            f"{start}: an estimated error of {found.estimate:.3f}; to certify --abstain-risk {risk:g} takes {needed} "
            "accepted validation videos or more, and few errors"
        )
    return (
        f"{start}: validation cannot support --abstain-risk {risk:g}, which takes {needed} videos or more and few "
        f"errors; the estimated error is {found.estimate:.3f}, the least that it can vouch for"
    )
