"""The trust score: the estimated probability that a video's most probable class is right.

It is the calibrated confidence, corrected by a regularised logistic regression on signs of agreement (`SIGNS`), such as
the agreement of the ensemble's members. The prior is the calibrated confidence itself, so a validation split with few
errors, or none, changes little. The choice of the lowest trust score to accept is in `risk_threshold.py`, the distance
from the training videos in `ood.py`.

Shape suffixes: B videos, C classes, M members, V views (test-time variants of a video), K signs, N votes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

Floats = npt.NDArray[np.floating[Any]]

Bools = npt.NDArray[np.bool_]

SIGNS = ("margin", "certainty", "member_agreement", "view_agreement", "frame_agreement", "closeness")
"""Names of the inputs of the trust score besides the confidence. A higher value of each means more trust.

`view_agreement` compares test-time variants of a video; it is constant without test-time augmentation and has no weight
there.
"""

PRIOR_SD = 0.5
"""Standard deviation of the prior of each coefficient of the trust score.

The prior mean is 1 for the confidence and 0 for the intercept and the other inputs (`SIGNS`), whose weights cannot be
negative.
"""

CERTAIN = 1e-4
"""Confidences are clipped to [CERTAIN, 1 - CERTAIN], so that their logits are finite."""


def disagreement(probabilities_NBC: Floats, weights_N: Floats | None = None) -> npt.NDArray[np.float32]:
    """For each video how much its N votes differ, 0 to 1: their mean total variation distance to their weighted
    average.

    The votes are class probabilities by ensemble members, or from views (test-time variants of the video).
    """
    mean_BC = np.average(probabilities_NBC, axis=0, weights=weights_N)
    distance_NB = 0.5 * np.abs(probabilities_NBC - mean_BC).sum(axis=2)
    return np.average(distance_NB, axis=0, weights=weights_N).astype(np.float32)


def signs(
    probabilities_BC: Floats,
    member_probabilities_MBC: Floats,
    view_probabilities_VBC: Floats,
    frame_agreement_B: Floats,
    ood_score_B: Floats,
    weights_M: Floats | None = None,
) -> Floats:
    """Compute the inputs of the trust score besides the confidence (`SIGNS`) for each video, as an array [videos,
    inputs]. `weights_M` are the weights of the members; None for equal ones.

    All are probabilities or shares, except closeness, which is minus the logarithm of the OOD score (distance from the
    training videos).
    """
    sorted_BC = np.sort(probabilities_BC.astype(np.float64), axis=1)
    entropy_B = -(sorted_BC * np.log(np.maximum(sorted_BC, 1e-12))).sum(axis=1) / np.log(sorted_BC.shape[1])
    return np.stack(
        [
            sorted_BC[:, -1] - sorted_BC[:, -2],
            1 - entropy_B,
            1 - disagreement(member_probabilities_MBC, weights_M),
            1 - disagreement(view_probabilities_VBC),
            frame_agreement_B,
            -np.log(np.maximum(ood_score_B, 1e-6)),
        ],
        axis=1,
    )


@dataclass(frozen=True, kw_only=True)
class TrustScore:
    """Fitted formula of the trust score (estimated probability that the most probable class is right).

    logit(trust) = intercept + slope · logit(confidence) + Σ weights · (sign - mean) / sd, summed over the inputs
    `SIGNS`.
    """

    intercept: float
    slope: float
    weights: dict[str, float]
    """weight of each of `SIGNS`"""
    means: dict[str, float]
    """mean of each of `SIGNS` over the videos of the fit"""
    sds: dict[str, float]
    """standard deviation of each of `SIGNS` over the videos of the fit"""

    @classmethod
    def fit(cls, confidence_B: Floats, signs_BK: Floats, correct_B: Bools) -> TrustScore:
        """Fit the formula on videos with known labels: their confidence, the inputs `SIGNS`, and whether the most
        probable class is right.

        Maximum a posteriori with normal priors of `PRIOR_SD`; slope and weights are at least 0. Without errors among
        the videos the fit stays near the prior: trust is the calibrated confidence.
        """
        # Imported here, because jobs that apply what was fitted need no optimizer; it takes 0.2 CPU seconds to load.
        from scipy.optimize import minimize

        means_K = signs_BK.mean(axis=0)
        sds_K = np.maximum(signs_BK.std(axis=0), 1e-3)
        inputs_BP = np.column_stack([np.ones(len(correct_B)), _logit(confidence_B), (signs_BK - means_K) / sds_K])
        prior_P = np.array([0.0, 1.0, *np.zeros(signs_BK.shape[1])])
        sign_B = np.where(correct_B, 1.0, -1.0)

        def loss(coefficients_P: Floats) -> tuple[float, Floats]:
            margin_B = sign_B * (inputs_BP @ coefficients_P)
            pull_P = (coefficients_P - prior_P) / PRIOR_SD**2
            gradient_P = -inputs_BP.T @ (sign_B * expit(-margin_B)) + pull_P
            return float(np.logaddexp(0, -margin_B).sum() + 0.5 * ((coefficients_P - prior_P) @ pull_P)), gradient_P

        bounds = [(None, None), *[(0.0, None)] * (len(prior_P) - 1)]
        fitted_P = minimize(loss, prior_P, jac=True, bounds=bounds, method="L-BFGS-B").x
        return cls(
            intercept=float(fitted_P[0]),
            slope=float(fitted_P[1]),
            weights=_by_sign(fitted_P[2:]),
            means=_by_sign(means_K),
            sds=_by_sign(sds_K),
        )

    def __call__(self, confidence_B: Floats, signs_BK: Floats) -> npt.NDArray[np.float32]:
        """Compute the trust score of each video, 0 to 1, from its confidence and its inputs `SIGNS`."""
        scaled_BK = (signs_BK - self._array(self.means)) / self._array(self.sds)
        logits_B = self.intercept + self.slope * _logit(confidence_B) + scaled_BK @ self._array(self.weights)
        trust_B: npt.NDArray[np.float32] = expit(logits_B).astype(np.float32)
        return trust_B

    @staticmethod
    def _array(by_sign: dict[str, float]) -> Floats:
        """Values by name as an array, in the order of `SIGNS`."""
        return np.array([by_sign[name] for name in SIGNS])


def _by_sign(values_K: Floats) -> dict[str, float]:
    """The values of an array, one per entry of `SIGNS`, as a dictionary by name."""
    return {name: float(value) for name, value in zip(SIGNS, values_K, strict=True)}


def _logit(confidence_B: Floats) -> Floats:
    """Log-odds of confidences, which are clipped to [CERTAIN, 1 - CERTAIN] first."""
    logits_B: Floats = logit(np.clip(confidence_B.astype(np.float64), CERTAIN, 1 - CERTAIN))
    return logits_B
