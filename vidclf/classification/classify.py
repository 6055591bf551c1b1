"""Bulk classification: the extraction pipeline with the ensemble as its head, or a run of features with
the head alone. [Ray Data]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from vidclf import arguments, schema, storage
from vidclf.classification.compatibility import fitted_embeddings, fitted_runs
from vidclf.classification.from_features import run_over_features
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.classification.progressive import ProgressivePlan, classify_in_passes, require_first_look
from vidclf.config import ClassifyConfig
from vidclf.ensemble import files
from vidclf.ensemble import info as info_module
from vidclf.ensemble.info import EnsembleInfo
from vidclf.features.spec import read_weights_location
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.uncertainty.risk_threshold import RiskThreshold, risk_statement, threshold_text


def classify(config: ClassifyConfig, manifest: pa.Table) -> dict[str, dict[str, Any]] | None:
    """Classify every video of `manifest` into `config.output`; as `embed_videos`, None after a dry run.

    Raises ConfigError before any work starts where the ensemble was fitted on features that this
    cluster cannot make (another backbone, other weights, another decoder), or other than those that
    are to be classified.
    """
    arguments.check_outputs(config)
    # Loading checks every member's digest and sizes here, once, rather than in each worker.
    loaded = files.load(config.ensemble, torch.device("cpu"))
    info, trust = loaded.info, loaded.trust
    mode = info_module.mode(config.tta)
    if config.progressive:
        require_first_look(info)
    threshold_of = trust.stage_thresholds if config.progressive else trust.threshold
    found = threshold_of(mode, config.abstain_risk, config.accept_uncertified)
    settings = HeadSettings(tta=config.tta, trust_threshold=found.threshold, segments_s=config.segments)
    if config.features:
        runs = fitted_runs([storage.canonical(run) for run in config.features], info)
        embeddings = [
            BackboneSetup(spec=fitted.feature_spec, weights=read_weights_location(run), state={})
            for fitted, run in zip(info.backbones, runs, strict=True)
        ]
    else:
        runs, embeddings = [], fitted_embeddings(config, info)
    print(threshold_text(found, config.abstain_risk), file=sys.stderr)
    target_of = partial(prediction_target, config, info, found)
    predictions = target_of(settings, embeddings)
    if config.progressive:
        passes = ProgressivePlan.plan(info, settings, found, predictions, target_of)
        return classify_in_passes(config, manifest, passes)
    if runs:
        pipeline = partial(run_over_features, runs)
        return embed_videos(config, manifest, PipelineJob(targets=(predictions,)), pipeline)
    targets = [predictions]
    if config.save_features is not None:
        saved = storage.canonical(config.save_features)
        targets += [
            RunSpec(
                embeddings=(embedding,),
                output_schema=schema.features(embedding.spec.feature_dim),
                directory=storage.join(saved, embedding.spec.backbone) if len(embeddings) > 1 else saved,
            )
            for embedding in embeddings
        ]
    return embed_videos(config, manifest, PipelineJob(targets=tuple(targets)))


def prediction_target(
    config: ClassifyConfig,
    info: EnsembleInfo,
    found: RiskThreshold,
    settings: HeadSettings,
    embeddings: Sequence[BackboneSetup],
) -> RunSpec:
    """A run of predictions by an ensemble, from the features of `embeddings`."""
    return RunSpec(
        embeddings=tuple(embeddings),
        output_schema=schema.predictions(len(info.classes)),
        make_head=partial(EnsembleHead, storage.canonical(config.ensemble), settings, precision=config.precision),
        ensemble_id=info.ensemble_id,
        classes=tuple(info.classes),
        settings={
            **asdict(settings),
            "abstain_risk": config.abstain_risk,
            "risk_basis": found.basis,
            "sharpen_blurry": config.sharpen_blurry,
        },
        stated={"risk": risk_statement(found, config.abstain_risk)},
        segments_schema=schema.segments(len(info.classes)) if config.segments is not None else None,
        sharpen_blurry=config.sharpen_blurry,
    )
