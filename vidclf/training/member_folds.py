"""Folds that the members of an ensemble leave out of training, so that every video is judged out of fold.

The train and validation videos are divided into folds by source (recording), class by class. Member i is trained on all
folds but one. So every video has out-of-fold probabilities, from the members that left out its fold. Calibration is
fitted to all of them. That is the construction of CV+ (Barber, Candès, Ramdas & Tibshirani 2021, Predictive inference
with the jackknife+, arXiv:1905.02928) and of cross-conformal prediction (Vovk 2015, arXiv:1208.0806).

Single members judge the videos, and the average of all members answers later. So what is promised holds only nearly.

The fold that a member leaves out selects nothing: `recipe` fixes the number of epochs. Early stopping on it would make
its probabilities too good. On 215 clips, members that stopped early were right on 0.90 of their own folds and on 0.86
of videos that they had not seen (`docs/benchmarks/classification.md`).

Shape suffixes: N videos of the feature set, B videos in the folds, C classes, V views (test-time variants of a video),
M members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vidclf.config import FitConfig
from vidclf.ensemble.fold_confidence import folds_left_out
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.training.dataset import TrainingData, training_data
from vidclf.training.leakage import join_groups
from vidclf.uncertainty.folds import group_folds

MAX_FOLDS = 5
"""Largest number of folds. More members than that share folds, since a fold of few videos selects epochs badly."""

NO_FOLD = -1
"""Fold of a video that is in none, such as a test video."""


@dataclass(frozen=True, kw_only=True)
class MemberFolds:
    """Division of the train and validation videos into the folds that members leave out."""

    num_folds: int
    fold_N: npt.NDArray[np.int64]
    """fold of each video, from 0; `NO_FOLD` for a video in none"""
    groups: list[str]
    """source (recording) of each video; among the videos of the folds, sources of near duplicates are joined"""

    @property
    def num_videos(self) -> int:
        """Number of videos in the folds."""
        return int((self.fold_N != NO_FOLD).sum())

    def left_out_by(self, member: int) -> int:
        """The fold that a member leaves out, by the member's index."""
        return int(folds_left_out(member + 1, self.num_folds)[member])

    def data(
        self,
        features: FeatureSet,
        fold: int,
        classes: list[str] | None = None,
        *,
        taxonomy: dict[str, list[str]] | None = None,
    ) -> TrainingData:
        """Training data of a member that leaves out a fold: the other folds to fit its weights, the fold itself as its
        validation split."""
        names = np.array(features.splits, dtype=object)
        names[self.fold_N != NO_FOLD] = "train"
        names[self.fold_N == fold] = "val"
        return training_data(replace(features, groups=self.groups, splits=names.tolist()), classes, taxonomy=taxonomy)


Recipe = TypeVar("Recipe", bound=FitConfig)
"""A training recipe, or a configuration that contains one."""


def recipe(config: Recipe) -> Recipe:
    """The recipe of members that leave out folds: they train until the learning rate first reaches 0, at most `epochs`
    epochs, and keep the weights of the last one."""
    num_epochs = min(config.epochs, config.warmup_epochs + config.warm_restart_epochs)
    return replace(config, selection="last", epochs=num_epochs)


def plan_member_folds(
    features: FeatureSet, num_members: int, clusterings: Sequence[Sequence[int | None]] = ()
) -> MemberFolds:
    """Divide the train and validation videos into one fold per member, at most `MAX_FOLDS`.

    `clusterings` hold clusters of videos that resemble each other, by number per video or None; sources (recordings)
    that share a cluster are joined. Raises ConfigError if a class would be missing outside a fold, or a fold would be
    empty.
    """
    inside = [index for index, split in enumerate(features.splits) if split in ("train", "val")]
    labels = [str(features.labels[index]) for index in inside]
    classes, sources = sorted(set(labels)), [features.groups[index] for index in inside]
    for clusters in clusterings:
        sources = join_groups(sources, [clusters[index] for index in inside])
    groups = list(features.groups)
    for index, source in zip(inside, sources, strict=True):
        groups[index] = source
    num_folds = min(num_members, MAX_FOLDS)
    fold_B = group_folds([classes.index(label) for label in labels], sources, num_folds)
    fold_N = np.full(len(features.splits), NO_FOLD, dtype=np.int64)
    fold_N[inside] = fold_B
    if len(set(fold_B.tolist())) < num_folds:
        raise ConfigError(
            f"--calibration cross needs at least one source for each of the {num_folds} folds that members leave out, "
            f"got {len(set(sources))} (near duplicates count as one); add sources, or give --calibration validation"
        )
    for fold in range(num_folds):
        outside = {label for label, number in zip(labels, fold_B, strict=True) if number != fold}
        if absent := sorted(set(classes) - outside):
            raise ConfigError(
                f"--calibration cross needs at least 2 sources of each class, which lie in different folds; class "
                f"{absent[0]!r} would be missing where fold {fold} is left out (near duplicates count as one source); "
                "add sources of it, or give --calibration validation"
            )
    return MemberFolds(num_folds=num_folds, fold_N=fold_N, groups=groups)


def out_of_fold(
    probabilities_VMBC: npt.NDArray[np.float32],
    fold_B: npt.NDArray[np.int64],
    left_out_M: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Probabilities of each video by the members that left out its fold, averaged over them: an array [views, 1,
    videos, classes].

    `fold_B` holds the fold of each video, `left_out_M` the fold that each member leaves out. Every fold must be left
    out by a member.
    """
    is_out_MB = left_out_M[:, None] == fold_B[None, :]
    weight_MB = is_out_MB / is_out_MB.sum(axis=0)
    mean_VBC: npt.NDArray[np.float32] = np.einsum("mb,vmbc->vbc", weight_MB, probabilities_VMBC).astype(np.float32)
    return mean_VBC[:, None]
