"""`trust.safetensors`: the fitted arrays of calibration, trust score and OOD score."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from vidclf import storage
from vidclf.ensemble.bf16 import PrecisionProbe
from vidclf.ensemble.info import ENSEMBLE_FILE, EnsembleInfo, mode
from vidclf.errors import ConfigError
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import EARLY_LOOKS, ValidationScores, stage_thresholds
from vidclf.uncertainty.frame_agreement import FrameDiscriminant
from vidclf.uncertainty.ood import FeatureSpace
from vidclf.uncertainty.risk_threshold import RiskThreshold

TRUST_FILE = "trust.safetensors"

Place = TypeVar("Place", FeatureSpace, FrameDiscriminant)


class OutdatedEnsembleError(ConfigError):
    """An ensemble whose members are good and whose calibration is not."""


@dataclass(frozen=True, kw_only=True)
class TrustData:
    """`trust.safetensors`: where training's videos lie, what is said of validation's, and a probe of these."""

    spaces: dict[str, list[FeatureSpace]]
    """for the full look and each early stage, of each backbone"""
    discriminants: list[FrameDiscriminant]
    """of each backbone"""
    full: dict[str, ValidationScores]
    """the full look at validation's videos, by mode, `plain` or `tta`"""
    stages: dict[str, ValidationScores] = field(default_factory=dict)
    """the early stages' looks at them"""
    probe: PrecisionProbe | None = None
    """without one members compute in fp32 unless told otherwise"""

    def threshold(self, mode: str, risk: float, accept_uncertified: bool) -> RiskThreshold:
        """What `--abstain-risk` comes to in a mode, `plain` or `tta`."""
        return self.full[mode].threshold(risk, accept_uncertified)

    def stage_thresholds(self, mode: str, risk: float, accept_uncertified: bool) -> RiskThreshold:
        """The same of the early stages that may decide and a full look in that mode, all together."""
        return stage_thresholds(self.stages, self.full[mode], risk, accept_uncertified)


def write_trust(directory: str, data: TrustData) -> str:
    """Publish `trust.safetensors`; returns its SHA-256."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, spaces in data.spaces.items():
        for index, space in enumerate(spaces):
            arrays.update(_named(space, f"{name}.{index}."))
    for index, discriminant in enumerate(data.discriminants):
        arrays.update(_named(discriminant, f"{index}."))
    for name, stage in (data.full | data.stages).items():
        arrays[f"{name}.trust_B"] = stage.trust_B
        arrays[f"{name}.correct_B"] = stage.correct_B.astype(np.uint8)
        arrays[f"{name}.ood_B"] = stage.ood_B
        arrays[f"{name}.source_B"] = stage.source_B.astype(np.int64)
    if data.probe is not None:
        arrays.update(data.probe.arrays())
    # safetensors writes an array's memory as it lies.
    content = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    storage.publish_bytes(storage.join(directory, TRUST_FILE), content)
    return hashlib.sha256(content).hexdigest()


def read_trust(directory: str, info: EnsembleInfo) -> TrustData:
    """`trust.safetensors`; ConfigError where it is not the file that `ensemble.json` lists."""
    path = storage.join(directory, TRUST_FILE)
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
    modes, indices = [mode(tta) for tta in (False, True)], range(len(info.backbones))
    if f"{Look.FULL}.0.centres_CD" not in arrays:
        raise OutdatedEnsembleError(
            f"--ensemble {path}: was calibrated by an earlier version, whose OOD score was another; run jobs/train.py "
            "with its flags again, which calibrates anew and leaves the members as they are"
        )
    if f"{modes[0]}.source_B" not in arrays:
        raise OutdatedEnsembleError(
            f"--ensemble {path}: must hold the source of each validation video, which an earlier version did not keep; "
            "run jobs/train.py with its flags again, which calibrates anew and leaves the members as they are"
        )
    return TrustData(
        spaces={
            name: [_read(FeatureSpace, arrays, f"{name}.{index}.") for index in indices]
            for name in (Look.FULL, *info.stages)
        },
        discriminants=[_read(FrameDiscriminant, arrays, f"{index}.") for index in indices],
        full={name: _stage(arrays, name) for name in modes},
        stages={name: _stage(arrays, name) for name in EARLY_LOOKS if name in info.stages},
        probe=PrecisionProbe.read(arrays, len(info.backbones)),
    )


def _named(fitted: FeatureSpace | FrameDiscriminant, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a file, named as the fields are; `_read` takes them back."""
    return {prefix + field.name: getattr(fitted, field.name) for field in fields(fitted)}


def _read(kind: type[Place], arrays: dict[str, npt.NDArray[Any]], prefix: str) -> Place:
    return kind(**{field.name: arrays[prefix + field.name] for field in fields(kind)})


def _stage(arrays: dict[str, npt.NDArray[Any]], name: str) -> ValidationScores:
    return ValidationScores(
        trust_B=arrays[f"{name}.trust_B"],
        correct_B=arrays[f"{name}.correct_B"].astype(bool),
        ood_B=arrays[f"{name}.ood_B"],
        source_B=arrays[f"{name}.source_B"],
    )
