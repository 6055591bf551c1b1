"""What single frames say of a video: evidence that the temporal model had no part in.

Shape suffixes: B videos, T frames, D features, C classes, R directions, S backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidclf.uncertainty.geometry import LEAST_VARIANCE, Floats, class_means, principal, signed_root, unit

SHRINKAGE = 0.95
"""Share of a multiple of the identity in the covariance: a few hundred videos tell little of a thousand
dimensions."""


@dataclass(frozen=True, kw_only=True)
class FrameDiscriminant:
    """Linear discriminant over frames' signed square roots, at unit length: the class whose mean is nearest,
    under one shrunk covariance of the videos."""

    towards_DC: Floats
    """the classes' means times the precision"""
    offset_C: Floats

    @classmethod
    def fit(cls, features: Sequence[Floats], labels: Sequence[int]) -> FrameDiscriminant:
        """From sequences [T, D] and class indices, of which every class has at least one."""
        rows_BD = unit(np.stack([signed_root(features_TD).mean(axis=0) for features_TD in features]).astype(np.float64))
        labels_B = np.asarray(labels)
        means_CD = class_means(rows_BD, labels_B)
        towards_DC = _times_precision(rows_BD - means_CD[labels_B], means_CD)
        offset_C = 0.5 * np.einsum("cd,dc->c", means_CD, towards_DC)
        return cls(towards_DC=towards_DC.astype(np.float32), offset_C=offset_C.astype(np.float32))

    def agreement(self, features: Sequence[Floats], top_B: Sequence[int]) -> Floats:
        """Share of each sequence's frames that are nearest to the mean of its top class, [B] in [0, 1]."""
        return np.array(
            [
                (np.argmax(unit(signed_root(features_TD)) @ self.towards_DC - self.offset_C, axis=1) == top).mean()
                for features_TD, top in zip(features, top_B, strict=True)
            ]
        )


def frame_agreement(
    discriminants: Sequence[FrameDiscriminant], sequences_S: Sequence[Sequence[Floats]], top_B: Sequence[int]
) -> Floats:
    """`FrameDiscriminant.agreement`, on average over the backbones, [B]."""
    shares_SB = [own.agreement(seen, top_B) for own, seen in zip(discriminants, sequences_S, strict=True)]
    mean_B: Floats = np.mean(shares_SB, axis=0)
    return mean_B


def _times_precision(centred_BD: Floats, rows_CD: Floats) -> Floats:
    """Rows times the inverse of the covariance of centred rows, `SHRINKAGE` of it replaced by as much variance in
    every direction (Ledoit & Wolf 2004), [D, C]."""
    variance_R, along_RD = principal(centred_BD)
    # A class of one video each has no spread; any will do.
    even = SHRINKAGE * max(variance_R.sum() / centred_BD.shape[1], LEAST_VARIANCE)
    precision_R = 1 / ((1 - SHRINKAGE) * variance_R + even)
    product_DC: Floats = rows_CD.T / even + along_RD.T @ ((precision_R - 1 / even)[:, None] * (along_RD @ rows_CD.T))
    return product_DC
