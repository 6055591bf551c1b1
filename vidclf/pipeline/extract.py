"""The `extract` job: computes the features of every video of a manifest (table of videos)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from vidclf import preflight, schema
from vidclf.backbones import int8_weights
from vidclf.backbones.backbone_model import directory_name
from vidclf.backbones.known_weights import digest_and_state
from vidclf.backbones.resolve import resolve
from vidclf.config import ExtractConfig
from vidclf.errors import ConfigError
from vidclf.features import hdf5
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.video.sampling import SamplingPlan


def check_directories(backbones: Sequence[str]) -> None:
    """Raise ConfigError if the features of two of these backbones would get the same directory."""
    directories = [directory_name(name) for name in backbones]
    for name, directory in zip(backbones, directories, strict=True):
        if directories.count(directory) > 1:
            raise ConfigError(
                f"--backbone {','.join(backbones)}: two of them would write to the directory {directory}; give {name} "
                "in a job of its own, or rename its file"
            )


def extract(config: ExtractConfig, manifest: pa.Table) -> dict[str, dict[str, Any]] | None:
    """Compute the features of every video of `manifest` and write them to `config.output`.

    Returns the summary of each run (output directory) by its location, or None after a dry run. Raises ConfigError
    before any work starts, also for weights that cannot be read.
    """
    preflight.check_outputs(config)
    if config.format == "hdf5":
        hdf5.check_exportable(manifest)
    check_directories(config.backbone)
    plan = SamplingPlan.of(config)
    weights = config.weights * len(config.backbone) if len(config.weights) == 1 else config.weights
    targets = []
    for name, location in zip(config.backbone, weights, strict=True):
        model = resolve(name, location)
        digest, state = digest_and_state(model)
        int8_weights.check_precision(state, location, config.precision)
        spec = FeatureSpec.of_model(model, digest, plan, config.repeat_tolerance)
        directory = directory_name(name) if len(config.backbone) > 1 else ""
        setup = BackboneSetup(spec=spec, weights=location, state=state, model=model)
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
