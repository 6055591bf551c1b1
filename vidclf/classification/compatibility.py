"""Checks that the features of a job, new or stored, are the ones that the ensemble was fitted on.

Each function raises ConfigError if the features do not fit. Otherwise it returns the backbones or the directories of
features, sorted like the ensemble's backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vidclf import credentials
from vidclf.backbones import int8_weights
from vidclf.backbones.backbone_model import short_name
from vidclf.backbones.known_weights import digest_and_state
from vidclf.backbones.resolve import resolve
from vidclf.config import ClassifyConfig, PredictConfig, ServeConfig
from vidclf.ensemble.info import EnsembleInfo
from vidclf.errors import ConfigError
from vidclf.features import matching
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.pipeline.job import BackboneSetup
from vidclf.runs.state import check_finished, rows_of
from vidclf.schema import VIDEO_ID, Look


def fitted_embeddings(
    config: ClassifyConfig | PredictConfig | ServeConfig, info: EnsembleInfo, flag: str = "--ensemble"
) -> list[BackboneSetup]:
    """List of the ensemble's backbones with their weights loaded, sorted as in the ensemble.

    Weights come from `config.weights`, else from the locations that the ensemble recorded. `flag` names the ensemble.

    Raises ConfigError if the features would have another feature key (digest of decoder, sampling, backbone and
    weights) than those that the ensemble was fitted on.
    """
    names = info.backbone_names
    given = config.backbone or tuple(names)
    if [short_name(name) for name in given] != [short_name(name) for name in names]:
        raise ConfigError(
            f"--backbone must be {','.join(names)}, as for the ensemble's training, got {','.join(config.backbone)!r}"
        )
    if len(config.weights) not in (0, len(names)):
        raise ConfigError(
            f"--weights must name one location per backbone of the ensemble ({', '.join(names)}), "
            f"got {','.join(config.weights)!r}"
        )
    setups = []
    locations = config.weights or tuple(fitted.weights for fitted in info.backbones)
    for fitted, name, weights in zip(info.backbones, given, locations, strict=True):
        if credentials.is_masked(weights):
            raise ConfigError(
                f"--weights must be given: the ensemble's weights were at {weights}, and credentials are not stored; "
                "give a location without credentials, and put the credentials into the environment"
            )
        spec, model = fitted.feature_spec, resolve(name, weights)
        digest, state = digest_and_state(model)
        int8_weights.check_precision(state, weights, config.precision)
        job_spec = FeatureSpec.of_model(model, digest, spec.plan, spec.repeat_tolerance)
        if job_spec.key != spec.key:
            raise ConfigError(
                f"{flag} {config.ensemble}: was fitted on features of key {spec.key}, this cluster makes "
                f"{job_spec.key} ({spec.differences(job_spec)}); give --weights, match the versions, or train again"
            )
        setups.append(BackboneSetup(spec=spec, weights=weights, state=state, model=model))
    return setups


def fitted_runs(locations: Sequence[str], info: EnsembleInfo) -> list[str]:
    """The directories of stored features at `locations`, sorted like the ensemble's backbones.

    Raises ConfigError unless there is one finished directory per backbone, all hold the same videos, and each has the
    feature key (digest of the features' settings) that the ensemble members were fitted on.
    """
    names = [short_name(name) for name in info.backbone_names]
    specs = [read_spec(location) for location in locations]
    if sorted(short_name(spec.backbone) for spec in specs) != sorted(names):
        raise ConfigError(
            f"--features {','.join(locations)}: must name one directory per backbone of the ensemble "
            f"({', '.join(names)}), got features of {', '.join(spec.backbone for spec in specs)}"
        )
    run_of = {short_name(spec.backbone): (location, spec) for location, spec in zip(locations, specs, strict=True)}
    for fitted in info.backbones:
        location, spec = run_of[short_name(fitted.name)]
        if spec.key != fitted.feature_spec.key:
            raise ConfigError(
                f"--features {location}: have key {spec.key}, the ensemble was fitted on {fitted.feature_spec.key} "
                f"({fitted.feature_spec.differences(spec)}); classify other features, or train again"
            )
        check_finished(location, "--features", "jobs/extract.py")
    runs = [run_of[name][0] for name in names]
    if len(runs) > 1:
        compared = ["content_digest", "num_frames"]
        matching.check_videos(runs, [rows_of(run, [VIDEO_ID, "video_uri", *compared]) for run in runs], compared)
    return runs


def first_embeddings(info: EnsembleInfo, embeddings: Sequence[BackboneSetup]) -> list[BackboneSetup]:
    """The backbones `embeddings`, changed to sample the few keyframes per video that the ensemble was fitted on.

    Raises ConfigError if the ensemble was fitted on keyframe features that this cluster cannot make.
    """
    setups = []
    for embedding, spec in zip(embeddings, info.stages[Look.KEYFRAMES].feature_specs, strict=True):
        job_spec = replace(embedding.spec, sampling=spec.sampling)
        if job_spec.key != spec.key:
            raise ConfigError(
                f"--ensemble: its first look was fitted on features of key {spec.key}, this cluster makes "
                f"{job_spec.key} ({spec.differences(job_spec)}); extract the keyframes and train again"
            )
        setups.append(replace(embedding, spec=spec))
    return setups
