"""Choice of the videos whose labels would teach an ensemble most.

Each video has a gradient: that of the loss in the weights of a linear classifier of its mean features, if the most
probable class were its label. It is long where the ensemble is unsure, and it points elsewhere where features or
classes are others. The most informative video has the longest gradient. Each further one is that whose gradient is
farthest from those of the videos chosen before it and from 0, so that neither a repetition nor a certain video is
chosen.

The gradients are those of BADGE (Ash et al. 2020, arXiv:1906.03671). The choice is the greedy one of k-centre (Gonzalez
1985; Sener & Savarese 2018, arXiv:1708.00489) instead of BADGE's random one, so that it has an order and repeats. As
probability of the most probable class stands the trust score, which falls for videos unlike those of training.

Many features are projected to `MAX_FEATURES` random directions, which keeps the distances nearly (Johnson &
Lindenstrauss 1984), so that the time does not depend on the backbone.

Shape suffixes: B videos, C classes, D features, K inputs of the linear classifier.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MAX_FEATURES = 128
"""Number of random directions to which more features are projected. Inner products of vectors of length 1 change by
about 1 / sqrt(128) = 0.09 (standard deviation)."""


def most_informative(
    probabilities_BC: npt.NDArray[np.float32],
    trust_B: npt.NDArray[np.float32],
    features_BD: npt.NDArray[np.float32] | None,
    sources_B: npt.NDArray[np.str_],
    number: int,
) -> list[int]:
    """Indices of at most `number` videos, the most informative first.

    `features_BD`: mean features of the frames; None if there are none, so that only the classes make videos different.
    `sources_B`: name of the source (recording) of each video. No second video of a source is chosen before every source
    has one.
    """
    residuals_BC = class_residuals(probabilities_BC, trust_B)
    inputs_BK = _inputs(features_BD, len(trust_B))
    source_B = np.unique(sources_B, return_inverse=True)[1]
    squares_B = (residuals_BC**2).sum(axis=1) * (inputs_BK**2).sum(axis=1)
    distance_B = squares_B.copy()
    is_left_B = np.ones(len(trust_B), bool)
    is_open_B = is_left_B.copy()  # those of sources without a choice
    chosen: list[int] = []
    while len(chosen) < number and is_left_B.any():
        if not (is_left_B & is_open_B).any():
            is_open_B[:] = True
        best = int(np.where(is_left_B & is_open_B, distance_B, -1.0).argmax())
        # The inner product of two gradients is that of the residuals times that of the inputs.
        products_B = (residuals_BC @ residuals_BC[best]) * (inputs_BK @ inputs_BK[best])
        to_best_B = np.maximum(squares_B + squares_B[best] - 2 * products_B, 0.0)
        distance_B = np.minimum(distance_B, to_best_B)
        is_left_B[best] = False
        is_open_B[source_B == source_B[best]] = False
        chosen.append(best)
    return chosen


def class_residuals(probabilities_BC: npt.NDArray[np.float32], trust_B: npt.NDArray[np.float32]) -> Floats:
    """Gradient of the loss in the logits, [B, C], with the most probable class as label.

    The trust score replaces the probability of the most probable class; the other classes share the rest in proportion
    to their probabilities.
    """
    rows_B = np.arange(len(trust_B))
    top_B = probabilities_BC.argmax(axis=1)
    doubt_B = 1 - trust_B.astype(np.float32)
    residuals_BC = probabilities_BC.astype(np.float32)
    residuals_BC[rows_B, top_B] = 0.0
    residuals_BC *= (doubt_B / np.maximum(residuals_BC.sum(axis=1), 1e-12))[:, None]
    residuals_BC[rows_B, top_B] = -doubt_B
    return residuals_BC


def _inputs(features_BD: npt.NDArray[np.float32] | None, num_videos: int) -> Floats:
    """Input of the linear classifier: a constant, and the centred features with a mean square length of 1."""
    constant_B1 = np.ones((num_videos, 1), np.float32)
    if features_BD is None:
        return constant_B1
    centred_BD = features_BD - features_BD.mean(axis=0, dtype=np.float64).astype(np.float32)
    num_features = features_BD.shape[1]
    if num_features > MAX_FEATURES:
        directions_DK = np.random.default_rng(0).standard_normal((num_features, MAX_FEATURES), np.float32)
        centred_BD = centred_BD @ directions_DK
    scale = np.sqrt((centred_BD**2).sum(axis=1).mean())
    inputs_BK: Floats = np.concatenate([constant_B1, centred_BD / max(scale, np.float32(1e-12))], axis=1)
    return inputs_BK
