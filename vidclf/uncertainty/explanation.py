"""Contributions of the confidence and of each sign to a trust score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import logit

from vidclf.uncertainty.trust_score import CERTAIN, SIGNS, TrustScore


@dataclass(frozen=True, kw_only=True)
class TrustPart:
    """One term of the trust score's logit."""

    name: str
    """`confidence` or one of `trust_score.SIGNS`"""
    value: float
    """value for the video, in the sign's own unit"""
    typical: float | None
    """mean over the validation videos; None for the confidence"""
    effect: float
    """contribution to the trust score in log-odds. Below 0 the confidence speaks against the top label, or the sign
    does so more than for the typical video."""


def trust_parts(score: TrustScore, confidence: float, signs_K: Sequence[float]) -> list[TrustPart]:
    """The terms of `score` for one video, from the one that speaks most against its label to the one most in favour.

    The effects and the score's intercept add up to the logit of the trust score. Signs without weight are left out.
    """
    clipped = min(max(confidence, CERTAIN), 1 - CERTAIN)
    parts = [TrustPart(name="confidence", value=confidence, typical=None, effect=score.slope * float(logit(clipped)))]
    for name, value in zip(SIGNS, signs_K, strict=True):
        effect = score.weights[name] * (value - score.means[name]) / score.sds[name]
        if score.weights[name]:
            parts.append(TrustPart(name=name, value=float(value), typical=score.means[name], effect=float(effect)))
    return sorted(parts, key=lambda part: part.effect)
