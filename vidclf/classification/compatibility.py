"""Checks that features, weights and first looks fit an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vidclf import credentials
from vidclf.backbones import int8_weights
from vidclf.backbones.weights import load_weights, weights_digest
from vidclf.config import ClassifyConfig, ServeConfig
from vidclf.ensemble.info import EnsembleInfo
from vidclf.errors import ConfigError
from vidclf.features import matching
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.pipeline.job import BackboneSetup
from vidclf.runs.state import read_state, refuse_repeated, rows_of
from vidclf.schema import VIDEO_ID, Look


def fitted_embeddings(config: ClassifyConfig | ServeConfig, info: EnsembleInfo) -> list[BackboneSetup]:
    """The ensemble's backbones with their weights, refused unless the features would be the fitted ones."""
    names = info.backbone_names
    if config.backbone and list(config.backbone) != names:
        raise ConfigError(
            f"--backbone must be {','.join(names)}, which the ensemble was fitted on, got {','.join(config.backbone)!r}"
        )
    if len(config.weights) not in (0, len(names)):
        raise ConfigError(
            f"--weights must be one for each of the ensemble's backbones ({', '.join(names)}), "
            f"got {','.join(config.weights)!r}"
        )
    found = []
    locations = config.weights or tuple(fitted.weights for fitted in info.backbones)
    for fitted, weights in zip(info.backbones, locations, strict=True):
        if credentials.is_masked(weights):
            raise ConfigError(
                f"--weights must be given: the ensemble's were at {weights}, whose credentials are not kept; give a "
                "location without any, and credentials by the environment"
            )
        spec, state = fitted.feature_spec, load_weights(fitted.name, weights)
        int8_weights.check_precision(state, weights, config.precision)
        ours = FeatureSpec.of(fitted.name, weights, weights_digest(state), spec.plan, spec.repeat_tolerance)
        if ours.key != spec.key:
            raise ConfigError(
                f"--ensemble {config.ensemble}: was fitted on features of key {spec.key}, this cluster makes "
                f"{ours.key} ({spec.differences(ours)}); give --weights, match the versions, or train again"
            )
        found.append(BackboneSetup(spec=spec, weights=weights, state=state))
    return found


def fitted_runs(locations: Sequence[str], info: EnsembleInfo) -> list[str]:
    """The directories of features in the order of the ensemble's backbones.

    Raises ConfigError unless there is a finished one for each, made as those that the members were
    fitted on, all of the same videos.
    """
    names = info.backbone_names
    specs = [read_spec(location) for location in locations]
    if sorted(spec.backbone for spec in specs) != sorted(names):
        raise ConfigError(
            f"--features {','.join(locations)}: must be a directory for each backbone that the ensemble was fitted on "
            f"({', '.join(names)}), are of {', '.join(spec.backbone for spec in specs)}"
        )
    run_of = {spec.backbone: (location, spec) for location, spec in zip(locations, specs, strict=True)}
    for fitted in info.backbones:
        location, spec = run_of[fitted.name]
        if spec.key != fitted.feature_spec.key:
            raise ConfigError(
                f"--features {location}: have key {spec.key}, the ensemble was fitted on {fitted.feature_spec.key} "
                f"({fitted.feature_spec.differences(spec)}); classify other features, or train again"
            )
        state = read_state(location)
        if state.num_pending:
            raise ConfigError(
                f"--features {location}: {state.num_pending} videos are pending; run jobs/extract.py again"
            )
        refuse_repeated(location, "--features")
    runs = [run_of[name][0] for name in names]
    if len(runs) > 1:
        told = [VIDEO_ID, "content_digest", "num_frames"]
        matching.check_videos(runs, [rows_of(run, told) for run in runs])
    return runs


def first_embeddings(info: EnsembleInfo, embeddings: Sequence[BackboneSetup]) -> list[BackboneSetup]:
    """The ensemble's backbones on the frames of the first look; ConfigError unless that was fitted on what this
    cluster makes."""
    found = []
    for embedding, spec in zip(embeddings, info.stages[Look.KEYFRAMES].feature_specs, strict=True):
        ours = replace(embedding.spec, sampling=spec.sampling)
        if ours != spec:
            raise ConfigError(
                f"--ensemble: its first look was fitted on features of key {spec.key}, this cluster makes {ours.key} "
                f"({spec.differences(ours)}); run jobs/train.py again with features of today"
            )
        found.append(replace(embedding, spec=spec))
    return found
