"""Features of the videos of a classification, found by the location in the run's own record."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.predictions import SPEC, manifest
from vidclf import storage
from vidclf.features.columns import features_column
from vidclf.reports.stated_locations import stated_means
from vidclf.runs.layout import Run


def write_features(directory: Path) -> None:
    """Features of two videos with two frames each."""
    features = [np.full((2, 3), value, np.float16) + np.array([[0], [1]], np.float16) for value in (0.0, 2.0)]
    table = pa.table({"video_id": ["1", "2"], "features": features_column(features, 3)})
    storage.publish_table(str(directory / "part-0.parquet"), table)
    storage.publish_json(Run(str(directory)).identity_file, {"feature_specs": [asdict(SPEC)]})
    storage.publish_table(Run(str(directory)).manifest_file, manifest({"1": ("A", "test"), "2": ("A", "test")}))


@pytest.mark.parametrize(
    ("stated", "place"),
    [
        ("features: [{}/other, {}/features]", "features"),
        ("save_features: {}/features", "features"),
        ("save_features: {}/features", "features/efficientnet_lite0"),
    ],
)
def test_features_that_a_classification_read_or_kept_are_found(tmp_path: Path, stated: str, place: str) -> None:
    write_features(tmp_path / place)
    storage.publish_bytes(str(tmp_path / "run/run_config.yaml"), stated.format(tmp_path, tmp_path).encode())
    means_of = stated_means(str(tmp_path / "run"), SPEC.key)
    assert means_of is not None
    ids, means_ND = means_of(["2", "unknown"])
    assert (ids, means_ND.tolist()) == (["2"], [[2.5, 2.5, 2.5]])
    # Features of another kind are not comparable.
    assert stated_means(str(tmp_path / "run"), "other key") is None


@pytest.mark.parametrize(
    "stated", ["features: []\nsave_features: null", "save_features: /none", "save_features: s3://***@b/f"]
)
def test_without_features_there_are_no_means(tmp_path: Path, stated: str) -> None:
    assert stated_means(str(tmp_path), SPEC.key) is None
    (tmp_path / "run_config.yaml").write_text(stated)
    assert stated_means(str(tmp_path), SPEC.key) is None
