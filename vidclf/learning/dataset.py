"""Feature sequences as training data: labels to indices, padding, class-balanced draws.

Shape suffixes: B videos, T frames, D features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidclf.config import ConfigError
from vidclf.features.store import FeatureSet


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Labelled feature sequences of one split."""

    features: list[npt.NDArray[np.float16]]
    """[T, D] each"""
    labels: list[int]
    """class indices"""

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Zero-padded features [B, T, D] float32, lengths [B] and labels [B] int64."""
        features_BTD, lengths_B = pad([self.features[i] for i in indices])
        return features_BTD, lengths_B, torch.tensor([self.labels[i] for i in indices])


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What every member trains on and is selected by."""

    classes: list[str]
    train: Sequences
    val: Sequences

    @property
    def feature_dim(self) -> int:
        return int(self.train.features[0].shape[1])


def pad(sequences: Sequence[npt.NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    """Zero-padded features [B, T, D] float32 and lengths [B] int64."""
    lengths_B = torch.tensor([len(sequence) for sequence in sequences])
    features_BTD = torch.zeros(len(sequences), int(lengths_B.max()), sequences[0].shape[1])
    for row, sequence in enumerate(sequences):
        features_BTD[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.float32)
    return features_BTD, lengths_B


def training_data(features: FeatureSet) -> TrainingData:
    """The train and val splits of a labelled feature set; classes in alphabetical order.

    Raises ConfigError where labels or splits are missing, a split is empty, a source crosses
    splits, or a class is not in train.
    """
    if any(label is None for label in features.labels):
        raise ConfigError("--features: must hold labelled videos; index an archive laid out <label>/<sublabel>/video")
    if any(split is None for split in features.splits):
        raise ConfigError("--features: videos have no split; give fractions, such as --split 0.7,0.2,0.1")
    split_of: dict[str, str] = {}
    for group, split in zip(features.groups, features.splits, strict=True):
        if split_of.setdefault(group, str(split)) != split:
            raise ConfigError(
                f"--features: source {group!r} must be in one split, is in {split_of[group]} and {split}; "
                "give fractions to split anew, such as --split 0.7,0.2,0.1"
            )
    classes = sorted({str(label) for label in features.labels})
    if len(classes) < 2:
        raise ConfigError(f"--features: must hold at least 2 classes, holds {classes}")
    train, val = (_split(features, name, classes) for name in ("train", "val"))
    absent = [name for index, name in enumerate(classes) if index not in train.labels]
    if absent:
        raise ConfigError(f"--features: the train split must hold every class, lacks {absent}")
    return TrainingData(classes=classes, train=train, val=val)


def class_balanced_order(labels: Sequence[int], generator: torch.Generator) -> list[int]:
    """As many indices as there are videos, drawn with replacement so that classes are equally likely."""
    count = Counter(labels)
    weights = torch.tensor([1 / count[label] for label in labels], dtype=torch.float64)
    drawn: list[int] = torch.multinomial(weights, len(labels), replacement=True, generator=generator).tolist()
    return drawn


def _split(features: FeatureSet, name: str, classes: list[str]) -> Sequences:
    chosen = [index for index, split in enumerate(features.splits) if split == name]
    if not chosen:
        raise ConfigError(f"--features: the {name} split must hold at least one video, is empty")
    return Sequences(
        features=[features.features[i] for i in chosen],
        labels=[classes.index(str(features.labels[i])) for i in chosen],
    )
