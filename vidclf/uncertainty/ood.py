"""How far a video is from what training saw: the OOD score.

A video is near to a class where it looks like its videos and moves like them; its distance is that to the
nearest class.

- **Appearance** is the mean of the frames' features, each value raised to `APPEARANCE_POWER` with its sign, at
  unit length: which of the backbone's channels answer most. Its distance to a class is a Mahalanobis distance
  under the class's own covariance, of the directions that its videos vary in and as much variance in every other
  one (probabilistic principal components: Tipping & Bishop 1999, doi:10.1111/1467-9868.00196). A covariance that
  the classes share (Lee et al. 2018, arXiv:1807.03888) would be as wide around a class that is all alike as around
  the most varied one. Few videos tell few directions, for which a small class's distances are made up.
- **Motion** is what a mean does not tell, in two numbers of the frames' signed square roots at unit length: their
  spread, the root mean square distance to their mean, and their roughness, the mean step from one to the next over
  that spread (von Neumann 1941, doi:10.1214/aoms/1177731677). A slide, a cut every second and a slow pan differ.

The OOD score is this distance over the one that `OOD_LEVEL` of the unseen videos of the classes stay below. So 1
is the line: above it a video is out of distribution, whatever its trust score. Each look of the cascade has a space
of its own, since the steps between fewer frames are longer. How that does beside other distances is in
`benchmarks/RESULTS.md`.

Shape suffixes: B videos, N videos of one class, T frames, D features, C classes, R directions, K numbers of
motion, S backbones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vidclf.uncertainty.geometry import LEAST_VARIANCE, Floats, class_means, covariance, principal, signed_root, unit

OOD_LEVEL = 0.95
"""Share of unseen videos of the known classes that should have an OOD score below 1. At 0.99 a few hundred
videos put the line where the one or two oddest of them are, and hardly anything is beyond that."""

APPEARANCE_POWER = 1.5
"""Above 1, so that the channels that answer most count most. This, `APPEARANCE_WEIGHT` and the two numbers of motion
were chosen by splits 0 to 3 of `benchmarks/trust.py`, where 1.25 to 1.75 and 6 to 10 make little difference."""

APPEARANCE_WEIGHT = 8.0
"""Of appearance's squared distance, where motion's weighs 1 and both have the same interquartile range over unseen
videos."""

SHRINKAGE = 0.3
"""Share of a class's variance that is spread evenly over all directions (Ledoit & Wolf 2004); from 0.1 to 0.6 it
makes little difference."""

MAX_DIRECTIONS = 128
"""That a class's covariance is told in; a class of fewer videos has fewer."""

PRIOR_VIDEOS = 15
"""Videos' worth of evidence that a class spreads as much as the classes do on average, so that a class of one video
has a spread at all."""

ENOUGH_VIDEOS = 512
"""From here on a class's directions are told as well as they will be."""

MAX_THINNED = 8
"""The largest classes, that are thinned to find what few videos do to a distance."""

LEAST_MOTION = 0.01
"""Added to spread and roughness, below which they are noise, before their logarithm is taken."""


@dataclass(frozen=True, kw_only=True)
class OodLine:
    """The distance that separates videos like those of training from videos out of distribution."""

    distances: list[float]
    """line of each backbone's feature space alone, in its own unit"""
    line: float
    """line of the mean over backbones of distance / line; 1 for a single backbone"""
    level: float
    """share of further videos of the known classes that stay below the line"""
    num_videos: int
    """unseen videos that the line was fitted on"""

    def score(self, distances_SB: Sequence[Floats]) -> Floats:
        """OOD scores [B] of videos from their distances in each backbone's feature space; the line is at 1.

        Each distance is divided by its own space's line, so that no backbone counts more because its space is
        wider. The mean is taken over backbones: each space is estimated from few videos, and their errors are
        independent. A maximum would leave the verdict to the space that is estimated worst.
        """
        return _mean_ratio(distances_SB, self.distances) / self.line


@dataclass(frozen=True, kw_only=True)
class FeatureSpace:
    """Where each class's videos lie, by appearance and by motion."""

    centres_CD: Floats
    directions_CRD: Floats
    """scaled, so that the squares of a deviation along them are what is to be taken off the squared distance"""
    inverse_variance_C: Floats
    """in every other direction"""
    motion_means_CK: Floats
    motion_precision_CKK: Floats
    motion_weight: Floats
    """of motion's squared distance beside appearance's, a scalar"""

    @classmethod
    def fit(
        cls,
        appearance_BD: Floats,
        motion_BK: Floats,
        labels_B: npt.NDArray[np.int64],
        excess_C: Floats,
    ) -> FeatureSpace:
        """From videos' `appearance` and `motion` and class indices, of which every class has at least one;
        `excess_C` is what squared distances to each class are divided by (`small_class_excess`)."""
        num_classes = len(excess_C)
        centres_CD, motion_means_CK = class_means(appearance_BD, labels_B), class_means(motion_BK, labels_B)
        centred_BD, apart_BK = appearance_BD - centres_CD[labels_B], motion_BK - motion_means_CK[labels_B]
        mean_variance = float((centred_BD**2).sum() / len(labels_B))
        mean_covariance_KK = covariance(apart_BK) + LEAST_MOTION**2 * np.eye(apart_BK.shape[1])
        directions, inverse_variance_C, precisions = [], np.empty(num_classes), []
        for index in range(num_classes):
            centred_ND, apart_NK = centred_BD[labels_B == index], apart_BK[labels_B == index]
            directions_RD, inverse_variance = _scaled_directions(centred_ND, mean_variance)
            directions.append(directions_RD / math.sqrt(excess_C[index]))
            inverse_variance_C[index] = inverse_variance / excess_C[index]
            own = _own_share(apart_NK)
            precisions.append(np.linalg.inv(own * covariance(apart_NK) + (1 - own) * mean_covariance_KK))
        num_directions = max(len(rows_RD) for rows_RD in directions)
        padded = [np.pad(rows_RD, ((0, num_directions - len(rows_RD)), (0, 0))) for rows_RD in directions]
        return cls(
            centres_CD=centres_CD.astype(np.float32),
            directions_CRD=np.stack(padded).astype(np.float32),
            inverse_variance_C=inverse_variance_C,
            motion_means_CK=motion_means_CK,
            motion_precision_CKK=np.stack(precisions),
            motion_weight=np.array(1.0),
        )

    def distances(self, features: Sequence[Floats]) -> Floats:
        """Of each sequence to the nearest class, [B]."""
        appearance_BC, motion_BC = self.squared_parts(appearance(features), motion(features))
        return self.nearest(appearance_BC, motion_BC)

    def nearest(self, appearance_BC: Floats, motion_BC: Floats) -> Floats:
        """The distance to the nearest class that squared parts come to, [B]."""
        nearest_B: Floats = np.sqrt((appearance_BC + self.motion_weight * motion_BC).min(axis=1))
        return nearest_B

    def squared_parts(self, appearance_BD: Floats, motion_BK: Floats) -> tuple[Floats, Floats]:
        """Squared distances of each video to each class, by appearance and by motion, [B, C] both."""
        by_appearance, by_motion = [], []
        for index, centre_D in enumerate(self.centres_CD):
            apart_BD, apart_BK = appearance_BD - centre_D, motion_BK - self.motion_means_CK[index]
            by_appearance.append(_squared(apart_BD, self.directions_CRD[index], self.inverse_variance_C[index]))
            by_motion.append(np.einsum("bk,kl,bl->b", apart_BK, self.motion_precision_CKK[index], apart_BK))
        return np.stack(by_appearance, axis=1), np.stack(by_motion, axis=1)


def fit_space(
    features: Sequence[Floats],
    labels: Sequence[int],
    folds_B: npt.NDArray[np.int64],
    in_train: npt.NDArray[np.intp],
    in_val: npt.NDArray[np.intp],
) -> tuple[FeatureSpace, Floats]:
    """Where train's videos lie, and the distances of unseen ones: of validation's, then of train's own by
    cross-fitting over `folds_B` (which had less to fit on, so that a line by them lies rather too far out).
    `features` are of all videos, `labels` and `folds_B` of train's, in the order of `in_train`. A fold without which
    a class would have no video is left out."""
    rows_BD, motion_BK, labels_B = appearance(features), motion(features), np.asarray(labels)
    excess_C = small_class_excess(rows_BD[in_train], labels_B, folds_B)

    def fit(inside: npt.NDArray[np.intp], own_B: npt.NDArray[np.int64]) -> FeatureSpace:
        return FeatureSpace.fit(rows_BD[inside], motion_BK[inside], own_B, excess_C)

    space = fit(in_train, labels_B)
    parts = [space.squared_parts(rows_BD[in_val], motion_BK[in_val])]
    for fold in np.unique(folds_B):
        is_inside_B = folds_B != fold
        if len(np.unique(labels_B[is_inside_B])) == len(excess_C):
            outside = in_train[~is_inside_B]
            part = fit(in_train[is_inside_B], labels_B[is_inside_B])
            parts.append(part.squared_parts(rows_BD[outside], motion_BK[outside]))
    appearance_BC, motion_BC = (np.concatenate(found) for found in zip(*parts, strict=True))
    space = replace(space, motion_weight=np.array(_motion_weight(appearance_BC, motion_BC, motion_BK[in_train])))
    return space, space.nearest(appearance_BC, motion_BC)


def small_class_excess(
    appearance_BD: Floats, labels_B: npt.NDArray[np.int64], folds_B: npt.NDArray[np.int64]
) -> Floats:
    """How many times as far, squared, a class's unseen videos lie because it has few to tell its directions, [C];
    1 for classes that none is twice as large as. Without it small classes would be flagged for being small.

    Found by thinning the larger classes to its size: the distances of their videos of each fold, by fits to as many
    videos of the other folds as the class has, over those by fits to all of these.
    """
    counts_C = np.bincount(labels_B)
    centred_BD = appearance_BD - class_means(appearance_BD, labels_B)[labels_B]
    mean_variance = float((centred_BD**2).sum() / len(labels_B))
    generator = np.random.default_rng(0)
    sizes = sorted({int(count) for count in counts_C if count < ENOUGH_VIDEOS})
    thinned, whole = dict.fromkeys(sizes, 0.0), dict.fromkeys(sizes, 0.0)
    for index in np.argsort(-counts_C, kind="stable")[:MAX_THINNED]:
        for fold in np.unique(folds_B[labels_B == index]):
            inside_ND = appearance_BD[(labels_B == index) & (folds_B != fold)]
            seen_ND = appearance_BD[(labels_B == index) & (folds_B == fold)]
            smaller = [size for size in sizes if 2 * size <= counts_C[index] and size < len(inside_ND)]
            if not smaller:
                continue
            most_ND = generator.permutation(inside_ND)[:ENOUGH_VIDEOS]
            of_most = _squared_to_class(seen_ND, most_ND, mean_variance).sum()
            for size in smaller:
                few_ND = generator.choice(inside_ND, size, replace=False)
                thinned[size] += _squared_to_class(seen_ND, few_ND, mean_variance).sum()
                whole[size] += of_most
    of_size = {size: max(thinned[size] / whole[size], 1.0) if whole[size] > 0 else 1.0 for size in sizes}
    return np.array([of_size.get(int(count), 1.0) for count in counts_C])


def _motion_weight(appearance_BC: Floats, motion_BC: Floats, motion_BK: Floats) -> float:
    """By the interquartile ranges of unseen videos' distances, of which a few that stand still move none."""
    spread_of, spread_of_motion = (
        float(np.subtract(*np.percentile(parts_BC.min(axis=1), [75, 25]))) for parts_BC in (appearance_BC, motion_BC)
    )
    # Where no training video moves, motion tells nothing.
    if motion_BK.std(axis=0).max() < LEAST_MOTION or spread_of_motion <= 0:
        return 0.0
    return spread_of / spread_of_motion / APPEARANCE_WEIGHT


def fit_line(distances_SB: Sequence[Floats]) -> tuple[OodLine, Floats]:
    """The OOD line from the distances of the same unseen videos in each backbone's space, and their OOD scores [B]."""
    scale_S = [conformal_quantile(distances_B, OOD_LEVEL)[0] for distances_B in distances_SB]
    value, level = conformal_quantile(_mean_ratio(distances_SB, scale_S), OOD_LEVEL)
    line = OodLine(distances=scale_S, line=value, level=level, num_videos=len(distances_SB[0]))
    return line, line.score(distances_SB)


def _mean_ratio(distances_SB: Sequence[Floats], scale_S: Sequence[float]) -> Floats:
    """Mean over backbones of distance / scale, [B]."""
    mean_B: Floats = np.mean(
        [distances_B / scale for distances_B, scale in zip(distances_SB, scale_S, strict=True)], axis=0
    )
    return mean_B


def conformal_quantile(scores_B: Floats, level: float) -> tuple[float, float]:
    """The score that a further video of the same kind stays below with probability `level` (split
    conformal prediction: Vovk et al. 2005), and the probability that this many videos allow to claim:
    with fewer than level / (1 - level) of them, that of staying below the highest score."""
    num = len(scores_B)
    rank = min(math.ceil((num + 1) * level), num)
    return float(np.sort(scores_B)[rank - 1]), min(level, num / (num + 1))


def appearance(features: Sequence[Floats]) -> Floats:
    """Of each sequence, [B, D] float64 at unit length."""
    means = [features_TD.astype(np.float32).mean(axis=0) for features_TD in features]
    # At unit length first, so that no power overflows.
    mean_BD = unit(np.stack(means).astype(np.float64))
    return unit(np.sign(mean_BD) * np.abs(mean_BD) ** APPEARANCE_POWER)


def motion(features: Sequence[Floats]) -> Floats:
    """Logarithms of each sequence's roughness and spread, [B, 2] float64. A single frame has neither."""
    found_BK = np.empty((len(features), 2))
    for row_K, features_TD in zip(found_BK, features, strict=True):
        frames_TD = unit(signed_root(features_TD))
        spread = math.sqrt(float(((frames_TD - frames_TD.mean(axis=0)) ** 2).sum(axis=1).mean()))
        steps_T = np.linalg.norm(np.diff(frames_TD, axis=0), axis=1)
        step = float(steps_T.mean()) if len(steps_T) else 0.0
        row_K[:] = np.log([LEAST_MOTION + step / (LEAST_MOTION + spread), LEAST_MOTION + spread])
    return found_BK


def _scaled_directions(centred_ND: Floats, mean_variance: float) -> tuple[Floats, float]:
    """A class's scaled directions [R, D] and the inverse variance in every other one, from its videos' deviations
    and the mean squared deviation of all classes' videos."""
    own = _own_share(centred_ND)
    variance = own * float((centred_ND**2).sum() / len(centred_ND)) + (1 - own) * mean_variance
    even = max(SHRINKAGE * variance / centred_ND.shape[1], LEAST_VARIANCE)
    variance_R, along_RD = (found[:MAX_DIRECTIONS] for found in principal(centred_ND))
    scale_R = np.sqrt(1 / even - 1 / ((1 - SHRINKAGE) * variance_R + even))
    scaled_RD: Floats = scale_R[:, None] * along_RD
    return scaled_RD, 1 / even


def _squared_to_class(seen_BD: Floats, class_ND: Floats, mean_variance: float) -> Floats:
    """Squared distances [B] of videos' appearance to a class of those of others."""
    centre_D = class_ND.mean(axis=0)
    return _squared(seen_BD - centre_D, *_scaled_directions(class_ND - centre_D, mean_variance))


def _squared(apart_BD: Floats, directions_RD: Floats, inverse_variance: float) -> Floats:
    """Squared distances [B] of deviations from a class's centre, which rounding would take below 0."""
    along_B = ((apart_BD @ directions_RD.T) ** 2).sum(axis=1)
    squared_B: Floats = np.maximum((apart_BD**2).sum(axis=1) * inverse_variance - along_B, 0.0)
    return squared_B


def _own_share(rows_NK: Floats) -> float:
    """How much a class's own spread counts beside that of all classes."""
    return len(rows_NK) / (len(rows_NK) + PRIOR_VIDEOS)
