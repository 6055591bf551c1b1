"""Test videos for measurements: those that the same rule as in reports shows to be held out from a training."""

from __future__ import annotations

from vidclf.config import TrainConfig
from vidclf.ensemble.held_out import held_out_rows
from vidclf.ensemble.split_record import SplitRecord
from vidclf.features.feature_set import FeatureSet
from vidclf.training import leakage

CONFIG = TrainConfig(features=("",), output="")
"""Defaults of the `train` job, for its similarity of near duplicates."""


def held_out(features: FeatureSet) -> list[int]:
    """Indices of the test videos that a training with the splits of these features does not see in any form."""
    table = leakage.assign_splits(features, CONFIG).table()
    return held_out_rows(features, SplitRecord.of(table, CONFIG.near_duplicate_cosine, features.spec.key))


def joined_groups(features: FeatureSet) -> list[str]:
    """Source of each video; sources that share near duplicates count as one, as for `train --split`."""
    return leakage.join_groups(features.groups, leakage.assign_splits(features, CONFIG).clusters)
