"""The calibration that `--calibration auto` stands for, with the splits that it needs.

On twelve folds of a small archive, calibration on all videos was better than calibration on the validation split
(`docs/benchmarks/classification.md`). The validation split of a large archive is not small, and its members stop early.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vidclf import storage
from vidclf.config import TrainConfig
from vidclf.ensemble.info import ENSEMBLE_FILE, read_info
from vidclf.features.feature_set import FeatureSet
from vidclf.training.feature_sources import found_sources
from vidclf.training.leakage import SplitAssignment, assign_splits, join_groups

SMALL_ARCHIVE = 500
"""Number of sources (recordings) below which the validation split is too small to calibrate on."""

SOURCES_PER_CLASS = 10
"""Smallest number of sources of each class with which a cross calibration is chosen: 2 per fold."""


@dataclass(frozen=True, kw_only=True)
class CalibrationChoice:
    """The calibration of a training job, with the splits of the videos."""

    config: TrainConfig
    """with `calibration` validation or cross"""
    assignment: SplitAssignment
    line: str
    """what `--calibration auto` chose and why, for the log; empty if nothing was chosen"""


def choose_calibration(config: TrainConfig, features: FeatureSet) -> CalibrationChoice:
    """Choose the calibration that `--calibration auto` stands for, and assign the splits.

    It is that of the ensemble that `--output` already holds. For a new ensemble it is cross if the sources (near
    duplicates count as one) are few enough, and enough in each class, and validation otherwise. Raises ConfigError if
    the splits cannot be assigned.
    """
    if config.calibration != "auto":
        return CalibrationChoice(config=config, assignment=assign_splits(features, config), line="")
    validated = replace(config, calibration="validation")
    if not config.may_be_crossed:
        return CalibrationChoice(config=validated, assignment=assign_splits(features, validated), line="")
    crossed = replace(config, calibration="cross")
    if not config.overwrite and storage.exists(storage.join(config.output, ENSEMBLE_FILE)):
        is_crossed = read_info(config.output, accepts_outdated=True).is_cross_calibrated
        return _choice(crossed if is_crossed else validated, features, "as that of the ensemble in --output")
    reason = _against_crossing(features.labels, features.groups, features.splits)
    if not reason:
        choice = _choice(
            crossed,
            features,
            f"as each class has at least {SOURCES_PER_CLASS} sources, all together fewer than {SMALL_ARCHIVE}",
        )
        assigned = choice.assignment.features
        joined = join_groups(assigned.groups, choice.assignment.clusters)
        joined = join_groups(joined, found_sources(assigned).clusters)
        reason = _against_crossing(assigned.labels, joined, assigned.splits)
        if not reason:
            return choice
    return _choice(validated, features, f"as {reason}")


def _choice(config: TrainConfig, features: FeatureSet, reason: str) -> CalibrationChoice:
    """The choice of the calibration in `config`, for this reason."""
    fitted_to = "all train and validation videos" if config.calibration == "cross" else "the validation split"
    line = f"calibration: on {fitted_to} (--calibration {config.calibration}), {reason}"
    return CalibrationChoice(config=config, assignment=assign_splits(features, config), line=line)


def _against_crossing(labels: Sequence[str | None], groups: Sequence[str], splits: Sequence[str | None]) -> str:
    """Why a cross calibration is not chosen for these videos; empty if it is. Test videos are not counted."""
    sources_of: dict[str, set[str]] = defaultdict(set)
    for label, group, split in zip(labels, groups, splits, strict=True):
        if split != "test":
            sources_of[str(label)].add(group)
    num_sources = len(set().union(*sources_of.values()))
    if num_sources >= SMALL_ARCHIVE:
        return f"there are at least {SMALL_ARCHIVE} sources"
    smallest = min(sources_of, key=lambda label: len(sources_of[label]), default="")
    if not smallest or len(sources_of[smallest]) < SOURCES_PER_CLASS:
        return f"class {smallest!r} has fewer than {SOURCES_PER_CLASS} sources"
    return ""
