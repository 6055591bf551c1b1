"""Temperature scaling of an ensemble's averaged probabilities.

Pooled first and calibrated then (Rahaman & Thiery 2021, arXiv:2007.08792): the mean of members that disagree
is unsure however sharp each of them is made, so that a temperature within the mean runs to its limit and
corrects little.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.floating[Any]]

PRIOR_SD = 1.0
"""Standard deviation of the temperature's logarithm around 0 before a validation video is seen: without an
error to learn from the likelihood would have it fall without end."""

LOG_RANGE = (-4.0, 4.0)
"""Of the temperature's logarithm: what the search is kept in, far beyond what the prior lets through."""

LEAST_PROBABILITY = 1e-12


def tempered(probabilities_BC: Floats, temperature: float | Floats) -> npt.NDArray[np.float32]:
    """Probabilities [..., C] to the power of 1 / temperature, normalised again: their logarithms taken for
    logits. The temperature is one, or of a shape that fits [..., 1]."""
    scaled_BC = _logarithms(probabilities_BC) / temperature
    tempered_BC: npt.NDArray[np.float32] = softmax(scaled_BC, axis=-1).astype(np.float32)
    return tempered_BC


def fit_temperature(probabilities_BC: Floats, labels_B: npt.NDArray[np.integer[Any]]) -> float:
    """The mode of the temperature under a log-normal prior of `PRIOR_SD` around 1 and the likelihood of the
    tempered probabilities (Guo et al. 2017, arXiv:1706.04599)."""
    logarithms_BC = _logarithms(probabilities_BC)

    def loss(log_temperature: float) -> float:
        log_p_BC = log_softmax(logarithms_BC / np.exp(log_temperature), axis=1)
        true_B = np.take_along_axis(log_p_BC, labels_B[:, None], axis=1)
        return float(-true_B.sum() + 0.5 * (log_temperature / PRIOR_SD) ** 2)

    return round(float(np.exp(minimize_scalar(loss, bounds=LOG_RANGE, method="bounded").x)), 4)


def _logarithms(probabilities: Floats) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY))
