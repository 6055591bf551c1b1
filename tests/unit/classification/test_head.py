"""The columns that the ensemble adds to a video's features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.ensembles import write_small_ensemble
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.ensemble import calibration_file
from vidclf.ensemble.info import read_info
from vidclf.errors import ConfigError
from vidclf.features.columns import features_column


def test_prediction_sets_hold_the_classes_above_their_thresholds(tmp_path: Path) -> None:
    directory = write_small_ensemble(tmp_path, ["A", "B", "C"], num_frames=4, is_tiny=True)
    info = read_info(directory)
    generator = np.random.default_rng(0)
    dim = info.backbones[0].feature_dim
    rows = [generator.normal(size=(4, dim)).astype(np.float16) for _ in range(3)]
    features = pa.table({"features": features_column(rows, dim)})

    def sets(*lowest: float) -> list[list[str] | None]:
        settings = HeadSettings(tta=False, trust_threshold=0.0, segments_s=None, set_thresholds=lowest or None)
        found = EnsembleHead(directory, settings, "cpu", precision="fp32")([features])
        names: list[list[str] | None] = found["prediction_set"].to_pylist()
        tops = found["top_label"].to_pylist()
        assert all(one is None or one[0] == top for one, top in zip(names, tops, strict=True))
        return names

    assert sets() == [None] * 3
    assert [sorted(one or []) for one in sets(0.0, 0.0, 0.0)] == [["A", "B", "C"]] * 3
    assert [len(one or []) for one in sets(1.0, 1.0, 1.0)] == [1] * 3
    assert all("B" in (one or []) for one in sets(1.0, 0.0, 1.0))
    # The ensemble is like one of an earlier version, without the probabilities of the true classes.
    trust = calibration_file.read_trust(directory, info)
    assert trust.set_thresholds("plain", 3, None) is None
    with pytest.raises(ConfigError, match="--coverage needs an ensemble that this version has calibrated; run jobs/tr"):
        trust.set_thresholds("plain", 3, 0.95)
