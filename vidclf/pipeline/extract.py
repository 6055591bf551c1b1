"""The `extract` job: computes the features of every video of a manifest (table of videos)."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa

from vidclf import preflight, schema
from vidclf.backbones import int8_weights
from vidclf.backbones.weights import load_weights, weights_digest
from vidclf.config import ExtractConfig
from vidclf.features import hdf5
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.video.sampling import SamplingPlan


def extract(config: ExtractConfig, manifest: pa.Table) -> dict[str, dict[str, Any]] | None:
    """Compute the features of every video of `manifest` and write them to `config.output`.

    Returns the summary of each run (output directory) by its location, or None after a dry run. Raises ConfigError
    before any work starts, also for weights that cannot be read.
    """
    preflight.check_outputs(config)
    if config.format == "hdf5":
        hdf5.check_exportable(manifest)
    plan = SamplingPlan.of(config)
    weights = config.weights * len(config.backbone) if len(config.weights) == 1 else config.weights
    targets = []
    for name, location in zip(config.backbone, weights, strict=True):
        state = load_weights(name, location)
        int8_weights.check_precision(state, location, config.precision)
        spec = FeatureSpec.of(name, location, weights_digest(state), plan, config.repeat_tolerance)
        directory = name if len(config.backbone) > 1 else ""
        setup = BackboneSetup(spec=spec, weights=location, state=state)
        output_schema = schema.features(spec.feature_dim)
        targets.append(RunSpec(name=directory, embeddings=(setup,), output_schema=output_schema))
    summaries = embed_videos(config, manifest, PipelineJob(targets=tuple(targets)))
    if summaries is not None and config.format == "hdf5":
        for run in summaries:
            hdf5.export(run)
    elif summaries is not None:
        for stale in (location for run in summaries for location in hdf5.stale_exports(run)):
            print(f"{stale}: is of an earlier state of this run; --format hdf5 exports it again", file=sys.stderr)
    return summaries
