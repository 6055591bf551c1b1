"""Temperature scaling (calibration by one number) of an ensemble's averaged probabilities.

Probabilities are averaged first and calibrated afterwards (Rahaman & Thiery 2021, arXiv:2007.08792). If each member
were calibrated instead, a temperature would run to its limit and correct little: the average of members that disagree
stays uncertain however sharp each member is made.

scikit-learn's `CalibratedClassifierCV(method="temperature")` and netcal have no prior, so that their temperature falls
without limit on a validation split without errors.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.floating[Any]]

PRIOR_SD = 1.0
"""Standard deviation of the prior of the temperature's logarithm.

Without a prior the most likely temperature of a validation split without errors would be 0.
"""

LOG_RANGE = 4.0
"""Distance from the prior's mean within which the temperature's logarithm is searched. The prior keeps the result well
within it."""

LEAST_PROBABILITY = 1e-12
"""Floor of probabilities before logarithms are taken."""


def tempered(probabilities_BC: Floats, temperature: float | Floats) -> npt.NDArray[np.float32]:
    """Apply a temperature to probabilities [..., classes]: raise them to the power 1 / temperature and normalise. Their
    logarithms serve as logits.

    The temperature is one number, or an array that broadcasts with [..., 1].
    """
    scaled_BC = _logarithms(probabilities_BC) / temperature
    tempered_BC: npt.NDArray[np.float32] = softmax(scaled_BC, axis=-1).astype(np.float32)
    return tempered_BC


def fit_temperature(
    probabilities_BC: Floats, labels_B: npt.NDArray[np.integer[Any]], prior_temperature: float = 1.0
) -> float:
    """Fit the calibration temperature of probabilities to the class indices `labels_B`.

    It is the maximum a posteriori value, from the likelihood of the tempered probabilities (Guo et al. 2017,
    arXiv:1706.04599) and a log-normal prior around `prior_temperature` with `PRIOR_SD`. The prior temperature is that
    which corrects the loss of training (`focal_optimum.optimal_temperature`).
    """
    # Imported here, because jobs that apply what was fitted need no optimizer; it takes 0.2 CPU seconds to load.
    from scipy.optimize import minimize_scalar

    logarithms_BC, centre = _logarithms(probabilities_BC), np.log(prior_temperature)

    def loss(log_temperature: float) -> float:
        log_p_BC = log_softmax(logarithms_BC / np.exp(log_temperature), axis=1)
        true_B = np.take_along_axis(log_p_BC, labels_B[:, None], axis=1)
        return float(-true_B.sum() + 0.5 * ((log_temperature - centre) / PRIOR_SD) ** 2)

    bounds = (centre - LOG_RANGE, centre + LOG_RANGE)
    return round(float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)), 4)


def _logarithms(probabilities: Floats) -> npt.NDArray[np.float64]:
    """Logarithms of probabilities in float64; probabilities below `LEAST_PROBABILITY` count as that."""
    return np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY))
