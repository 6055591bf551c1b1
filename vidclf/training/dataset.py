"""Training data from feature sets: class indices, batches on a device, random draws with equally likely classes.

Shape suffixes: N frames of all videos, B videos, T frames of a video, L frames drawn for a training step, D features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidclf.arrow import writable_view
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.features.video_frames import VideoFrames
from vidclf.training.augment import FramePlan, every_frame
from vidclf.uncertainty.hierarchy import Hierarchy


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Features and labels of the videos of one split.

    The frames are not copied from the feature set: they stay in its file, which the workers of a machine share.
    """

    videos: VideoFrames
    """features of the frames of each video"""
    labels: list[int]
    """class index per video"""
    sublabels: list[int] = field(default_factory=list)
    """index of the sublabel per video, `UNKNOWN` for a video without one; empty if no sublabels are learnt"""

    @classmethod
    def of(cls, features: Sequence[npt.NDArray[np.float16]], labels: Sequence[int]) -> Sequences:
        """The split made from one feature array [T, D] and one class index per video."""
        return cls(videos=VideoFrames.of(features), labels=list(labels))

    @property
    def lengths(self) -> list[int]:
        """Number of frames per video."""
        return [int(length) for length in self.videos.lengths_B]

    @property
    def num_bytes(self) -> int:
        """Size of the features of all videos, in bytes."""
        return self.videos.num_bytes


class Batches:
    """Access to the videos of a split in batches, with the features on a device.

    With `is_on_device`, all frames are copied to the device first. Without it they stay in the host's memory, and the
    frames of each batch are gathered in pinned memory and copied.
    """

    def __init__(self, sequences: Sequences, device: torch.device, *, is_on_device: bool = True) -> None:
        videos = sequences.videos
        self.labels_B = torch.tensor(sequences.labels)
        self._sublabels_B = torch.tensor(sequences.sublabels)
        self.lengths_B = torch.from_numpy(videos.lengths_B)
        self._is_on_device = is_on_device
        if is_on_device and device.type != "cpu":
            self._frames_ND = _copied(videos, device)
            self._starts_B = self.lengths_B.cumsum(0) - self.lengths_B
        else:
            self._frames_ND = torch.from_numpy(writable_view(videos.frames_ND))
            self._starts_B = torch.from_numpy(videos.starts_B)
        self._device = device

    def __len__(self) -> int:
        return len(self.lengths_B)

    def whole(self, indices_B: Tensor) -> tuple[Tensor, Tensor]:
        """All frames of the videos `indices_B`: their features [B, T, D] as float32 on the device, zero-padded, and
        their numbers of frames [B] on the CPU."""
        return self.at(indices_B, every_frame(self.lengths_B[indices_B]))

    def at(self, indices_B: Tensor, plan: FramePlan) -> tuple[Tensor, Tensor]:
        """The frames of the videos `indices_B` at the positions in `plan`: features [B, L, D] as float32 on the device,
        zero-padded, and numbers of frames [B] on the CPU. A position between two frames gives the interpolation of
        both."""
        positions_BL = plan.positions_BL
        first_BL = positions_BL.floor().long()
        second_BL = torch.minimum(first_BL + 1, self.lengths_B[indices_B][:, None] - 1)
        share_BL = positions_BL - first_BL
        starts_B1 = self._starts_B[indices_B][:, None]
        features_BLD = self._gather(starts_B1 + first_BL)
        if bool(share_BL.any()):
            weight_BL1 = share_BL[..., None].to(self._device, non_blocking=True)
            features_BLD = torch.lerp(features_BLD, self._gather(starts_B1 + second_BL), weight_BL1)
        if int(plan.lengths_B.min()) < positions_BL.shape[1]:
            is_real_BL = torch.arange(positions_BL.shape[1]) < plan.lengths_B[:, None]
            features_BLD = features_BLD * is_real_BL[..., None].to(self._device, non_blocking=True)
        return features_BLD, plan.lengths_B

    def labels_at(self, indices_B: Tensor) -> Tensor:
        """Class indices of the videos `indices_B`, as a tensor [B] on the device."""
        return self.labels_B[indices_B].to(self._device, non_blocking=True)

    def sublabels_at(self, indices_B: Tensor) -> Tensor:
        """Indices of the sublabels of the videos `indices_B`, as a tensor [B] on the device."""
        return self._sublabels_B[indices_B].to(self._device, non_blocking=True)

    def _gather(self, rows_BL: Tensor) -> Tensor:
        """Features [B, L, D] as float32 on the device, for frames given by their row numbers in the array of all
        videos."""
        if self._is_on_device:
            return self._frames_ND[rows_BL.to(self._device, non_blocking=True)].float()
        # torch caches pinned memory, and reuses it for a later batch once this copy has ended.
        batch_ND = torch.empty(
            (rows_BL.numel(), self._frames_ND.shape[1]),
            dtype=self._frames_ND.dtype,
            pin_memory=self._device.type == "cuda",
        )
        torch.index_select(self._frames_ND, 0, rows_BL.flatten(), out=batch_ND)
        return batch_ND.to(self._device, non_blocking=True).float().reshape(*rows_BL.shape, -1)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The two splits for the training of a member (one model of the ensemble): `train` to fit its weights, `val` to
    select its best epoch."""

    classes: list[str]
    train: Sequences
    val: Sequences
    taxonomy: dict[str, list[str]] = field(default_factory=dict)
    """sublabels that are learnt, by class; empty for none"""

    @property
    def hierarchy(self) -> Hierarchy:
        """The classes with their sublabels."""
        return Hierarchy(classes=self.classes, sublabels=self.taxonomy)

    @property
    def feature_dim(self) -> int:
        """Number of features per frame."""
        return int(self.train.videos.frames_ND.shape[1])


def training_data(
    features: FeatureSet,
    classes: list[str] | None = None,
    *,
    taxonomy: dict[str, list[str]] | None = None,
    option: str = "--features",
) -> TrainingData:
    """The train and val splits of a labelled feature set, with labels as class indices.

    These are indices into `classes` or, if it is None, into the alphabetical list of labels. The sublabels of
    `taxonomy` are learnt too (`sublabels.taxonomy_of`); none without it. `option` is the option that gave the features,
    which errors name.

    Raises ConfigError if labels or splits are missing, a split is empty, a source (videos cut from one recording) is in
    two splits, there are fewer than 2 classes, or a class is missing in the train split.
    """
    num_unlabelled = features.labels.count(None)
    if num_unlabelled:
        example = features.video_uris[features.labels.index(None)]
        raise ConfigError(
            f"{option}: must hold labelled videos, {num_unlabelled} of {len(features.labels)} have no label (for one "
            f"{example}); index an archive laid out <label>/<sublabel>/video"
        )
    if any(split is None for split in features.splits):
        raise ConfigError(f"{option}: videos have no split; give fractions, such as --split 0.7,0.2,0.1")
    split_of: dict[str, str] = {}
    for group, split in zip(features.groups, features.splits, strict=True):
        if split_of.setdefault(group, str(split)) != split:
            raise ConfigError(
                f"{option}: source {group!r} must be in one split, is in {split_of[group]} and {split}; "
                "give fractions to assign new splits, such as --split 0.7,0.2,0.1"
            )
    classes = classes or sorted({str(label) for label in features.labels})
    if len(classes) < 2:
        raise ConfigError(f"{option}: must hold at least 2 classes, holds {classes}")
    hierarchy = Hierarchy(classes=classes, sublabels=taxonomy or {})
    train, val = (_split(features, name, hierarchy) for name in ("train", "val"))
    absent = [name for index, name in enumerate(classes) if index not in train.labels]
    if absent:
        example = features.video_uris[features.labels.index(absent[0])]
        raise ConfigError(
            f"{option}: the train split must hold every class, lacks {absent} (a video of the first is {example}); "
            "move a source of each to train, or give fractions to assign new splits, such as --split 0.7,0.2,0.1"
        )
    _check_videos_differ(features, option)
    return TrainingData(classes=classes, train=train, val=val, taxonomy=taxonomy or {})


def _check_videos_differ(features: FeatureSet, option: str) -> None:
    """Raise ConfigError if in each class every frame of every video has the same features.

    No model can learn from such videos, and no distance from them can be measured: each is 0.
    """
    first_of: dict[str | None, npt.NDArray[np.float16]] = {}
    # Ends at the first video that differs, which is among the first ones in any real archive.
    for label, rows_TD in zip(features.labels, features.features, strict=True):
        first_D = first_of.setdefault(label, rows_TD[0])
        if not np.array_equal(rows_TD, np.broadcast_to(first_D, rows_TD.shape)):
            return
    raise ConfigError(
        f"{option}: videos of a class must differ, all {len(features.features)} have the same features in every "
        f"frame as the others of their class (for one {features.video_uris[0]}); look whether they show one picture, "
        "or extract them with other weights"
    )


def class_balanced_order(labels: Sequence[int], generator: torch.Generator) -> Tensor:
    """The random order of the videos in one epoch: as many video indices as there are labels, drawn with replacement so
    that all classes are equally likely."""
    count = Counter(labels)
    weights = torch.tensor([1 / count[label] for label in labels], dtype=torch.float64)
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def bootstrap_sample(sequences: Sequences, generator: torch.Generator) -> Sequences:
    """A bootstrap sample of a split, with as many videos per class as the split has (Breiman 1996, Bagging Predictors).

    Videos are drawn with replacement within each class, so that no class is lost.
    """
    labels = torch.tensor(sequences.labels)
    drawn: list[int] = []
    for label in sorted(set(sequences.labels)):
        members = torch.nonzero(labels == label).flatten()
        drawn += members[torch.randint(len(members), (len(members),), generator=generator)].tolist()
    return Sequences(
        videos=sequences.videos.select(drawn),
        labels=[sequences.labels[i] for i in drawn],
        sublabels=[sequences.sublabels[i] for i in drawn] if sequences.sublabels else [],
    )


def _split(features: FeatureSet, name: str, hierarchy: Hierarchy) -> Sequences:
    """The videos of the split `name`, with labels and sublabels as indices into `hierarchy`. ConfigError if the split
    is empty."""
    rows = [index for index, split in enumerate(features.splits) if split == name]
    if not rows:
        raise ConfigError(f"--features: the {name} split must hold at least one video, is empty")
    labels = [hierarchy.classes.index(str(features.labels[i])) for i in rows]
    sublabels = [hierarchy.index(features.labels[i], features.sublabels[i]) for i in rows] if hierarchy.names else []
    return Sequences(videos=VideoFrames.of(features.features).select(rows), labels=labels, sublabels=sublabels)


def _copied(videos: VideoFrames, device: torch.device) -> Tensor:
    """The frames of the videos on a device, one video after the other."""
    frames_ND = torch.empty((videos.num_frames, videos.frames_ND.shape[1]), dtype=torch.float16, device=device)
    start = 0
    for rows_TD in videos:
        frames_ND[start : start + len(rows_TD)].copy_(torch.from_numpy(writable_view(rows_TD)))
        start += len(rows_TD)
    return frames_ND
