"""Description of a classification for the pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.ensembles import write_small_ensemble
from vidclf.backbones.catalog import LITE0
from vidclf.backbones.known_weights import digest_and_state
from vidclf.backbones.resolve import resolve
from vidclf.classification.classify import prediction_target
from vidclf.classification.head import HeadSettings
from vidclf.classification.run_drift import RunDrift
from vidclf.config import ClassifyConfig
from vidclf.ensemble import files
from vidclf.json_text import json_text

ROOT = str(Path(__file__).resolve().parents[3])


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


STARTS = {
    "classify": "from vidclf.classification.archive_job import classify_archive as start; arguments = ()",
    "extract": "from vidclf.pipeline.extract import extract as start; "
    "from vidclf.archive.manifest import list_unlabelled; arguments = (list_unlabelled('videos'),)",
}
"""How a job up to its first worker is imported, and its arguments besides its configuration, by name of the job."""


@pytest.mark.usefixtures("lite0_model")
@pytest.mark.parametrize("job", ["classify", "extract"])
def test_a_job_does_without_torch_before_its_workers(tmp_path: Path, job: str) -> None:
    """Torch takes more than a second of CPU time. The converted network is in the cache, and the weights are known."""
    digest_and_state(resolve(LITE0, "DEFAULT"))
    ensemble = write_small_ensemble(tmp_path / "ensemble", ["A", "B"], 4) if job == "classify" else None
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"not read in a dry run")
    config = {"ensemble": ensemble} if job == "classify" else {"backbone": (LITE0,), "weights": ("DEFAULT",)}
    config |= {"input": "videos"} if job == "classify" else {"manifest": "manifest.parquet"}
    code = (
        f"import sys, vidclf.config, vidclf.pipeline.graph, vidclf.pipeline.driver; {STARTS[job]}; "
        f"config = vidclf.config.{job.capitalize()}Config(output='o', dry_run=True, **{config}); "
        "print(start(config, *arguments)); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["would process 1 of 1 video into " + str(tmp_path / "o"), "None", "False"]
