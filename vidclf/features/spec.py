"""Feature spec and feature key: everything that decides the value of a feature, and a digest of it.

Two sets of features may be mixed only if their keys are equal. The spec of a run is in its `run_identity.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from vidclf import storage
from vidclf.backbones.catalog import FEATURE_DIMS, preprocessing
from vidclf.config.fields import differences
from vidclf.errors import ConfigError
from vidclf.runs.layout import IDENTITY_FILE, Run
from vidclf.video.decoder_version import decoder_version
from vidclf.video.sampling import SamplingPlan


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Everything that decides the features of a video. Two sets may be mixed only if all of it is equal."""

    backbone: str
    """name in `vidclf/backbones/catalog.py`"""
    weights_digest: str
    """digest of the backbone's weights"""
    sampling: dict[str, Any]
    """fields of `SamplingPlan`"""
    transform: dict[str, Any]
    """preprocessing of a frame, as plain JSON values"""
    decoder: str
    """versions of the decoder's libraries"""
    dtype: str
    """NumPy type of the stored features"""
    repeat_tolerance: float = 0.0
    """largest difference, in grey levels, between two frames that share features; 0 computes every frame"""

    @classmethod
    def of(cls, name: str, weights: str, digest: str, plan: SamplingPlan, repeat_tolerance: float = 0.0) -> FeatureSpec:
        """The spec of features made on this machine by the backbone `name` with `weights`, whose digest is `digest`."""
        return cls(
            backbone=name,
            weights_digest=digest,
            sampling=asdict(plan),
            transform=json.loads(json.dumps(asdict(preprocessing(name, weights)))),
            decoder=decoder_version(),
            dtype="float16",
            repeat_tolerance=repeat_tolerance,
        )

    @property
    def key(self) -> str:
        """The feature key: the first 16 hexadecimal digits of the SHA-256 of the spec's canonical JSON."""
        values = asdict(self)
        if not self.repeat_tolerance:
            del values["repeat_tolerance"]  # left out when 0, so that keys of older features stay valid
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def plan(self) -> SamplingPlan:
        """The sampling plan of the frames."""
        return SamplingPlan(**self.sampling)

    @property
    def feature_dim(self) -> int:
        """Number of features per frame (D)."""
        return FEATURE_DIMS[self.backbone]

    @property
    def frames(self) -> dict[str, Any]:
        """The part of the spec that decides which frames are sampled.

        Features of several backbones may be combined only if this part is equal. Frame t then shows the same moment.
        """
        return {"sampling": self.sampling, "decoder": self.decoder}

    def differences(self, other: FeatureSpec) -> str:
        """What differs, spelt out as `name: this != that`; empty where nothing does."""
        return differences(asdict(self), asdict(other))


def read_spec(features: str) -> FeatureSpec:
    """The spec of a features directory. Raises ConfigError if the directory holds no features."""
    run = Run(features)
    if not storage.exists(run.identity_file):
        raise ConfigError(
            f"--features must be a directory that jobs/extract.py wrote, got {features!r} (no {IDENTITY_FILE})"
        )
    identity = run.identity()
    if identity.get("ensemble_id") is not None:
        raise ConfigError(f"--features must be a directory of features, {features!r} holds predictions")
    return specs_of(features, identity)[0]


def specs_of(run: str, identity: dict[str, Any]) -> list[FeatureSpec]:
    """The feature specs in a run's `run_identity.json`, one per backbone."""
    if "feature_specs" not in identity:
        raise ConfigError(f"{run}: was written by another version of this software; run the job anew")
    return [FeatureSpec(**spec) for spec in identity["feature_specs"]]


def read_weights_location(features: str) -> str:
    """Location of the weights when these features were made. The spec holds their digest."""
    return str(Run(features).identity()["weights"][0])
