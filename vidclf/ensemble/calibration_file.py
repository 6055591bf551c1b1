"""Reading and writing `trust.safetensors`: the arrays that were fitted when an ensemble was calibrated.

Shape suffixes: B videos.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from vidclf import storage
from vidclf.ensemble.bf16 import PrecisionProbe
from vidclf.ensemble.info import ENSEMBLE_FILE, EnsembleInfo, mode
from vidclf.ensemble.outdated import OutdatedEnsembleError
from vidclf.ensemble.trust_file_check import check_trust_file
from vidclf.ensemble.weights_file_check import Header, read_header
from vidclf.errors import ConfigError
from vidclf.schema import Look
from vidclf.uncertainty import prediction_sets, sublabel_sets, sublabel_threshold
from vidclf.uncertainty.early_exit import EARLY_LOOKS, ValidationScores, stage_thresholds
from vidclf.uncertainty.frame_agreement import FrameDiscriminant
from vidclf.uncertainty.hierarchy import Hierarchy
from vidclf.uncertainty.ood import FeatureSpace
from vidclf.uncertainty.prediction_sets import SetThresholds, TruthScores
from vidclf.uncertainty.risk_threshold import RiskThreshold
from vidclf.uncertainty.sublabel_sets import SublabelSetThresholds
from vidclf.uncertainty.sublabel_threshold import SublabelScores

TRUST_FILE = "trust.safetensors"
"""Name of the file in an ensemble's directory."""

_NOT_CALIBRATED = (
    "--coverage needs an ensemble that this version has calibrated; run jobs/train.py again with its --features and "
    "--output, which keeps the members"
)

_NO_SUBLABEL_SETS = (
    "sublabel_set is null, because an earlier version calibrated the ensemble; for prediction sets of sublabels run "
    "jobs/train.py again with its --features and --output, which keeps the members"
)

FittedArrays = TypeVar("FittedArrays", FeatureSpace, FrameDiscriminant)
"""One of the records of arrays that `_read` can build."""


@dataclass(frozen=True, kw_only=True)
class TrustData:
    """Content of `trust.safetensors`, all fitted when the ensemble was calibrated.

    It holds the distribution of the training videos' features (for the OOD score, how unusual a video is), the scores
    of the validation videos (for choosing trust thresholds), and the data for the bfloat16 test. A look is a partial or
    full selection of a video's frames.
    """

    spaces: dict[str, list[FeatureSpace]]
    """by look (the full one and each early one): the distribution of the training videos in the features of each
    backbone"""
    discriminants: list[FrameDiscriminant]
    """the classifier of single frames for each backbone"""
    full: dict[str, ValidationScores]
    """scores of the validation videos with all sampled frames, by mode: `plain` or `tta` (with test-time
    augmentation)"""
    stages: dict[str, ValidationScores] = field(default_factory=dict)
    """scores of the validation videos at each early look (classification from few frames), by its name"""
    truth: dict[str, TruthScores] = field(default_factory=dict)
    """probabilities of the true classes of the held-out videos with all sampled frames, by mode; empty in ensembles of
    earlier versions"""
    sublabels: dict[str, SublabelScores] = field(default_factory=dict)
    """scores of the validation videos' sublabels, by mode and by early look; empty without sublabels"""
    leaves: dict[str, TruthScores] = field(default_factory=dict)
    """probabilities and indices of the held-out videos' true leaves (sublabels, or classes without any), by mode; empty
    without sublabels, and in ensembles of earlier versions"""
    probe: PrecisionProbe | None = None
    """videos on which a worker tests bfloat16; if None, members are computed in fp32 unless `--precision bf16` is
    given"""

    def threshold(self, mode: str, risk: float, accept_uncertified: bool) -> RiskThreshold:
        """Choose the lowest trust score to accept for an allowed error `risk`, if every video is classified from all
        sampled frames.

        `mode` is `plain` or `tta` (with test-time augmentation). With `accept_uncertified`, videos are accepted even if
        the validation data do not support the risk.
        """
        return self.full[mode].threshold(risk, accept_uncertified)

    def set_thresholds(self, mode: str, num_classes: int, coverage: float | None) -> SetThresholds | None:
        """Choose the lowest probabilities of the classes in prediction sets for a stated `coverage`; None without one.

        Raises ConfigError for an ensemble of an earlier version, which lacks the probabilities of the true classes.
        """
        if coverage is None:
            return None
        if mode not in self.truth:
            raise ConfigError(_NOT_CALIBRATED)
        return prediction_sets.set_thresholds(self.truth[mode], num_classes, coverage)

    def sublabel_set_thresholds(
        self, mode: str, hierarchy: Hierarchy, coverage: float | None
    ) -> SublabelSetThresholds | None:
        """Choose the lowest probabilities of the sublabels in prediction sets for a stated `coverage`; None without
        one, and for an ensemble that predicts no sublabels.

        Also None, with a line on stderr, for an ensemble of an earlier version, which lacks the probabilities of the
        true sublabels: prediction sets of classes do not need them.
        """
        if coverage is None or mode not in self.sublabels:
            return None
        if mode not in self.leaves:
            print(_NO_SUBLABEL_SETS, file=sys.stderr)
            return None
        return sublabel_sets.choose(self.leaves[mode], len(sublabel_sets.leaf_names(hierarchy)), coverage)

    def sublabel_threshold(
        self, mode: str, classes: RiskThreshold, risk: float, accept_uncertified: bool
    ) -> RiskThreshold | None:
        """Choose the lowest trust of a sublabel for an allowed error `risk`; None if the ensemble predicts none.

        `classes`: the thresholds that `threshold` or `stage_thresholds` chose for the classes.
        """
        if mode not in self.sublabels:
            return None
        stages = {name: (scores, self.sublabels[name]) for name, scores in self.stages.items()}
        full = (self.full[mode], self.sublabels[mode])
        return sublabel_threshold.choose(classes, full, stages, risk, accept_uncertified)

    def stage_thresholds(self, mode: str, risk: float, accept_uncertified: bool) -> RiskThreshold:
        """Choose the lowest trust scores to accept for an allowed error `risk`, if early looks (with few frames) may
        decide videos first.

        The result holds a threshold for each early look that may decide, and one for the full look in `mode` (`plain`
        or `tta`).
        """
        return stage_thresholds(self.stages, self.full[mode], risk, accept_uncertified)


def write_trust(directory: str, data: TrustData) -> str:
    """Write `trust.safetensors` into an ensemble's directory and return the SHA-256 of the file."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, spaces in data.spaces.items():
        for index, space in enumerate(spaces):
            arrays.update(_arrays(space, f"{name}.{index}."))
    for index, discriminant in enumerate(data.discriminants):
        arrays.update(_arrays(discriminant, f"{index}."))
    for name, scores in (data.full | data.stages).items():
        arrays[f"{name}.trust_B"] = scores.trust_B
        arrays[f"{name}.correct_B"] = scores.correct_B.astype(np.uint8)
        arrays[f"{name}.ood_B"] = scores.ood_B
        arrays[f"{name}.source_B"] = scores.source_B.astype(np.int64)
        if scores.confidence_B is not None:
            arrays[f"{name}.confidence_B"] = scores.confidence_B
    for name, truth in data.truth.items():
        arrays[f"{name}.truth_B"] = truth.truth_B
        arrays[f"{name}.label_B"] = truth.label_B.astype(np.int64)
    for name, sublabels in data.sublabels.items():
        arrays[f"{name}.sublabel_trust_B"] = sublabels.trust_B
        arrays[f"{name}.sublabel_right_B"] = sublabels.right_B.astype(np.int64)
    for name, leaves in data.leaves.items():
        arrays[f"{name}.leaf_truth_B"] = leaves.truth_B
        arrays[f"{name}.leaf_B"] = leaves.label_B.astype(np.int64)
    if data.probe is not None:
        arrays.update(data.probe.arrays())
    # safetensors writes memory as it is, without regard to strides.
    content = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    storage.publish_bytes(storage.join(directory, TRUST_FILE), content)
    return hashlib.sha256(content).hexdigest()


def read_trust(directory: str, info: EnsembleInfo) -> TrustData:
    """Read `trust.safetensors` of the ensemble that `info` describes.

    Raises ConfigError if the file cannot be read, is not the one that `ensemble.json` lists, has arrays of other shapes
    than the sizes there, or holds NaN, and OutdatedEnsembleError if an earlier version wrote it.
    """
    path = storage.join(directory, TRUST_FILE)
    header = read_header(path)
    _check_version(path, header)
    check_trust_file(path, header, info)
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        raise ConfigError(f"--ensemble {path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    if hashlib.sha256(content).hexdigest() != info.trust.digest:
        raise ConfigError(f"--ensemble {path}: is not the file that {ENSEMBLE_FILE} lists (digest differs)")
    try:
        arrays = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise ConfigError(f"--ensemble {path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ConfigError(f"--ensemble {path}: values must be numbers, {name} holds NaN")
    if (probe := PrecisionProbe.first_invalid(arrays)) is not None:
        raise ConfigError(f"--ensemble {path}: {probe}")
    modes, indices = [mode(tta) for tta in (False, True)], range(len(info.backbones))
    return TrustData(
        spaces={
            name: [_read(FeatureSpace, arrays, f"{name}.{index}.") for index in indices]
            for name in (Look.FULL, *info.stages)
        },
        discriminants=[_read(FrameDiscriminant, arrays, f"{index}.") for index in indices],
        full={name: _scores(arrays, name) for name in modes},
        stages={name: _scores(arrays, name) for name in EARLY_LOOKS if name in info.stages},
        truth={name: _truth(arrays, name) for name in modes if f"{name}.truth_B" in arrays},
        sublabels={
            name: _sublabels(arrays, name) for name in (*modes, *EARLY_LOOKS) if f"{name}.sublabel_trust_B" in arrays
        },
        leaves={name: _leaves(arrays, name) for name in modes if f"{name}.leaf_B" in arrays},
        probe=PrecisionProbe.read(arrays, len(info.backbones)),
    )


def _check_version(path: str, header: Header) -> None:
    """Raise OutdatedEnsembleError if the header of the file at `path` is that of an earlier version."""
    if f"{Look.FULL}.0.centres_CD" not in header.shapes:
        raise OutdatedEnsembleError(path, "with a different OOD score")
    if f"{mode(False)}.source_B" not in header.shapes:
        raise OutdatedEnsembleError(path, "which did not store the source of each validation video")


def _arrays(fitted: FeatureSpace | FrameDiscriminant, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a fitted record, each under `prefix` and the name of its field. Inverse of `_read`."""
    return {prefix + field.name: getattr(fitted, field.name) for field in fields(fitted)}


def _read(kind: type[FittedArrays], arrays: dict[str, npt.NDArray[Any]], prefix: str) -> FittedArrays:
    """Build a record of the class `kind` from the arrays whose names are `prefix` and a field name. Inverse of
    `_arrays`."""
    return kind(**{field.name: arrays[prefix + field.name] for field in fields(kind)})


def _truth(arrays: dict[str, npt.NDArray[Any]], name: str) -> TruthScores:
    """The probabilities of the true classes stored under `name`: `plain` or `tta` (with test-time augmentation)."""
    return TruthScores(
        truth_B=arrays[f"{name}.truth_B"], label_B=arrays[f"{name}.label_B"], source_B=arrays[f"{name}.source_B"]
    )


def _leaves(arrays: dict[str, npt.NDArray[Any]], name: str) -> TruthScores:
    """The probabilities of the true leaves stored under `name`: `plain` or `tta` (with test-time augmentation)."""
    return TruthScores(
        truth_B=arrays[f"{name}.leaf_truth_B"], label_B=arrays[f"{name}.leaf_B"], source_B=arrays[f"{name}.source_B"]
    )


def _sublabels(arrays: dict[str, npt.NDArray[Any]], name: str) -> SublabelScores:
    """The scores of the validation videos' sublabels stored under `name`: a mode, or an early look."""
    return SublabelScores(trust_B=arrays[f"{name}.sublabel_trust_B"], right_B=arrays[f"{name}.sublabel_right_B"])


def _scores(arrays: dict[str, npt.NDArray[Any]], name: str) -> ValidationScores:
    """The validation scores stored under `name`: `plain`, `tta` (with test-time augmentation) or the name of an early
    look (classification from few frames)."""
    return ValidationScores(
        trust_B=arrays[f"{name}.trust_B"],
        correct_B=arrays[f"{name}.correct_B"].astype(bool),
        ood_B=arrays[f"{name}.ood_B"],
        source_B=arrays[f"{name}.source_B"],
        confidence_B=arrays.get(f"{name}.confidence_B"),
    )
