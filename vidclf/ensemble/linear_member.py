"""The linear member: a linear classifier of the mean and the spread of a video's frame features.

It votes beside the temporal members of an ensemble, with a weight that calibration fits for each look (partial or full
selection of a video's frames). It is fitted by `training/linear_fit.py`; here it is only a matrix product.

Shape suffixes: B videos, T frames, D features, C classes, V views (test-time variants of a video), M members, K
descriptors: mean and standard deviation of each feature of each backbone, S backbones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from scipy.special import softmax

from vidclf import storage
from vidclf.ensemble.views import VIEWS
from vidclf.ensemble.weights_file_check import read_header
from vidclf.errors import ConfigError
from vidclf.features.computed_frames import ComputedFrames

LINEAR_FILE = "linear_member.safetensors"
"""Name of the file in an ensemble's directory."""

LINEAR_NAME = "linear member"
"""Name of the linear member in reports."""

VIDEOS_AT_A_TIME = 1024
"""Number of videos whose descriptors are in memory together when the linear member classifies; 20 MB with 1280
features."""


@dataclass(frozen=True, kw_only=True)
class LinearWeight:
    """Weight of the linear member in the ensemble's average, with the evidence for it from the validation videos."""

    weight: float
    """share of the linear member in the average, 0 to 1; the temporal members share the rest equally"""
    gain: float
    """gain in log-likelihood per validation video, in nats, if the linear member is mixed half and half with the
    temporal members; averaged over sources (recordings)"""
    gain_se: float | None
    """standard error of `gain` over the sources (recordings); None for a single source"""


@dataclass(frozen=True, kw_only=True)
class LinearInfo:
    """The linear member's entry in `ensemble.json`."""

    digest: str
    """SHA-256 of `linear_member.safetensors`"""
    looks: dict[str, LinearWeight]
    """weight for each look (full or early), by its name"""
    segments: list[float]
    """weight for segments (parts of a video), in the order of `EnsembleInfo.segments`"""
    best: dict[str, Any]
    """scores of the linear member alone on the validation split, as in `MemberRecord.best`"""
    members_val_accuracy: float
    """accuracy on the validation split of the temporal members without the linear member"""


@dataclass(frozen=True, kw_only=True)
class LinearMember:
    """Linear classifier whose logits are the descriptors of a video times `weights_KC` plus `offset_C`."""

    weights_KC: npt.NDArray[np.float32]
    offset_C: npt.NDArray[np.float32]

    def __call__(self, sequences_S: Sequence[Sequence[npt.NDArray[np.float16]]]) -> npt.NDArray[np.float32]:
        """Class probabilities [videos, classes] of videos. `sequences_S` holds, per backbone, one feature array
        [frames, features] per video."""
        blocks = (slice(start, start + VIDEOS_AT_A_TIME) for start in range(0, len(sequences_S[0]), VIDEOS_AT_A_TIME))
        return np.concatenate(
            [self.of_descriptors(descriptors([sequences[block] for sequences in sequences_S])) for block in blocks]
        )

    def of_descriptors(self, rows_BK: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Class probabilities [videos, classes] from the descriptors of videos."""
        logits_BC = rows_BK.astype(np.float64) @ self.weights_KC + self.offset_C
        probabilities_BC: npt.NDArray[np.float32] = softmax(logits_BC, axis=1).astype(np.float32)
        return probabilities_BC

    def in_views(
        self, sequences_S: Sequence[Sequence[npt.NDArray[np.float16]]], views: Sequence[str]
    ) -> npt.NDArray[np.float32]:
        """Class probabilities as an array [views, 1, videos, classes], one row of members, for the named `views`
        (test-time variants of a video)."""
        return np.stack(
            [self([ComputedFrames(sequences, VIEWS[name]) for sequences in sequences_S]) for name in views]
        )[:, None]

    def scaled(self, factor: float) -> LinearMember:
        """The same classifier with logits multiplied by `factor`."""
        return LinearMember(
            weights_KC=(self.weights_KC * factor).astype(np.float32),
            offset_C=(self.offset_C * factor).astype(np.float32),
        )


def descriptors(sequences_S: Sequence[Sequence[npt.NDArray[np.float16]]]) -> npt.NDArray[np.float32]:
    """Mean and standard deviation over the frames of each feature, of all backbones: an array [videos, descriptors].

    The spread of a single frame is 0.
    """
    dims = [sequences[0].shape[1] for sequences in sequences_S]
    rows_BK = np.empty((len(sequences_S[0]), 2 * sum(dims)), np.float32)
    start = 0
    for sequences, dim in zip(sequences_S, dims, strict=True):
        for row_K, rows_TD in zip(rows_BK[:, start : start + 2 * dim], sequences, strict=True):
            wide_TD = rows_TD.astype(np.float32)
            row_K[:dim] = wide_TD.mean(axis=0)
            row_K[dim:] = wide_TD.std(axis=0, ddof=1) if len(wide_TD) > 1 else 0.0
        start += 2 * dim
    return rows_BK


def member_weights(num_temporal: int, linear_weight: float | None) -> npt.NDArray[np.float64]:
    """Weights of the members in the average, with sum 1: equal for the temporal members, followed by `linear_weight`
    for the linear member. None stands for an ensemble without one."""
    if linear_weight is None:
        return np.full(num_temporal, 1 / num_temporal)
    return np.array([*[(1 - linear_weight) / num_temporal] * num_temporal, linear_weight])


def write_linear(directory: str, member: LinearMember) -> str:
    """Write the file of the linear member into an ensemble's directory and return the SHA-256 of the file."""
    arrays = {"weights_KC": member.weights_KC, "offset_C": member.offset_C}
    content = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    storage.publish_bytes(storage.join(directory, LINEAR_FILE), content)
    return hashlib.sha256(content).hexdigest()


def read_linear(directory: str, digest: str, num_features: int, num_classes: int) -> LinearMember:
    """Read the linear member of an ensemble, whose backbones have `num_features` features together.

    Raises ConfigError if the file is missing, is not the one with this `digest`, does not have arrays of these sizes,
    or holds values that are not finite.
    """
    path = storage.join(directory, LINEAR_FILE)
    expected = {"weights_KC": (2 * num_features, num_classes), "offset_C": (num_classes,)}
    header = read_header(path)
    if header.shapes != expected or set(header.dtypes.values()) != {"F32"}:
        sizes = ", ".join(f"{name} {list(shape)}" for name, shape in expected.items())
        found = ", ".join(f"{name} {header.dtypes[name]} {list(shape)}" for name, shape in header.shapes.items())
        raise ConfigError(
            f"--ensemble {path}: must hold the F32 arrays {sizes} by the sizes in ensemble.json, has {found}"
        )
    try:
        content = storage.read_bytes(path)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ConfigError(f"--ensemble {path}: is not the file that ensemble.json lists (digest differs)")
        arrays = safetensors.numpy.load(content)
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"--ensemble {path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ConfigError(f"--ensemble {path}: weights must be finite, {name} holds NaN or infinity")
    return LinearMember(**arrays)
