"""Functions on feature vectors: scaling, class means, covariances and principal directions.

Shape suffixes: B or N videos, T frames, D features, C classes, R directions, K columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

LEAST_VARIANCE = 1e-9
"""Smallest variance that is used as a divisor."""


def signed_root(features_TD: Floats) -> Floats:
    """Replace each feature by the square root of its absolute value, with the sign kept. Returns float32 of the same
    shape.

    The outputs of a network's last layer are sparse and skewed. Without the root a few large values would dominate a
    distance (Perronnin et al. 2010, Improving the Fisher Kernel, section 3.2).
    """
    root_TD: Floats = np.sign(features_TD) * np.sqrt(np.abs(features_TD.astype(np.float32)))
    return root_TD


def unit(rows_BD: Floats) -> Floats:
    """Each row of an array scaled to length 1. A row of zeros stays zero."""
    unit_BD: Floats = rows_BD / np.maximum(np.linalg.norm(rows_BD, axis=1, keepdims=True), 1e-12)
    return unit_BD


def principal(centred_ND: Floats) -> tuple[Floats, Floats]:
    """Principal components of rows whose mean was subtracted.

    Returns the variances [R], largest first, and the directions [R, D], each of length 1.
    """
    num_videos, dim = centred_ND.shape
    if num_videos <= dim:
        _, scale_R, along_RD = np.linalg.svd(centred_ND, full_matrices=False)
        return scale_R**2 / num_videos, along_RD
    # `eigh` returns ascending values; for a singular covariance some are slightly below 0.
    variance_R, along_DR = np.linalg.eigh(covariance(centred_ND))
    return np.maximum(variance_R[::-1], 0.0), along_DR.T[::-1]


def class_means(rows_BD: Floats, labels_B: npt.NDArray[np.int64]) -> Floats:
    """Mean of the rows of each class, as an array [classes, features]. Every class index from 0 to the highest label
    must have a row."""
    return np.stack([rows_BD[labels_B == index].mean(axis=0) for index in range(labels_B.max() + 1)])


def covariance(centred_NK: Floats) -> Floats:
    """Maximum likelihood covariance matrix [K, K] of rows whose mean was subtracted."""
    covariance_KK: Floats = centred_NK.T @ centred_NK / len(centred_NK)
    return covariance_KK
