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
    named = _sources_by_class(features.labels, features.groups, features.splits)
    # Joined sources are fewer, so that what is too few stays too few.
    reason = _too_few(named)
    if reason:
        return _choice(validated, features, reason)
    is_large = _is_large(named)
    assignment = assign_splits(features, validated if is_large else crossed)
    assigned = assignment.features
    joined = join_groups(join_groups(assigned.groups, assignment.clusters), found_sources(assigned).clusters)
    sources_of = _sources_by_class(assigned.labels, joined, assigned.splits)
    reason = _too_few(sources_of)
    if not reason and _is_large(sources_of):
        reason = f"as there are at least {SMALL_ARCHIVE} sources"
    if reason:
        return _choice(validated, features, reason, assignment if is_large else None)
    reason = (
        f"as each class has at least {SOURCES_PER_CLASS} sources, all together fewer than {SMALL_ARCHIVE}; "
        "validation videos are train videos, --patience and --selection have no effect"
    )
    return _choice(crossed, features, reason, None if is_large else assignment)


def _choice(
    config: TrainConfig, features: FeatureSet, reason: str, assignment: SplitAssignment | None = None
) -> CalibrationChoice:
    """The choice of the calibration in `config`, for this reason. `assignment`: its splits, if they are known."""
    fitted_to = "all train and validation videos" if config.calibration == "cross" else "the validation split"
    return CalibrationChoice(
        config=config,
        assignment=assignment or assign_splits(features, config),
        line=f"calibration: on {fitted_to} (--calibration {config.calibration}), {reason}",
    )


def _sources_by_class(
    labels: Sequence[str | None], groups: Sequence[str], splits: Sequence[str | None]
) -> dict[str, set[str]]:
    """The sources of the videos of each class. Test videos are not counted."""
    sources_of: dict[str, set[str]] = defaultdict(set)
    for label, group, split in zip(labels, groups, splits, strict=True):
        if split != "test":
            sources_of[str(label)].add(group)
    return sources_of


def _too_few(sources_of: dict[str, set[str]]) -> str:
    """Why the sources of a class are too few for a cross calibration; empty if they are enough."""
    smallest = min(sources_of, key=lambda label: len(sources_of[label]), default="")
    if not smallest or len(sources_of[smallest]) < SOURCES_PER_CLASS:
        return f"as class {smallest!r} has fewer than {SOURCES_PER_CLASS} sources"
    return ""


def _is_large(sources_of: dict[str, set[str]]) -> bool:
    """Whether the archive has so many sources that its validation split is not small."""
    return len(set().union(*sources_of.values())) >= SMALL_ARCHIVE
