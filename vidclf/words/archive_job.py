"""The `classify` job with labels from words or with a trained ensemble; `jobs/classify.py` and `vidclf.classify` call
it."""

from __future__ import annotations

import tempfile
from typing import Any

from vidclf import preflight
from vidclf.classification.archive_job import classify_archive, listed
from vidclf.classification.label_next import check_unlabelled, publish_label_next
from vidclf.config import ClassifyConfig
from vidclf.words.labels import read_labels


def classify_videos(config: ClassifyConfig) -> dict[str, dict[str, Any]] | None:
    """List the videos from one of the inputs, and classify them by words or by a trained ensemble.

    Returns the summary of each output directory by its location, or None after a dry run. Raises ConfigError before any
    work if the job must not start, and RunStopped if it ends with videos left.
    """
    if config.labels is None:
        return classify_archive(config)
    labels = read_labels(config.labels)
    preflight.check_outputs(config)
    manifest = listed(config)
    check_unlabelled(config, manifest["label"])
    # Imported here, because both import Ray and torch, which takes seconds.
    from vidclf.pipeline.driver import embed_videos
    from vidclf.words.word_job import word_classification

    with tempfile.TemporaryDirectory() as scratch:
        summaries = embed_videos(config, manifest, *word_classification(config, labels, scratch))
    publish_label_next(config, summaries)
    for summary in (summaries or {}).values():
        if "calibration_note" in summary:
            print(f"{config.output}: {summary['calibration_note']}")
    return summaries
