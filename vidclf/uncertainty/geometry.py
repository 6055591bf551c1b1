"""Covariances, class means and principal directions of feature vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

LEAST_VARIANCE = 1e-9


def signed_root(features_TD: Floats) -> Floats:
    """What a network's last layer says is sparse and skewed, and without the root a few large values decide a
    distance (Perronnin et al. 2010, Improving the Fisher Kernel, section 3.2)."""
    root_TD: Floats = np.sign(features_TD) * np.sqrt(np.abs(features_TD.astype(np.float32)))
    return root_TD


def unit(rows_BD: Floats) -> Floats:
    """Rows at unit length."""
    unit_BD: Floats = rows_BD / np.maximum(np.linalg.norm(rows_BD, axis=1, keepdims=True), 1e-12)
    return unit_BD


def principal(centred_ND: Floats) -> tuple[Floats, Floats]:
    """The variance along each direction that rows vary in, [R], most first, and these directions [R, D] at unit
    length."""
    num_videos, dim = centred_ND.shape
    if num_videos <= dim:
        _, scale_R, along_RD = np.linalg.svd(centred_ND, full_matrices=False)
        return scale_R**2 / num_videos, along_RD
    # Ascending, and of a singular covariance some are below 0.
    variance_R, along_DR = np.linalg.eigh(covariance(centred_ND))
    return np.maximum(variance_R[::-1], 0.0), along_DR.T[::-1]


def class_means(rows_BD: Floats, labels_B: npt.NDArray[np.int64]) -> Floats:
    """[C, D]; every class up to the highest label has at least one row."""
    return np.stack([rows_BD[labels_B == index].mean(axis=0) for index in range(labels_B.max() + 1)])


def covariance(centred_NK: Floats) -> Floats:
    covariance_KK: Floats = centred_NK.T @ centred_NK / len(centred_NK)
    return covariance_KK
