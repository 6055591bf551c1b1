"""Fit of the linear member and of its weight in the ensemble.

The linear member is a multinomial logistic regression (scikit-learn) on mean and spread of each feature, standardised
over the training videos. Its weight is fitted on the validation videos, which neither it nor the temporal members were
trained on.

Shape suffixes: B videos, T frames, D features, C classes, V views (test-time variants of a video), M members, K
descriptors (mean and standard deviation of each feature of each backbone), S backbones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from vidclf.ensemble.inference import BySpace
from vidclf.ensemble.linear_member import LinearMember, LinearWeight, descriptors, member_weights
from vidclf.ensemble.views import LEAST_PROBABILITY, mixing_gain, mixture_weights
from vidclf.uncertainty.temperature import fit_temperature, tempered

PRIOR_VARIANCE = 10.0
"""Variance of a video's logits under the prior of the regression's weights.

All standardised descriptors of a video contribute equally to it, so the strength of the prior does not depend on the
number of features. `benchmarks/linear_member.py` compares values.
"""

LEAST_SPREAD = 1e-6
"""Smallest standard deviation over the training videos with which a descriptor is used. A smaller one is rounding."""

COLUMNS_AT_A_TIME = 32
"""Number of columns of the descriptors that are converted to float64 together."""

STANDARD_ERRORS = 1.0
"""Number of standard errors over the sources that the gain must exceed, or else the weight is 0.

A cross calibration measures the gain on all videos instead of few; there any gain is enough
(`docs/benchmarks/classification.md`).
"""


@dataclass(frozen=True, kw_only=True)
class WeighedVotes:
    """Probabilities by each member in each view (test-time variant of a video), and the weights of the members."""

    probabilities_VMBC: npt.NDArray[np.float32]
    weights_M: npt.NDArray[np.float64]

    @classmethod
    def equal(cls, probabilities_VMBC: npt.NDArray[np.float32]) -> WeighedVotes:
        """The votes of members with equal weights."""
        return cls(probabilities_VMBC=probabilities_VMBC, weights_M=member_weights(probabilities_VMBC.shape[1], None))


def fit_linear(
    sequences_S: BySpace, labels: Sequence[int], folds_B: npt.NDArray[np.int64], num_classes: int
) -> LinearMember:
    """Fit the linear member to the training videos, calibrated by their cross-fitted probabilities.

    `sequences_S` holds their features per backbone, `labels` their class indices, `folds_B` their cross-fitting folds
    (all videos of a source are in one). Every class must have a video. A fold is left out of the calibration if a class
    has no video outside it.
    """
    return fit_descriptors(descriptors(sequences_S), np.asarray(labels), folds_B, num_classes)


def fit_descriptors(
    rows_BK: npt.NDArray[np.float32],
    labels_B: npt.NDArray[np.integer[Any]],
    folds_B: npt.NDArray[np.int64],
    num_classes: int,
) -> LinearMember:
    """Fit the linear member as `fit_linear` does, from the descriptors of the training videos."""
    member = _regression(rows_BK, np.arange(len(labels_B)), labels_B, num_classes)
    parts, truth = [], []
    for fold in np.unique(folds_B):
        inside = folds_B != fold
        if len(np.unique(labels_B[inside])) == num_classes:
            crossed = _regression(rows_BK, np.flatnonzero(inside), labels_B[inside], num_classes)
            parts.append(crossed.of_descriptors(rows_BK[~inside]))
            truth.append(labels_B[~inside])
    if not parts:
        return member
    return member.scaled(1 / fit_temperature(np.concatenate(parts), np.concatenate(truth)))


def _regression(
    rows_BK: npt.NDArray[np.float32],
    chosen: npt.NDArray[np.intp],
    labels_B: npt.NDArray[np.integer[Any]],
    num_classes: int,
) -> LinearMember:
    """Logistic regression on standardised descriptors, with the standardisation folded into its weights.

    It is fitted to the rows `chosen`, whose class indices are `labels_B`.
    """
    standardised_BK, mean_K, scale_K = _standardised(rows_BK, chosen)
    strength = PRIOR_VARIANCE / max(int((scale_K > 0).sum()), 1)
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(standardised_BK, labels_B)
    weights_CK, offset_C = fitted.coef_.astype(np.float64), fitted.intercept_.astype(np.float64)
    if num_classes == 2:
        # For two classes there is one row of weights, whose logit is that of the second class.
        weights_CK, offset_C = np.concatenate([0 * weights_CK, weights_CK]), np.array([0.0, *offset_C])
    weights_KC = scale_K[:, None] * weights_CK.T
    return LinearMember(
        weights_KC=weights_KC.astype(np.float32), offset_C=(offset_C - mean_K @ weights_KC).astype(np.float32)
    )


def _standardised(
    rows_BK: npt.NDArray[np.float32], chosen: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The rows `chosen` with mean 0 and standard deviation 1 in each column, the subtracted means [K], and the factors
    [K], which are 0 for a column that does not vary.

    Means and deviations are computed in float64, in blocks of columns: a float64 copy of all rows would take four times
    the memory of the result.
    """
    standardised_BK = np.empty((len(chosen), rows_BK.shape[1]), np.float32)
    mean_K, scale_K = np.empty(rows_BK.shape[1]), np.empty(rows_BK.shape[1])
    for start in range(0, rows_BK.shape[1], COLUMNS_AT_A_TIME):
        block = slice(start, start + COLUMNS_AT_A_TIME)
        wide_BK = rows_BK[chosen, block].astype(np.float64)
        mean_K[block], spread_K = wide_BK.mean(axis=0), wide_BK.std(axis=0)
        scale_K[block] = np.where(spread_K > LEAST_SPREAD, 1 / np.maximum(spread_K, LEAST_SPREAD), 0.0)
        wide_BK -= mean_K[block]
        standardised_BK[:, block] = wide_BK * scale_K[block]
    return standardised_BK, mean_K, scale_K


def weigh(
    linear_V1BC: npt.NDArray[np.float32],
    temporal: WeighedVotes,
    labels_B: npt.NDArray[np.int64],
    groups: Sequence[str],
    prior_temperature: float,
    standard_errors: float = STANDARD_ERRORS,
) -> tuple[WeighedVotes, LinearWeight]:
    """Join the votes of the linear member to those of the temporal members, and fit its weight.

    `linear_V1BC` [views, 1, videos, classes] are its probabilities. `labels_B` holds the class index of each video,
    `groups` its source (recording). The probabilities are compared at the temperature that calibrates the temporal
    members, with its prior around `prior_temperature`.

    The weight is above 0 only if mixing half and half gains more than `standard_errors` over the sources. It is then
    the maximum a posteriori of the mixture (`views.mixture_weights`), whose prior is half and half.
    """
    temporal_VMBC = temporal.probabilities_VMBC
    both = np.stack([temporal_VMBC[0].mean(axis=0), linear_V1BC[0, 0]])
    temperature = fit_temperature(both[0], labels_B, prior_temperature)
    true_NB = np.take_along_axis(tempered(both, temperature), labels_B[None, :, None], axis=2)[:, :, 0]
    true_NB = np.maximum(true_NB.astype(np.float64), LEAST_PROBABILITY)
    gain, error = mixing_gain(true_NB[0], true_NB[1], groups)
    weight = round(float(mixture_weights(true_NB)[1]), 6) if gain > standard_errors * error else 0.0
    votes = WeighedVotes(
        probabilities_VMBC=np.concatenate([temporal_VMBC, linear_V1BC], axis=1),
        weights_M=member_weights(temporal_VMBC.shape[1], weight),
    )
    return votes, LinearWeight(weight=weight, gain=gain, gain_se=error if math.isfinite(error) else None)
