"""Explanation of a trust score: the contribution of each of its inputs.

The trust score is the estimated probability that the label is right. The inputs are the confidence and the signs
(measures of agreement, such as between ensemble members).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import logit

from vidclf.uncertainty.trust_score import CERTAIN, SIGNS, TrustScore


@dataclass(frozen=True, kw_only=True)
class TrustPart:
    """The contribution of one input to a video's trust score (estimated probability that the label is right).

    The contributions are terms of the score's logit.
    """

    name: str
    """name of the input: `confidence` or one of `trust_score.SIGNS`"""
    value: float
    """value of the input for the video, in the input's own unit"""
    typical: float | None
    """mean of the input over the validation videos; None for the confidence"""
    effect: float
    """contribution to the trust score in log-odds. Below 0, a confidence speaks against the label; any other input
    speaks against the label more than it does for the typical video"""


def trust_parts(score: TrustScore, confidence: float, signs_K: Sequence[float]) -> list[TrustPart]:
    """The contributions of all inputs to one video's trust score `score`, sorted from the one most against the label to
    the one most in favour.

    `signs_K` are the values of the inputs `trust_score.SIGNS`. The effects and the score's intercept add up to the
    logit of the trust score. Inputs with weight 0 are left out.
    """
    clipped = min(max(confidence, CERTAIN), 1 - CERTAIN)
    parts = [TrustPart(name="confidence", value=confidence, typical=None, effect=score.slope * float(logit(clipped)))]
    for name, value in zip(SIGNS, signs_K, strict=True):
        effect = score.weights[name] * (value - score.means[name]) / score.sds[name]
        if score.weights[name]:
            parts.append(TrustPart(name=name, value=float(value), typical=score.means[name], effect=float(effect)))
    return sorted(parts, key=lambda part: part.effect)
