"""Columns that the CNN stage computes for a run, as opposed to those that rows carry from the manifest."""

from __future__ import annotations

from vidclf import schema
from vidclf.pipeline.job import RunSpec


def test_a_run_of_features_carries_the_columns_of_the_manifest() -> None:
    run = RunSpec(embeddings=(), output_schema=schema.features(4))
    assert run.row_schema == schema.embedded(4)
    carried = [name for name in run.output_schema.names if name not in run.row_schema.names]
    assert carried == ["video_uri", "label", "sublabel", "group", "split"]


def test_the_label_of_a_prediction_is_computed_and_its_location_is_carried() -> None:
    run = RunSpec(embeddings=(), output_schema=schema.predictions(2), classes=("A", "B"))
    assert run.row_schema.names[:3] == ["video_id", "label", "verdict"]
    assert set(run.output_schema.names) - set(run.row_schema.names) == {"video_uri"}
    # So is the sublabel: never that of the manifest.
    assert "sublabel" in run.row_schema.names


def test_segments_are_a_computed_column() -> None:
    run = RunSpec(
        embeddings=(), output_schema=schema.predictions(2), classes=("A", "B"), segments_schema=schema.segments(2)
    )
    assert run.row_schema.names[-1] == "segments"
