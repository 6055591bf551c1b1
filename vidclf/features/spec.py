"""Feature spec (all settings that decide the value of a feature) and feature key (a digest of the spec).

Two sets of features may be mixed only if their keys are equal. Each output directory of extract or classify stores the
spec in `run_identity.json`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from vidclf import storage
from vidclf.backbones.backbone_model import BackboneModel, catalog_model, short_name
from vidclf.backbones.catalog import FEATURE_DIMS
from vidclf.config.fields import differences
from vidclf.errors import ConfigError
from vidclf.json_text import json_text
from vidclf.runs.layout import IDENTITY_FILE, Run
from vidclf.video.decoder_version import decoder_version
from vidclf.video.sampling import SamplingPlan


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """All settings that decide the features of a video. Two sets of features may be mixed only if all settings are
    equal."""

    backbone: str
    """name of the backbone (image network), the value of `--backbone`"""
    weights_digest: str
    """digest of the backbone's weights"""
    sampling: dict[str, Any]
    """which frames are sampled: the fields of `SamplingPlan`"""
    transform: dict[str, Any]
    """preprocessing of a frame, as plain JSON values"""
    decoder: str
    """versions of the decoder's libraries, and of the rules by which decoded frames become pictures"""
    dtype: str
    """NumPy type of the stored features"""
    repeat_tolerance: float = 0.0
    """largest difference, in grey levels, between two frames that share features; 0 computes every frame"""
    network: dict[str, Any] | None = None
    """library, architecture, arguments, number of features, revision and licence of the backbone; None for a backbone
    in `vidclf/backbones/catalog.py`"""

    @classmethod
    def of(cls, name: str, weights: str, digest: str, plan: SamplingPlan, repeat_tolerance: float = 0.0) -> FeatureSpec:
        """Collect the settings of features that this machine would make with the backbone `name`, whose weights are at
        `weights` and have the digest `digest`.

        `plan` says which frames are sampled. The backbone must be one of the catalog.
        """
        return cls.of_model(catalog_model(name, weights), digest, plan, repeat_tolerance)

    @classmethod
    def of_model(
        cls, model: BackboneModel, digest: str, plan: SamplingPlan, repeat_tolerance: float = 0.0
    ) -> FeatureSpec:
        """Collect the settings of features that this machine would make with the backbone `model`, whose weights have
        the digest `digest`.

        `plan` says which frames are sampled.
        """
        return cls(
            backbone=model.name,
            weights_digest=digest,
            sampling=asdict(plan),
            transform=model.preprocessing.as_json(),
            decoder=decoder_version(),
            dtype="float16",
            repeat_tolerance=repeat_tolerance,
            network=model.network(),
        )

    def as_json(self) -> dict[str, Any]:
        """The settings as a dictionary for files. `network` is left out where it is None, as in older files."""
        values = asdict(self)
        if self.network is None:
            del values["network"]
        return values

    @property
    def key(self) -> str:
        """The feature key, a digest of all these settings: the first 16 hexadecimal digits of the SHA-256 of their
        canonical JSON.

        The directories of a backbone's files are no part of it, so that files may move, and neither is the licence."""
        values = {**self.as_json(), "backbone": short_name(self.backbone)}
        if self.network is not None:
            values["network"] = {name: value for name, value in self.network.items() if name != "licence"}
        if not self.repeat_tolerance:
            del values["repeat_tolerance"]  # left out when 0, so that keys of older features stay valid
        return hashlib.sha256(json_text(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def plan(self) -> SamplingPlan:
        """The plan by which frames were sampled."""
        return SamplingPlan(**self.sampling)

    @property
    def feature_dim(self) -> int:
        """Number of features per frame. Raises KeyError if the backbone is neither in the catalog nor described."""
        return FEATURE_DIMS[self.backbone] if self.network is None else int(self.network["feature_dim"])

    @property
    def licence(self) -> str | None:
        """Licence of the backbone's weights that their publisher states; None if none is known."""
        return None if self.network is None else self.network.get("licence")

    @property
    def frames(self) -> dict[str, Any]:
        """The settings that decide which frames are sampled: sampling plan and decoder versions.

        Features of several backbones may be combined only if these settings are equal. Frame t then shows the same
        moment.
        """
        return {"sampling": self.sampling, "decoder": self.decoder}

    def differences(self, other: FeatureSpec) -> str:
        """Text that lists the settings that differ from those of `other`, as `name: this != that`; empty if none
        differ."""
        return differences(asdict(self), asdict(other))


def read_spec(features: str) -> FeatureSpec:
    """Read the feature spec (all settings that decide the features) of an extract output. Raises ConfigError if the
    directory holds no features."""
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
    """The feature specs (settings that decide the features) in `identity`, the content of a `run_identity.json`; one
    per backbone.

    Raises ConfigError if another version of vidclf wrote the file.
    """
    if "feature_specs" not in identity:
        raise ConfigError(f"{run}: was written by another version of this software; run the job anew")
    return [FeatureSpec(**spec) for spec in identity["feature_specs"]]


def read_weights_location(features: str) -> str:
    """Location from which the backbone's weights were read when these features were made. `FeatureSpec` holds only
    their digest."""
    return str(Run(features).identity()["weights"][0])
