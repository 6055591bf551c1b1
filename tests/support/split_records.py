"""Records of an ensemble's splits written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.support.predictions import SPEC
from vidclf import schema, storage
from vidclf.ensemble import split_record
from vidclf.ensemble.split_record import SplitRecord

COSINE = 0.95


def recorded(video: str, split: str, **values: Any) -> dict[str, Any]:
    """A row of `schema.SPLIT_TABLE`: a video of its own source and content, unlike all others."""
    row = {"video_id": video, "video_uri": f"/none/{video}", "label": "A", "split": split, "cluster": None}
    own = {"source": f"source of {video}", "content_digest": f"digest of {video}", "mean_features": [0.0, 0.0]}
    return {**row, **own, "group": values.get("group", values.get("source", own["source"])), **values}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([*rows], schema.SPLIT_TABLE)


def record(*rows: dict[str, Any], doubt: str = "") -> SplitRecord:
    return SplitRecord.of(table(*rows), COSINE, SPEC.key, doubt)


def write_ensemble(directory: Path, *rows: dict[str, Any], **values: Any) -> str:
    """The files of an ensemble that a record of splits needs; `values` replace those of `ensemble.json`."""
    split_record.write(str(directory), table(*rows))
    splits = split_record.describe(str(directory), COSINE)
    content = {
        "ensemble_id": "e0",
        "backbones": [{"feature_spec": vars(SPEC)}],
        "members": [{"file": "member_0.safetensors"}],
        "splits": vars(splits),
        **values,
    }
    storage.publish_json(str(directory / "ensemble.json"), content)
    return str(directory)


def unit(angle: float) -> list[float]:
    """Two features on a circle around the origin, at an angle in degrees."""
    return [float(np.cos(np.radians(angle))), float(np.sin(np.radians(angle)))]
