"""Calibration of the sublabels (finer classes below a class) on the validation videos, apart from that of the classes.

A temperature is fitted for each look (full or partial view of a video's frames) to the conditional probabilities within
the true classes. The scores of the videos are cross-fitted, like those of the classes.

Shape suffixes: B videos, M members, V views (test-time variants of a video), L sublabels of all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vidclf.ensemble.info import mode
from vidclf.ensemble.sublabels import SublabelInfo, average
from vidclf.features.feature_set import FeatureSet
from vidclf.schema import Look
from vidclf.training.calibration_fit import CalibrationFit, LabelledVideos
from vidclf.uncertainty.folds import cross_fitted
from vidclf.uncertainty.hierarchy import UNKNOWN, Hierarchy
from vidclf.uncertainty.prediction_sets import TruthScores
from vidclf.uncertainty.sublabel_sets import true_leaves
from vidclf.uncertainty.sublabel_threshold import NOT_KNOWN, RIGHT, WRONG, SublabelScores


@dataclass(frozen=True, kw_only=True)
class LookVotes:
    """The members' votes on sublabels at one look, and the calibration of the classes at that look."""

    conditional_BL: npt.NDArray[np.float32]
    """conditional probabilities within the classes, averaged over views and members"""
    classes: CalibrationFit


@dataclass(frozen=True, kw_only=True)
class FittedSublabels:
    """Calibration of the sublabels, and what it was fitted to."""

    info: SublabelInfo | None = None
    """temperatures; None without sublabels"""
    scores: dict[str, SublabelScores] = field(default_factory=dict)
    """scores of the validation videos' sublabels, by mode and by early look"""
    leaves: dict[str, TruthScores] = field(default_factory=dict)
    """probabilities and indices of the validation videos' true leaves (`sublabel_sets.py`), by mode"""


def look_votes(
    conditional_VMBL: Mapping[Look, npt.NDArray[np.float32]],
    weights_V: npt.NDArray[np.float32],
    plain: CalibrationFit,
    tta: CalibrationFit,
    early: Mapping[Look, CalibrationFit],
) -> dict[str, LookVotes]:
    """The votes by name: `plain`, `tta` (with the views weighted by `weights_V`), and those of the early looks."""
    full = conditional_VMBL[Look.FULL]
    one = np.ones(1, np.float32)
    return {
        mode(False): LookVotes(conditional_BL=average(full[:1], one), classes=plain),
        mode(True): LookVotes(conditional_BL=average(full, weights_V), classes=tta),
        **{
            str(look): LookVotes(conditional_BL=average(conditional_VMBL[look], one), classes=fit)
            for look, fit in early.items()
        },
    }


def fit_sublabels(
    hierarchy: Hierarchy, features: FeatureSet, videos: LabelledVideos, votes: Mapping[str, LookVotes]
) -> FittedSublabels:
    """Fit the temperatures of the sublabels to the validation videos of `features`."""
    rows = videos.in_val.tolist()
    names_B = [(features.labels[row], features.sublabels[row]) for row in rows]
    truth_B = np.array([hierarchy.index(*names) for names in names_B], np.int64)
    is_named_B = np.array([sublabel is not None for _, sublabel in names_B], bool)
    temperatures, scores, leaves = {}, {}, {}
    for name, look in votes.items():
        temperatures[name] = hierarchy.fit_temperature(look.conditional_BL, truth_B)
        tempered_BL = _cross_fitted(hierarchy, look, videos, truth_B)
        scores[name] = _scores(hierarchy, look, tempered_BL, videos, truth_B, is_named_B)
        if name in (mode(False), mode(True)):
            leaves[name] = _true_leaves(hierarchy, look, tempered_BL, videos, names_B, truth_B)
    known_B = truth_B != UNKNOWN
    right_B = scores[mode(False)].right_B[known_B] == RIGHT
    info = SublabelInfo(
        temperatures=temperatures,
        num_videos=int(known_B.sum()),
        val_accuracy=float(right_B.mean()) if len(right_B) else None,
    )
    return FittedSublabels(info=info, scores=scores, leaves=leaves)


def _cross_fitted(
    hierarchy: Hierarchy, look: LookVotes, videos: LabelledVideos, truth_B: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Conditional probabilities of the validation videos' sublabels [B, L], with cross-fitted temperatures."""
    temperature_B = cross_fitted(
        videos.folds_B,
        lambda inside: hierarchy.fit_temperature(look.conditional_BL[inside], truth_B[inside]),
        lambda temperature, inside: temperature,
    )
    return hierarchy.tempered(look.conditional_BL, temperature_B[:, None])


def _true_leaves(
    hierarchy: Hierarchy,
    look: LookVotes,
    tempered_BL: npt.NDArray[np.float32],
    videos: LabelledVideos,
    names_B: list[tuple[str | None, str | None]],
    truth_B: npt.NDArray[np.int64],
) -> TruthScores:
    """Probability and index of the true leaf (sublabel, or class without sublabels) of each validation video."""
    within_B = np.take_along_axis(tempered_BL, np.maximum(truth_B, 0)[:, None], axis=1)[:, 0]
    probability_B, leaves = true_leaves(hierarchy, names_B, look.classes.truth_B, within_B)
    return TruthScores(
        truth_B=probability_B.astype(np.float32), label_B=np.array(leaves, np.int64), source_B=videos.source_B
    )


def _scores(
    hierarchy: Hierarchy,
    look: LookVotes,
    tempered_BL: npt.NDArray[np.float32],
    videos: LabelledVideos,
    truth_B: npt.NDArray[np.int64],
    is_named_B: npt.NDArray[np.bool_],
) -> SublabelScores:
    """Trust and correctness of the sublabel of each validation video, from its cross-fitted conditional
    probabilities."""
    fit = look.classes
    top_B = hierarchy.top_sublabels(tempered_BL, fit.top_B)
    within_B = np.take_along_axis(tempered_BL, np.maximum(top_B, 0)[:, None], axis=1)[:, 0]
    has_sublabels_C = np.array([bool(hierarchy.sublabels.get(name)) for name in hierarchy.classes], bool)
    is_unknown_B = has_sublabels_C[videos.labels_B] & ~is_named_B
    is_right_B = (top_B != UNKNOWN) & (top_B == truth_B)
    return SublabelScores(
        trust_B=np.where(top_B == UNKNOWN, 0, fit.trust_B * within_B).astype(np.float32),
        right_B=np.where(is_unknown_B, NOT_KNOWN, np.where(is_right_B, RIGHT, WRONG)).astype(np.int64),
    )
