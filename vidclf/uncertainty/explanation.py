"""Why a trust score is what it is: what each of its signs adds to it or takes off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import logit

from vidclf.uncertainty.trust_score import CERTAIN, SIGNS, TrustScore


@dataclass(frozen=True, kw_only=True)
class TrustPart:
    """One term of the trust score's logit."""

    name: str
    """`confidence` or one of `trust.SIGNS`"""
    value: float
    """in the sign's own unit"""
    typical: float | None
    """its mean over the validation videos; None for the confidence"""
    effect: float
    """in log-odds, added to the trust score: below 0 it speaks against the top label, or against it more
    than for the typical video"""


def trust_parts(score: TrustScore, confidence: float, signs_K: Sequence[float]) -> list[TrustPart]:
    """The terms of `score` for one video, what speaks against its label most coming first.

    With the score's intercept they add up to the logit of the trust score. A sign without weight has no
    say and is left out.
    """
    clipped = min(max(confidence, CERTAIN), 1 - CERTAIN)
    parts = [TrustPart(name="confidence", value=confidence, typical=None, effect=score.slope * float(logit(clipped)))]
    for name, value in zip(SIGNS, signs_K, strict=True):
        effect = score.weights[name] * (value - score.means[name]) / score.sds[name]
        if score.weights[name]:
            parts.append(TrustPart(name=name, value=float(value), typical=score.means[name], effect=float(effect)))
    return sorted(parts, key=lambda part: part.effect)
