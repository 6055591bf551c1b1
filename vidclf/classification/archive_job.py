"""The `classify` job with a trained ensemble as a whole: lists the videos of its input and classifies them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vidclf.archive.manifest import list_unlabelled, read_manifest
from vidclf.classification.label_next import check_unlabelled, publish_label_next
from vidclf.config import ClassifyConfig
from vidclf.features.spec import read_spec
from vidclf.runs.layout import Run
from vidclf.runs.lease import Output


def classify_archive(config: ClassifyConfig) -> dict[str, dict[str, Any]] | None:
    """List the videos from one of the three inputs, and classify them.

    Returns the summary of each output directory by its location, or None after a dry run. Raises ConfigError before any
    work if the job must not start, and RunStopped if it ends with videos left.
    """
    manifest = listed(config)
    check_unlabelled(config, manifest["label"])
    # Imported here, because both import Ray and the first also torch, which takes seconds.
    from vidclf.classification.classify import classification
    from vidclf.pipeline.driver import embed_videos

    summaries = embed_videos(config, manifest, *classification(config))
    publish_label_next(config, summaries)
    return summaries


def written(config: ClassifyConfig) -> list[Output]:
    """Directories that the job writes. It holds a lease on each: a claim that keeps other jobs from writing there."""
    outputs = [Output(location=config.output)]
    if config.save_features is not None:
        outputs.append(Output(location=config.save_features, flag="--save-features"))
    return outputs


def listed(config: ClassifyConfig) -> pa.Table:
    """The manifest (table of the videos) of the input that `config` names."""
    if config.features:
        read_spec(config.features[0])  # raises ConfigError unless it is a directory of features
        return read_manifest(Run(config.features[0]).manifest_file)
    if config.manifest is not None:
        return read_manifest(config.manifest)
    assert config.input is not None  # ClassifyConfig requires one of the three
    return list_unlabelled(config.input)
