"""Description of a classification by words for the pipeline.

Without `--calibrate-with`, the similarities of frames and descriptions are the predictions, uncalibrated. With it, an
ensemble of these similarities is written into the output, and classifies like a trained one.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from vidclf import schema, storage
from vidclf.backbones import int8_weights
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import read_weights, weights_digest
from vidclf.classification.classify import classification, over, save_targets
from vidclf.config import ClassifyConfig, PipelineConfig
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.json_text import json_text
from vidclf.pipeline.driver import Pipeline
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.runs.state import RunState, check_finished
from vidclf.runs.summary import Performance
from vidclf.video.sampling import SamplingPlan
from vidclf.words.calibration import calibrated_ensemble
from vidclf.words.head import WordHead
from vidclf.words.labels import Labels, described
from vidclf.words.text_embeddings import WordEmbeddings, embed_labels

ENSEMBLE_DIR = "ensemble"
"""Directory of the calibrated ensemble in the output."""

DEFAULT_FRAMES = 16
"""Frames per video without `--num-frames` and without stored features."""

UNCALIBRATED = (
    "confidence is not calibrated: it compares the labels of --labels with each other and says little about being "
    "right, and every video gets a label; --calibrate-with FEATURES of some labelled videos calibrates it"
)
"""Sentence for the log, the summary and the report."""


def word_classification(config: ClassifyConfig, labels: Labels, scratch: str) -> tuple[PipelineJob, Pipeline]:
    """The pipeline job, and the function that runs it. `scratch`: a directory for the calibrated ensemble."""
    setup = _image_tower(config)
    assert setup.model is not None
    words = embed_labels(setup.model, labels)
    if config.calibrate_with is not None:
        return _calibrated(config, labels, words, setup, scratch)
    settings = {
        "labels": described(labels),
        "texts_digest": hashlib.sha256(words.texts_CD.tobytes()).hexdigest(),
        "logit_scale": words.logit_scale,
        "calibrated": False,
    }
    digest = hashlib.sha256(json_text([setup.spec.key, settings], sort_keys=True).encode()).hexdigest()
    ensemble_id = f"words-{digest[:16]}"
    predictions = RunSpec(
        embeddings=(setup,),
        output_schema=schema.uncalibrated_predictions(len(labels)),
        make_head=partial(WordHead, words, tuple(labels), ensemble_id),
        ensemble_id=ensemble_id,
        classes=tuple(labels),
        settings=settings,
        stated={"calibrated": False, "calibration_note": UNCALIBRATED},
    )
    print(UNCALIBRATED, file=sys.stderr)
    return over(config, predictions, save_targets(config, [setup]))


def _calibrated(
    config: ClassifyConfig, labels: Labels, words: WordEmbeddings, setup: BackboneSetup, scratch: str
) -> tuple[PipelineJob, Pipeline]:
    """The job with an ensemble that is calibrated here, and written into the output when the pipeline begins."""
    assert config.calibrate_with is not None
    assert setup.model is not None
    name = setup.spec.backbone
    info = calibrated_ensemble(scratch, config.calibrate_with, labels, words, setup.spec, setup.weights)
    num_videos = info.calibration.num_videos
    print(
        f"calibrated on {info.training['num_train_videos'] + num_videos} labelled videos of {config.calibrate_with}: "
        f"{info.training['val_accuracy']:.3f} of {num_videos} videos right, temperature "
        f"{info.calibration.temperature:.2f}, ECE {info.calibration.ece_before:.3f} before and "
        f"{info.calibration.ece_after:.3f} after",
        file=sys.stderr,
    )
    ensemble = storage.join(storage.canonical(config.output), ENSEMBLE_DIR)
    inner = replace(
        config,
        labels=None,
        calibrate_with=None,
        num_frames=None,
        ensemble=scratch,
        backbone=(name,),
        weights=(setup.weights,),
    )
    job, pipeline = classification(inner, head_directory=ensemble)
    return job, partial(_published_first, _contents(scratch), ensemble, pipeline)


def _contents(directory: str) -> dict[str, bytes]:
    """The files of an ensemble by name; `ensemble.json`, which marks it as complete, comes last."""
    paths = {path.rsplit("/", 1)[-1]: path for path in storage.list_files(directory)}
    return {name: storage.read_bytes(paths[name]) for name in sorted(paths, key=lambda name: name == "ensemble.json")}


def _published_first(
    contents: dict[str, bytes],
    ensemble: str,
    pipeline: Pipeline,
    config: PipelineConfig,
    job: PipelineJob,
    before: RunState,
) -> Performance:
    """Write the ensemble into the output, where all workers read it, then run the pipeline."""
    for name, content in contents.items():
        storage.publish_bytes(storage.join(ensemble, name), content)
    return pipeline(config, job, before)


def _image_tower(config: ClassifyConfig) -> BackboneSetup:
    """The image tower of `--backbone` with its weights, and the features that it computes.

    Frames are sampled as for the stored features of `--features` or `--calibrate-with`, else by `--num-frames`.
    """
    (name,), weights = config.backbone, config.weights[0] if config.weights else "DEFAULT"
    model = resolve(name, weights)
    state = read_weights(model)
    int8_weights.check_precision(state, weights, config.precision)
    stored = _stored_spec(config)
    plan = SamplingPlan(num_frames=config.num_frames or DEFAULT_FRAMES) if stored is None else stored.plan
    tolerance = 0.0 if stored is None else stored.repeat_tolerance
    spec = FeatureSpec.of_model(model, weights_digest(state), plan, tolerance)
    if config.features:
        (location,) = config.features
        if stored is None or stored.key != spec.key:
            difference = "" if stored is None else stored.differences(spec)
            raise ConfigError(
                f"--features {location}: must be of --backbone {name} and its weights, differ in {difference}; give "
                "the backbone with which they were extracted"
            )
        check_finished(location, "--features", "jobs/extract.py")
    return BackboneSetup(spec=spec, weights=weights, state=state, model=model)


def _stored_spec(config: ClassifyConfig) -> FeatureSpec | None:
    """The specification of the stored features that the job reads; None if it reads none."""
    locations: Sequence[str] = config.features or ([config.calibrate_with] if config.calibrate_with else [])
    return read_spec(locations[0]) if locations else None
