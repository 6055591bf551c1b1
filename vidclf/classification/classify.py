"""Description of a classification for the pipeline: feature extraction with the ensemble as its last step.

With `--features` no video is decoded, and only the ensemble runs, over stored features (`from_features`). With
`--progressive` a quick round over a few keyframes decides the easy videos, and a second one the others (`progressive`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from vidclf import preflight, schema, storage
from vidclf.backbones.backbone_model import directory_name
from vidclf.classification.compatibility import fitted_embeddings, fitted_runs
from vidclf.classification.first_ensemble import FirstEnsemble
from vidclf.classification.from_features import run_over_features
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.classification.progressive import ProgressivePlan, require_first_look, run_passes
from vidclf.classification.run_drift import RunDrift
from vidclf.config import ClassifyConfig
from vidclf.ensemble import info as info_module
from vidclf.ensemble.checked import read_checked
from vidclf.ensemble.info import EnsembleInfo
from vidclf.ensemble.known_sources import caveat_of
from vidclf.features.spec import read_weights_location
from vidclf.pipeline.driver import Pipeline
from vidclf.pipeline.graph import run_pipeline
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.uncertainty import sublabel_threshold
from vidclf.uncertainty.prediction_sets import SetThresholds
from vidclf.uncertainty.risk_threshold import RiskThreshold, risk_statement, threshold_text


def classification(config: ClassifyConfig, head_directory: str | None = None) -> tuple[PipelineJob, Pipeline]:
    """The pipeline job that writes predictions into the directory `config.output`, and the function that runs it.

    Both are arguments of `embed_videos`, together with the manifest (table of the videos). `head_directory`: the place
    where workers will find the ensemble, if it is another one than `config.ensemble`.

    Raises ConfigError before any work starts if the features to classify are not those that the ensemble was fitted on:
    stored features with another feature key (digest of their settings), or a backbone, weights or decoder that would
    make other features.
    """
    preflight.check_outputs(config)
    info, trust = read_checked(config.ensemble)
    mode = info_module.mode(config.tta)
    if config.progressive and config.first_ensemble is None:
        require_first_look(info)
    first = FirstEnsemble.load(config, info, trust)
    # The cascade of two ensembles is described like one ensemble with an early look.
    cascade, trust = (first.pair.info, first.pair.trust) if first is not None else (info, trust)
    threshold_of = trust.stage_thresholds if config.progressive else trust.threshold
    risk_threshold = threshold_of(mode, config.abstain_risk, config.accept_uncertified)
    sublabels = trust.sublabel_threshold(mode, risk_threshold, config.abstain_risk, config.accept_uncertified)
    sets = trust.set_thresholds(mode, len(info.classes), config.coverage)
    fine_sets = trust.sublabel_set_thresholds(mode, info.hierarchy, config.coverage)
    settings = HeadSettings(
        tta=config.tta,
        trust_threshold=risk_threshold.threshold,
        segments_s=config.segments,
        set_thresholds=sets.lowest_C if sets is not None else None,
        sublabel_threshold=sublabels.threshold if sublabels is not None else None,
        sublabel_set_thresholds=fine_sets.lowest_N if fine_sets is not None else None,
    )
    if config.features:
        runs = fitted_runs([storage.canonical(run) for run in config.features], info)
        embeddings = [
            BackboneSetup(spec=fitted.feature_spec, weights=read_weights_location(run), state={})
            for fitted, run in zip(info.backbones, runs, strict=True)
        ]
    else:
        own = first.second_config(config) if first is not None else config
        runs, embeddings = [], fitted_embeddings(own, info)
    _print_thresholds(config.abstain_risk, info, risk_threshold, sublabels, sets)
    if fine_sets is not None:
        print(fine_sets.text(), file=sys.stderr)
    first_info = first.pair.first if first is not None else None
    conclude = RunDrift.of(cascade, trust, risk_threshold, tta=config.tta, first=first_info)
    config = replace(config, ensemble=head_directory or config.ensemble)
    decided = risk_threshold, sublabels, conclude
    target_of = partial(prediction_target, config, info, *decided)
    predictions = target_of(settings, embeddings)
    if config.progressive:
        if first is not None:
            first = replace(first, target_of=partial(prediction_target, first.config, first.pair.first, *decided))
        passes = ProgressivePlan.plan(cascade, settings, risk_threshold, predictions, target_of, first)
        print(passes.describe(), file=sys.stderr)
        return PipelineJob(targets=(passes.target,)), partial(run_passes, passes)
    if runs:
        return PipelineJob(targets=(predictions,)), partial(run_over_features, runs)
    return PipelineJob(targets=(predictions, *save_targets(config, embeddings))), run_pipeline


def over(config: ClassifyConfig, predictions: RunSpec, saved: Sequence[RunSpec]) -> tuple[PipelineJob, Pipeline]:
    """The job that fills `predictions` from stored features, or else from videos, whose features fill `saved`."""
    if config.features:
        runs = [storage.canonical(run) for run in config.features]
        return PipelineJob(targets=(predictions,)), partial(run_over_features, runs)
    return PipelineJob(targets=(predictions, *saved)), run_pipeline


def save_targets(config: ClassifyConfig, embeddings: Sequence[BackboneSetup]) -> list[RunSpec]:
    """Description of the directories of `--save-features`, one per backbone; empty without it."""
    if config.save_features is None:
        return []
    features_dir = storage.canonical(config.save_features)
    return [
        RunSpec(
            embeddings=(embedding,),
            output_schema=schema.features(embedding.spec.feature_dim),
            directory=storage.join(features_dir, directory_name(embedding.spec.backbone))
            if len(embeddings) > 1
            else features_dir,
        )
        for embedding in embeddings
    ]


def _print_thresholds(
    risk: float,
    info: EnsembleInfo,
    risk_threshold: RiskThreshold,
    sublabels: RiskThreshold | None,
    sets: SetThresholds | None,
) -> None:
    """Print on stderr, a line each, from which scores classes and sublabels are answered, and what sets hold."""
    lines = [threshold_text(risk_threshold, risk, caveat_of(info.training))]
    lines += [sublabel_threshold.text(sublabels, risk)] if sublabels is not None else []
    lines += [sets.text(info.classes)] if sets is not None else []
    print(*lines, sep="\n", file=sys.stderr)


def prediction_target(
    config: ClassifyConfig,
    info: EnsembleInfo,
    risk_threshold: RiskThreshold,
    sublabels: RiskThreshold | None,
    conclude: RunDrift,
    settings: HeadSettings,
    embeddings: Sequence[BackboneSetup],
) -> RunSpec:
    """Description of an output directory for predictions: its columns, its settings and the ensemble that fills it.

    The ensemble is the one of `info`; it classifies the features that the backbones `embeddings` make. `conclude`
    compares the finished run with calibration. `sublabels` is the threshold of the sublabels; None if the ensemble
    predicts none.
    """
    # Left out without prediction sets and sublabels, so that these settings do not differ from those of a run without
    # them. (A run whose rows have other columns is refused anyway.)
    later = ("set_thresholds", "sublabel_threshold", "sublabel_set_thresholds", "column_stage")
    own = {name: value for name, value in asdict(settings).items() if name not in later or value is not None}
    for name in ("set_thresholds", "sublabel_set_thresholds"):
        if own.get(name) is not None:
            own[name] = list(own[name])  # as JSON gives it back, for the run to be continued
    stated = {"risk": risk_statement(risk_threshold, config.abstain_risk, caveat_of(info.training))}
    if sublabels is not None:
        stated["sublabel_risk"] = risk_statement(sublabels, config.abstain_risk, caveat_of(info.training))
    if config.coverage is not None:
        stated["prediction_sets"] = {"coverage": config.coverage}
    return RunSpec(
        embeddings=tuple(embeddings),
        output_schema=schema.predictions(len(info.classes)),
        make_head=partial(EnsembleHead, storage.canonical(config.ensemble), settings, precision=config.precision),
        ensemble_id=info.ensemble_id,
        classes=tuple(info.classes),
        settings={
            **own,
            "abstain_risk": config.abstain_risk,
            "risk_basis": risk_threshold.basis,
            "sharpen_blurry": config.sharpen_blurry,
        },
        stated=stated,
        conclude=conclude,
        segments_schema=schema.segments(len(info.classes)) if config.segments is not None else None,
        sharpen_blurry=config.sharpen_blurry,
    )
