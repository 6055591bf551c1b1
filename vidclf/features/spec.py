"""Features on disk: the key that says how they were made, rows to Arrow, and reading them back.

Shape suffixes: T frames, D features.
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
from vidclf.runs.layout import IDENTITY_FILE
from vidclf.video.decode import DECODER_VERSION
from vidclf.video.sampling import SamplingPlan


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Everything that decides a video's features. Two sets may be mixed only if all of it is equal."""

    backbone: str
    weights_digest: str
    sampling: dict[str, Any]
    """fields of `SamplingPlan`"""
    transform: dict[str, Any]
    decoder: str
    dtype: str
    repeat_tolerance: float = 0.0
    """grey levels by which a frame may differ from another one whose features it takes"""

    @classmethod
    def of(cls, name: str, weights: str, digest: str, plan: SamplingPlan, repeat_tolerance: float = 0.0) -> FeatureSpec:
        return cls(
            backbone=name,
            weights_digest=digest,
            sampling=asdict(plan),
            transform=json.loads(json.dumps(asdict(preprocessing(name, weights)))),
            decoder=DECODER_VERSION,
            dtype="float16",
            repeat_tolerance=repeat_tolerance,
        )

    @property
    def key(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        values = asdict(self)
        if not self.repeat_tolerance:
            del values["repeat_tolerance"]  # so that features have the key that they had before there was one
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def plan(self) -> SamplingPlan:
        return SamplingPlan(**self.sampling)

    @property
    def feature_dim(self) -> int:
        return FEATURE_DIMS[self.backbone]

    @property
    def frames(self) -> dict[str, Any]:
        """What decides which frames are looked at. Features of several backbones go together where it is
        equal: frame by frame they are of the same moments."""
        return {"sampling": self.sampling, "decoder": self.decoder}

    def differences(self, other: FeatureSpec) -> str:
        """What differs, spelt out as `name: this != that`; empty where nothing does."""
        return differences(asdict(self), asdict(other))


def read_spec(features: str) -> FeatureSpec:
    """The spec of a features directory; ConfigError where it is none."""
    path = storage.join(features, IDENTITY_FILE)
    if not storage.exists(path):
        raise ConfigError(
            f"--features must be a directory that jobs/extract.py wrote, got {features!r} (no {IDENTITY_FILE})"
        )
    identity = storage.read_json(path)
    if identity.get("ensemble_id") is not None:
        raise ConfigError(f"--features must be a directory of features, {features!r} holds predictions")
    return specs_of(features, identity)[0]


def specs_of(run: str, identity: dict[str, Any]) -> list[FeatureSpec]:
    """What the rows of a run were made from, by its `run_identity.json`: one spec a backbone."""
    if "feature_specs" not in identity:
        raise ConfigError(f"{run}: was written by another version of this software; run the job anew")
    return [FeatureSpec(**spec) for spec in identity["feature_specs"]]


def read_weights_location(features: str) -> str:
    """Where the weights were when these features were made; the spec has their digest."""
    return str(storage.read_json(storage.join(features, IDENTITY_FILE))["weights"][0])
