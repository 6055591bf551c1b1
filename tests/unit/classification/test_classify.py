"""Description of a classification for the pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.support.ensembles import write_small_ensemble
from vidclf.classification.classify import prediction_target
from vidclf.classification.head import HeadSettings
from vidclf.classification.run_drift import RunDrift
from vidclf.config import ClassifyConfig
from vidclf.ensemble import files
from vidclf.json_text import json_text


def test_the_identity_of_a_run_is_equal_after_it_was_written(tmp_path: Path) -> None:
    """Else a job with --coverage that is submitted again would be refused."""
    location = write_small_ensemble(tmp_path, ["A", "B"], 4, is_tiny=True)
    loaded = files.load(location, torch.device("cpu"))
    threshold = loaded.trust.threshold("plain", 0.05, accept_uncertified=False)
    config = ClassifyConfig(input="i", ensemble=location, output="o", coverage=0.9)
    settings = HeadSettings(tta=False, trust_threshold=0.5, segments_s=None, set_thresholds=(0.25, 0.5))
    conclude = RunDrift.of(loaded.info, loaded.trust, threshold, tta=False)
    target = prediction_target(config, loaded.info, threshold, None, conclude, settings, [])
    assert target.settings["set_thresholds"] == [0.25, 0.5]
    assert json.loads(json_text(target.settings)) == target.settings
