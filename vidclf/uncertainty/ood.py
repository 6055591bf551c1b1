"""The OOD (out of distribution) score: how far a video is from the training videos.

The distance is relative to that of unseen videos of the same classes.

A video is close to a class if it looks like the videos of the class and moves like them. Its distance is the distance
to the nearest class, combined from two parts:

- **Appearance** is the mean of the frames' features, each value raised to `APPEARANCE_POWER` with its sign kept, scaled
  to unit length. It shows which channels of the backbone respond most. Its distance to a class is a Mahalanobis
  distance with the class's own covariance: the directions in which the videos of the class vary, and equal variance in
  all other directions (probabilistic principal components: Tipping & Bishop 1999, doi:10.1111/1467-9868.00196). A
  covariance shared by all classes (Lee et al. 2018, arXiv:1807.03888) would be as wide around a homogeneous class as
  around the most varied one. A class with few videos yields few directions, which would make its distances too large;
  `small_class_excess` corrects for that.
- **Motion** is the information that a mean hides: two numbers computed from the signed square roots of the frames'
  features at unit length. Spread is the root mean square distance of the frames to their mean. Roughness is the mean
  step from one frame to the next, divided by the spread (von Neumann 1941, doi:10.1214/aoms/1177731677). They separate
  a slide, a cut every second and a slow pan.

The OOD score is this distance divided by a line: the distance that a share `OOD_LEVEL` of unseen videos of the classes
stay below. A video with a score above 1 is out of distribution, whatever its trust score. Each look of the cascade
(classification from few frames first, then from all, `early_exit`) has its own feature space, since fewer frames are
further apart. A comparison with other distances is in `docs/benchmarks/classification.md`.

Shape suffixes: B videos, N videos of one class, T frames, D features, C classes, R directions, K motion numbers, S
backbones.

The module is longer than 350 lines because the fit and the score share their formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vidclf.uncertainty.geometry import LEAST_VARIANCE, Floats, class_means, covariance, principal, signed_root, unit

Bools = npt.NDArray[np.bool_]

OOD_LEVEL = 0.95
"""Share of unseen videos of the known classes whose OOD score (distance from the training videos) should be below 1.

At 0.99, a few hundred videos would put the line at their one or two strangest videos, and hardly any video would be
beyond it.
"""

OOD_LIMIT = 1.0
"""OOD score (distance from the training videos) above which a video is out of distribution."""

MIN_DISTANCE = 1e-12
"""Lowest OOD line of a backbone. It keeps scores finite where nearly all distances are 0."""

APPEARANCE_POWER = 1.5
"""Power to which the mean frame features are raised. It is above 1, so that the channels with the strongest response
count most.

This power, `APPEARANCE_WEIGHT` and the two motion numbers were chosen on splits 0 to 3 of `benchmarks/trust.py`. Powers
of 1.25 to 1.75 and weights of 6 to 10 make little difference there.
"""

APPEARANCE_WEIGHT = 8.0
"""Weight of the squared appearance distance, relative to squared motion distances, which have weight 1 after they are
scaled to the same interquartile range over unseen videos."""

SHRINKAGE = 0.3
"""Share of the variance of a class that is spread evenly over all directions (Ledoit & Wolf 2004). Values from 0.1 to
0.6 make little difference."""

MAX_DIRECTIONS = 128
"""Largest number of directions in which the spread of a class is measured. A class with fewer videos has fewer
directions."""

PRIOR_VIDEOS = 15
"""Strength of the prior that a class spreads like the average class: it counts like this number of videos. The prior
gives a class with one video a spread."""

ENOUGH_VIDEOS = 512
"""Number of videos of a class above which more videos no longer improve the estimate of the directions in which the
class varies."""

MAX_THINNED = 8
"""Number of the largest classes from which `small_class_excess` draws few videos to imitate small classes."""

LEAST_MOTION = 0.01
"""Number that is added to spread and roughness (measures of motion) before logarithms are taken: smaller values are
noise."""


@dataclass(frozen=True, kw_only=True)
class OodLine:
    """The fitted distance that separates videos like those of training from videos out of distribution."""

    distances: list[float]
    """for each backbone, the line that its distances alone would have, in their own unit"""
    line: float
    """line for the combined distance, which is the mean over backbones of distance / entry of `distances`; 1 for one
    backbone"""
    level: float
    """probability that a further video of the known classes stays below the line"""
    num_videos: int
    """number of unseen videos on which the line was fitted"""

    def score(self, distances_SB: Sequence[Floats]) -> Floats:
        """Compute one OOD (out of distribution) score per video from its distances to the training videos, which are
        given per backbone.

        A score above 1 is beyond the line. Each distance is divided by its own backbone's line, so that no backbone
        counts more because its distances are wider. The mean is taken over backbones: each space is estimated from few
        videos, and their errors are independent. A maximum would leave the verdict to the space that is estimated
        worst.
        """
        return _mean_ratio(distances_SB, self.distances) / self.line


@dataclass(frozen=True, kw_only=True)
class FeatureSpace:
    """The fitted distribution of the training videos in one backbone's features, for each class: appearance (mean of
    the frames) and motion."""

    centres_CD: Floats
    """mean appearance of each class"""
    directions_CRD: Floats
    """directions in which the videos of each class vary, scaled so that the squared components of a video's deviation
    along them are subtracted from its squared distance"""
    inverse_variance_C: Floats
    """inverse of each class's variance in all other directions"""
    motion_means_CK: Floats
    """mean of the motion numbers of each class"""
    motion_precision_CKK: Floats
    """inverse covariance of the motion numbers of each class"""
    motion_weight: Floats
    """weight of the squared motion distance relative to the squared appearance distance, an array with one number"""

    @classmethod
    def fit(
        cls,
        appearance_BD: Floats,
        motion_BK: Floats,
        labels_B: npt.NDArray[np.int64],
        excess_C: Floats,
        inside_B: Bools | None = None,
    ) -> FeatureSpace:
        """Fit the distribution on the appearance and motion of videos (from the functions of these names) and their
        class indices; with `inside_B`, on the videos for which it is true.

        Every class must have a video. Squared distances to a class will be divided by its entry in `excess_C` (from
        `small_class_excess`).
        """
        num_classes = len(excess_C)
        inside_B = np.ones(len(labels_B), bool) if inside_B is None else inside_B
        members_C = [np.flatnonzero(inside_B & (labels_B == index)) for index in range(num_classes)]
        centres_CD, motion_means_CK = (
            np.stack([rows_BX[members].mean(axis=0) for members in members_C]) for rows_BX in (appearance_BD, motion_BK)
        )
        mean_variance = _mean_variance(appearance_BD, members_C, centres_CD)
        centred_BK = (motion_BK - motion_means_CK[labels_B])[inside_B]
        mean_covariance_KK = covariance(centred_BK) + LEAST_MOTION**2 * np.eye(centred_BK.shape[1])
        directions, inverse_variance_C, precisions = [], np.empty(num_classes), []
        for index, members in enumerate(members_C):
            # Class by class, because the rows of many videos fill much of the memory.
            centred_ND = appearance_BD[members] - centres_CD[index]
            centred_NK = motion_BK[members] - motion_means_CK[index]
            directions_RD, inverse_variance = _scaled_directions(centred_ND, mean_variance)
            directions.append(directions_RD / math.sqrt(excess_C[index]))
            inverse_variance_C[index] = inverse_variance / excess_C[index]
            weight = _class_weight(centred_NK)
            precisions.append(np.linalg.inv(weight * covariance(centred_NK) + (1 - weight) * mean_covariance_KK))
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
        """For each video its distance to the nearest class. `features` holds one array [frames, features] per video."""
        appearance_BC, motion_BC = self.squared_parts(appearance(features), motion(features))
        return self.nearest(appearance_BC, motion_BC)

    def nearest(self, appearance_BC: Floats, motion_BC: Floats) -> Floats:
        """For each video its distance to the nearest class, from its squared distances to each class by appearance and
        by motion."""
        nearest_B: Floats = np.sqrt((appearance_BC + self.motion_weight * motion_BC).min(axis=1))
        return nearest_B

    def squared_parts(self, appearance_BD: Floats, motion_BK: Floats) -> tuple[Floats, Floats]:
        """Squared distances of each video to each class: one array [videos, classes] by appearance and one by
        motion."""
        by_appearance, by_motion = [], []
        for index, centre_D in enumerate(self.centres_CD):
            deviation_BD, deviation_BK = appearance_BD - centre_D, motion_BK - self.motion_means_CK[index]
            by_appearance.append(_squared(deviation_BD, self.directions_CRD[index], self.inverse_variance_C[index]))
            by_motion.append(np.einsum("bk,kl,bl->b", deviation_BK, self.motion_precision_CKK[index], deviation_BK))
        return np.stack(by_appearance, axis=1), np.stack(by_motion, axis=1)


def fit_space(
    features: Sequence[Floats],
    labels: Sequence[int],
    folds_B: npt.NDArray[np.int64],
    in_train: npt.NDArray[np.intp],
    in_val: npt.NDArray[np.intp],
) -> tuple[FeatureSpace, Floats]:
    """Fit the distribution of the training videos in one backbone's features, and measure the distances of unseen
    videos to it.

    Returns the fitted `FeatureSpace` and one distance per unseen video. The unseen videos are the validation videos,
    followed by the training videos in cross-fitting (each fold is measured by a fit on the other folds of `folds_B`).
    Cross-fitted spaces have fewer videos to fit on, so their distances move the line slightly outwards. A fold is left
    out if a class has no video outside it.

    `features` are the sequences [frames, features] of all videos; `in_train` and `in_val` are indices into them.
    `labels` (class indices) and `folds_B` belong to the training videos, in the order of `in_train`.
    """
    labels_B = np.asarray(labels)
    rows_BD, motion_BK = appearance(features, in_train), motion(features, in_train)
    excess_C = small_class_excess(rows_BD, labels_B, folds_B)
    space = FeatureSpace.fit(rows_BD, motion_BK, labels_B, excess_C)
    parts = [space.squared_parts(appearance(features, in_val), motion(features, in_val))]
    for fold in np.unique(folds_B):
        is_inside_B = folds_B != fold
        if len(np.unique(labels_B[is_inside_B])) == len(excess_C):
            crossed = FeatureSpace.fit(rows_BD, motion_BK, labels_B, excess_C, is_inside_B)
            parts.append(crossed.squared_parts(rows_BD[~is_inside_B], motion_BK[~is_inside_B]))
    appearance_BC, motion_BC = (np.concatenate(distances) for distances in zip(*parts, strict=True))
    space = replace(space, motion_weight=np.array(_motion_weight(appearance_BC, motion_BC, motion_BK)))
    return space, space.nearest(appearance_BC, motion_BC)


def small_class_excess(
    appearance_BD: Floats, labels_B: npt.NDArray[np.int64], folds_B: npt.NDArray[np.int64]
) -> Floats:
    """For each class the factor by which squared distances of its unseen videos come out too large because the class
    has few videos.

    Few videos yield few directions. Without this correction small classes would be flagged for being small. The factor
    is 1 for classes that have more than half the size of the largest class, and for classes of `ENOUGH_VIDEOS`.

    The factor is measured on the larger classes. Each of them is thinned to the size of the small class, and squared
    distances of its unseen videos to the thinned class are compared with those to the whole class. Unseen videos are
    those of one fold; the class is fitted on the other folds.

    Example: classes A (200 videos), B (120) and C (10), five folds. Size 10 is measured on A and on B, since both are
    at least twice as large; size 120 is measured on no class (200 < 2 × 120). For each fold, 10 of the videos of A in
    the other four folds are drawn. Say the squared distances of the 40 videos of A in the fold add up to 60 with these
    10 and to 40 with all 160. If every fold of A and of B shows these sums, `_thinned_pairs` yields (10, 60, 40) ten
    times, and the result is [1, 1, 600 / 400] = [1, 1, 1.5].
    """
    counts_C = np.bincount(labels_B)
    sizes = sorted({int(count) for count in counts_C if count < ENOUGH_VIDEOS})
    if not sizes:
        return np.ones(len(counts_C))
    thinned_sums, whole_sums = dict.fromkeys(sizes, 0.0), dict.fromkeys(sizes, 0.0)
    for size, thinned_sum, whole_sum in _thinned_pairs(appearance_BD, labels_B, folds_B, sizes):
        thinned_sums[size] += thinned_sum
        whole_sums[size] += whole_sum
    factors = {size: max(thinned_sums[size] / whole_sums[size], 1.0) if whole_sums[size] > 0 else 1.0 for size in sizes}
    return np.array([factors.get(int(count), 1.0) for count in counts_C])


def _thinned_pairs(
    appearance_BD: Floats, labels_B: npt.NDArray[np.int64], folds_B: npt.NDArray[np.int64], sizes: Sequence[int]
) -> Iterator[tuple[int, float, float]]:
    """The measurements for `small_class_excess`, which imitates small classes by drawing few videos from large ones.

    Each measurement is a size, the sum of the unseen videos' squared distances to a class reduced to this size, and the
    sum of their squared distances to the whole class. There is one per size, per fold and per class at least twice that
    size, on the `MAX_THINNED` largest classes.
    """
    counts_C = np.bincount(labels_B)
    members_C = [np.flatnonzero(labels_B == index) for index in range(len(counts_C))]
    mean_variance = _mean_variance(appearance_BD, members_C, class_means(appearance_BD, labels_B))
    generator = np.random.default_rng(0)
    for index in np.argsort(-counts_C, kind="stable")[:MAX_THINNED]:
        for fold in np.unique(folds_B[labels_B == index]):
            fitted_ND = appearance_BD[(labels_B == index) & (folds_B != fold)]
            unseen_ND = appearance_BD[(labels_B == index) & (folds_B == fold)]
            smaller = [size for size in sizes if 2 * size <= counts_C[index] and size < len(fitted_ND)]
            if not smaller:
                continue
            whole_ND = generator.permutation(fitted_ND)[:ENOUGH_VIDEOS]
            whole_sum = _squared_to_class(unseen_ND, whole_ND, mean_variance).sum()
            for size in smaller:
                thinned_ND = generator.choice(fitted_ND, size, replace=False)
                yield size, _squared_to_class(unseen_ND, thinned_ND, mean_variance).sum(), whole_sum


def _mean_variance(appearance_BD: Floats, members_C: Sequence[npt.NDArray[np.intp]], centres_CD: Floats) -> float:
    """The mean over all videos of the squared distance to the centre of their class. `members_C` holds the indices of
    the videos of each class."""
    sums = []
    for members, centre_D in zip(members_C, centres_CD, strict=True):
        centred_ND = appearance_BD[members]
        centred_ND -= centre_D
        sums.append(float(np.einsum("nd,nd->", centred_ND, centred_ND)))
    return math.fsum(sums) / sum(map(len, members_C))


def _motion_weight(appearance_BC: Floats, motion_BC: Floats, motion_BK: Floats) -> float:
    """Weight of squared motion distances, which brings them to the scale of appearance distances and then divides by
    `APPEARANCE_WEIGHT`.

    The scales are the interquartile ranges of the unseen videos' squared distances to the nearest class
    (`appearance_BC`, `motion_BC`). A few still videos among them do not change these ranges. The weight is 0 if the
    training videos (`motion_BK`) all move alike.
    """
    appearance_range, motion_range = (
        float(np.subtract(*np.percentile(parts_BC.min(axis=1), [75, 25]))) for parts_BC in (appearance_BC, motion_BC)
    )
    # If the training videos all move alike, motion carries no information.
    if motion_BK.std(axis=0).max() < LEAST_MOTION or motion_range <= 0:
        return 0.0
    return appearance_range / motion_range / APPEARANCE_WEIGHT


def is_out_of_distribution(ood_score: float | Floats) -> Bools:
    """Whether each OOD score (distance from the training videos) is above `OOD_LIMIT`. NaN counts as out of
    distribution."""
    return np.logical_not(np.asarray(ood_score) <= OOD_LIMIT)


def fit_line(distances_SB: Sequence[Floats]) -> tuple[OodLine, Floats]:
    """Fit the OOD line (distance beyond which a video is out of distribution) on unseen videos.

    `distances_SB` holds, for each backbone, the distances of the same videos to the training videos. Returns the line
    and the OOD score of each video. Where nearly all unseen videos equal a training video, their distances are 0: then
    such a video has the score 0, and any other is far beyond the line.
    """
    scale_S = [max(conformal_quantile(distances_B, OOD_LEVEL)[0], MIN_DISTANCE) for distances_B in distances_SB]
    value, level = conformal_quantile(_mean_ratio(distances_SB, scale_S), OOD_LEVEL)
    line = OodLine(distances=scale_S, line=value or 1.0, level=level, num_videos=len(distances_SB[0]))
    return line, line.score(distances_SB)


def _mean_ratio(distances_SB: Sequence[Floats], scale_S: Sequence[float]) -> Floats:
    """For each video the mean over backbones of its distance divided by that backbone's entry of `scale_S`."""
    ratios_SB = [distances_B / scale for distances_B, scale in zip(distances_SB, scale_S, strict=True)]
    mean_B: Floats = np.mean(ratios_SB, axis=0)
    return mean_B


def conformal_quantile(scores_B: Floats, level: float) -> tuple[float, float]:
    """The score that a further video of the same distribution stays below with probability `level` (split conformal
    prediction: Vovk et al. 2005).

    Returns that score and the probability. With fewer than level / (1 - level) videos the score is the highest one, and
    the probability is that of staying below the highest one, which is less than `level`.
    """
    num = len(scores_B)
    rank = min(math.ceil((num + 1) * level), num)
    return float(np.sort(scores_B)[rank - 1]), min(level, num / (num + 1))


def appearance(features: Sequence[Floats], chosen: npt.NDArray[np.intp] | None = None) -> Floats:
    """The appearance of each video: an array [videos, features] in float64 whose rows have length 1.

    It is computed from the mean of the video's frames. `features` holds one array [frames, features] per video; with
    `chosen`, only the videos with these indices are computed.
    """
    indices = range(len(features)) if chosen is None else chosen.tolist()
    rows_BD = np.empty((len(indices), features[0].shape[1]))
    for row_D, index in zip(rows_BD, indices, strict=True):
        features_TD = features[index]
        # Scaled to unit length first, so that no power overflows.
        mean_1D = unit(features_TD.astype(np.float32).mean(axis=0)[None].astype(np.float64))
        row_D[:] = unit(np.sign(mean_1D) * np.abs(mean_1D) ** APPEARANCE_POWER)[0]
    return rows_BD


def motion(features: Sequence[Floats], chosen: npt.NDArray[np.intp] | None = None) -> Floats:
    """The motion of each video: the logarithms of its roughness and its spread (see the module), as an array [videos,
    2] in float64.

    Both have their least value for a single frame. `features` holds one array [frames, features] per video; with
    `chosen`, only the videos with these indices are computed.
    """
    indices = range(len(features)) if chosen is None else chosen.tolist()
    rows_BK = np.empty((len(indices), 2))
    for row_K, index in zip(rows_BK, indices, strict=True):
        frames_TD = unit(signed_root(features[index]))
        spread = math.sqrt(float(((frames_TD - frames_TD.mean(axis=0)) ** 2).sum(axis=1).mean()))
        steps_T = np.linalg.norm(np.diff(frames_TD, axis=0), axis=1)
        step = float(steps_T.mean()) if len(steps_T) else 0.0
        row_K[:] = np.log([LEAST_MOTION + step / (LEAST_MOTION + spread), LEAST_MOTION + spread])
    return rows_BK


def _scaled_directions(centred_ND: Floats, mean_variance: float) -> tuple[Floats, float]:
    """The directions in which the videos of a class vary, scaled [R, D], and the inverse of the variance in all other
    directions.

    `centred_ND` holds the videos' deviations from the class mean. `mean_variance` is the mean squared deviation over
    the videos of all classes.
    """
    weight = _class_weight(centred_ND)
    variance = weight * float((centred_ND**2).sum() / len(centred_ND)) + (1 - weight) * mean_variance
    even = max(SHRINKAGE * variance / centred_ND.shape[1], LEAST_VARIANCE)
    variance_R, along_RD = (values[:MAX_DIRECTIONS] for values in principal(centred_ND))
    scale_R = np.sqrt(1 / even - 1 / ((1 - SHRINKAGE) * variance_R + even))
    scaled_RD: Floats = scale_R[:, None] * along_RD
    return scaled_RD, 1 / even


def _squared_to_class(appearance_BD: Floats, class_ND: Floats, mean_variance: float) -> Floats:
    """Squared appearance distance of each row of `appearance_BD` to a class whose videos are the rows of `class_ND`."""
    centre_D = class_ND.mean(axis=0)
    return _squared(appearance_BD - centre_D, *_scaled_directions(class_ND - centre_D, mean_variance))


def _squared(deviation_BD: Floats, directions_RD: Floats, inverse_variance: float) -> Floats:
    """Squared distance of each video to a class, from its deviation from the class centre and the class's scaled
    directions.

    Never below 0, which rounding would otherwise cause.
    """
    along_B = ((deviation_BD @ directions_RD.T) ** 2).sum(axis=1)
    squared_B: Floats = np.maximum((deviation_BD**2).sum(axis=1) * inverse_variance - along_B, 0.0)
    return squared_B


def _class_weight(rows_NK: Floats) -> float:
    """Weight, 0 to 1, of a class's own spread when it is mixed with the average spread of all classes. It grows with
    the number of rows."""
    return len(rows_NK) / (len(rows_NK) + PRIOR_VIDEOS)
