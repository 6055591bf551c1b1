"""Frame agreement: share of a video's frames that a frame classifier assigns to its top class.

The classifier is linear and sees single frames. The top class is the ensemble's most probable class for the video.

It is evidence that is independent of the temporal model, which sees the sequence of frames.

Shape suffixes: B videos, T frames, D features, C classes, R directions, S backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidclf.uncertainty.geometry import LEAST_VARIANCE, Floats, class_means, principal, signed_root, unit

SHRINKAGE = 0.95
"""Share of the covariance that is replaced by equal variance in all directions.

The share is high because a few hundred videos say little about a thousand dimensions.
"""


@dataclass(frozen=True, kw_only=True)
class FrameDiscriminant:
    """Classifier of single frames by linear discriminant analysis: it chooses the class with the nearest mean, under
    one shrunk covariance.

    Inputs are the signed square roots of a frame's features, scaled to unit length. Class means and covariance are
    fitted on the means of these inputs over each training video. The result equals scikit-learn's
    `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE)` up to rounding, without its log priors (a test
    compares them). It is computed here because it needs no covariance matrix of D × D, classes of one video each work,
    and the arrays of existing ensembles stay the same to the last bit.
    """

    towards_DC: Floats
    """inverse covariance times class means; a frame's scores are its inputs times this matrix minus `offset_C`"""
    offset_C: Floats
    """constant that is subtracted from each class's score"""

    @classmethod
    def fit(cls, features: Sequence[Floats], labels: Sequence[int]) -> FrameDiscriminant:
        """Fit the classifier on `features`, one array [frames, features] per video, and the videos' class indices.
        Every class must have a video."""
        rows_BD = np.empty((len(features), features[0].shape[1]))
        for row_D, features_TD in zip(rows_BD, features, strict=True):
            row_D[:] = unit(signed_root(features_TD).mean(axis=0)[None].astype(np.float64))[0]
        labels_B = np.asarray(labels)
        means_CD = class_means(rows_BD, labels_B)
        # In place and row by row, because the rows of many videos fill much of the memory.
        for row_D, label in zip(rows_BD, labels, strict=True):
            row_D -= means_CD[label]
        towards_DC = _times_precision(rows_BD, means_CD)
        offset_C = 0.5 * np.einsum("cd,dc->c", means_CD, towards_DC)
        return cls(towards_DC=towards_DC.astype(np.float32), offset_C=offset_C.astype(np.float32))

    def agreement(self, features: Sequence[Floats], top_B: Sequence[int]) -> Floats:
        """For each video the share of its frames, 0 to 1, that the classifier assigns to the video's most probable
        class `top_B`.

        `features` holds one array [frames, features] per video.
        """
        return np.array(
            [
                (np.argmax(unit(signed_root(features_TD)) @ self.towards_DC - self.offset_C, axis=1) == top).mean()
                for features_TD, top in zip(features, top_B, strict=True)
            ]
        )


def frame_agreement(
    discriminants: Sequence[FrameDiscriminant], sequences_S: Sequence[Sequence[Floats]], top_B: Sequence[int]
) -> Floats:
    """For each video the share of its frames that frame classifiers assign to its most probable class `top_B`, averaged
    over the backbones.

    There is one classifier and one list of feature arrays per backbone.
    """
    shares_SB = [
        discriminant.agreement(sequences, top_B)
        for discriminant, sequences in zip(discriminants, sequences_S, strict=True)
    ]
    mean_B: Floats = np.mean(shares_SB, axis=0)
    return mean_B


def _times_precision(centred_BD: Floats, rows_CD: Floats) -> Floats:
    """Multiply `rows_CD` by the inverse covariance of `centred_BD`, for `FrameDiscriminant.fit`. Returns an array [D,
    C].

    A share `SHRINKAGE` of the covariance is replaced by the same total variance spread evenly over all directions
    (Ledoit & Wolf 2004).
    """
    variance_R, along_RD = principal(centred_BD)
    # If every class has one video, there is no spread, and any value is as good.
    even = SHRINKAGE * max(variance_R.sum() / centred_BD.shape[1], LEAST_VARIANCE)
    precision_R = 1 / ((1 - SHRINKAGE) * variance_R + even)
    product_DC: Floats = rows_CD.T / even + along_RD.T @ ((precision_R - 1 / even)[:, None] * (along_RD @ rows_CD.T))
    return product_DC
