"""Videos whose features are not finite."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vidclf import schema
from vidclf.pipeline.embed_stage import EmbedVideos
from vidclf.pipeline.embedder import BackboneEmbedder
from vidclf.pipeline.sink import target_column, written_columns

TEXT = pa.string()


def embedder(features_TD: np.ndarray) -> BackboneEmbedder:
    """An embedder whose network returns `features_TD` for frames of one pixel."""
    cnn = BackboneEmbedder.__new__(BackboneEmbedder)
    cnn._spec = SimpleNamespace(backbone="net", feature_dim=2, repeat_tolerance=0.0)  # type: ignore[assignment]
    cnn._cnn = lambda frames_THWC, lengths, tolerance: features_TD  # type: ignore[assignment]
    cnn._frames_column, cnn._side, cnn._num_frames, cnn._not_finite = "view_0", 1, 0, {}
    return cnn


def decoded(ids: list[str]) -> pa.Table:
    """Decoded videos of two frames each."""
    frames = pa.array([[b"123"] * 2] * len(ids), pa.list_(pa.binary(3)))
    columns = {"video_id": ids, **dict.fromkeys(schema.CARRIED, ids), "num_frames": [2] * len(ids)}
    nulls = {name: pa.nulls(len(ids), TEXT) for name in ("reject_reason", "reject_message")}
    return pa.table({**columns, "view_0": pa.StructArray.from_arrays([frames], ["frames"]), **nulls})


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_a_video_with_a_value_that_is_not_finite_is_rejected_and_the_others_are_kept(
    value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    cnn = embedder(np.array([[1, 2], [3, 4], [5, 6], [value, 8], [9, 10], [11, 12]], np.float32))
    counts: dict[str, Any] = {}
    stage = EmbedVideos.__new__(EmbedVideos)
    stage._cnns, stage._logs_events = {"key": cnn}, True
    stage._tally = SimpleNamespace(add=SimpleNamespace(remote=counts.update))
    stage._columns = written_columns([pa.schema([("first", pa.float32())])])
    stage.rows = lambda ok: [  # type: ignore[method-assign]
        pa.table({"first": pa.array([float(rows[0, 0]) for rows in cnn.features(ok)], pa.float32())})
    ]
    rows = stage._embed_batch(decoded(["a", "b", "c"])).to_pylist()
    assert [(row["video_id"], row[target_column(0)], row["reject_reason"]) for row in rows] == [
        ("a", {"first": 1.0}, None),
        ("c", {"first": 9.0}, None),
        ("b", None, "features_not_finite"),
    ]
    assert rows[2]["reject_message"] == "net gives values that are not finite for 1 of 2 frames"
    assert (counts["done"], counts["ok"], counts["rejected:features_not_finite"]) == (3, 2, 1)
    assert cnn.take_not_finite() == {}
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["video_id"]: event["outcome"] for event in events} == {
        "a": "ok",
        "c": "ok",
        "b": "features_not_finite",
    }
