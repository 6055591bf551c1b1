"""Probabilities at which the focal loss with label smoothing is smallest, and the temperature that corrects them.

The focal loss is no proper scoring rule: its minimum is not at the target probabilities (Charoenphakdee et al. 2021, On
Focal Loss for Class-Posterior Probability Estimation, arXiv:2011.09172). A member that has learned its training videos
without an error therefore states less confidence than its targets. With gamma 2, smoothing 0.1 and 4 classes it states
0.70 where the target is 0.925.

For targets q the loss -sum q_k (1 - p_k)^gamma log p_k, with the p_k summing to 1, is stationary where

    q_k = h(p_k) / sum_j h(p_j)    with    h(p) = p / ((1 - p)^gamma - gamma (1 - p)^(gamma - 1) p log p).

With label smoothing, the target of the true class is 1 - smoothing + smoothing / C, of each other class smoothing / C.
At the optimum the other classes are equally likely: r = (1 - p) / (C - 1). So p solves

    log h(p) - log h(r) = log(target of the true class / target of another class).

The temperature divides the logarithm of p / r. It corrects the optimum if the result is the logarithm of the targets'
ratio. Without smoothing both logarithms are infinite; the limit of their ratio is 1 / (1 + gamma).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

MAX_LOG_ODDS = 700.0
"""Largest logarithm of p / r that is considered; at larger ones r is no longer a float64 number above 0."""


def optimal_temperature(gamma: float, smoothing: float, num_classes: int) -> float:
    """The temperature that turns the probabilities at the loss's optimum into the smoothed targets.

    It is 1 for gamma 0. With a larger gamma and usual smoothing it is below 1, because the focal loss makes a member
    less confident. `num_classes` is at least 2.
    """
    if gamma == 0:
        return 1.0
    if smoothing == 0:
        return 1 / (1 + gamma)
    target = math.log((1 - smoothing + smoothing / num_classes) / (smoothing / num_classes))

    def excess(log_odds: float) -> float:
        """How far the logarithm of h(p) / h(r) is above that of the targets' ratio, at this logarithm of p / r."""
        # r from the softmax of (log_odds, 0, …, 0), and 1 - p from r, so that neither is rounded to 0.
        other = math.exp(-np.logaddexp(log_odds, math.log(num_classes - 1)))
        return (
            _log_h(log_odds + math.log(other), (num_classes - 1) * other, gamma)
            - _log_h(math.log(other), 1 - other, gamma)
            - target
        )

    return float(brentq(excess, 0.0, MAX_LOG_ODDS, xtol=1e-12)) / target


def _log_h(log_p: float, rest: float, gamma: float) -> float:
    """Logarithm of h(p), from the logarithm of p and from `rest` = 1 - p, which is above 0."""
    focused = gamma * math.exp(log_p) * log_p / rest
    return log_p - gamma * math.log(rest) - math.log1p(-focused)
