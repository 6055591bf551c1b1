"""Evaluation of stored features on a GPU: what is refused before the first write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.ensembles import write_small_ensemble
from tests.unit.features.test_hdf5 import write_reference_file
from vidclf import preflight, ray_cluster
from vidclf.config import EvaluateConfig
from vidclf.errors import ConfigError
from vidclf.ray_cluster import ClusterResources
from vidclf.reports import evaluate


def test_a_share_of_a_gpu_that_no_machine_has_is_refused_before_the_first_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reference_file(tmp_path / "test.h5", features=np.zeros((2, 3, 1280), np.float32))
    config = EvaluateConfig(
        features=(f"{tmp_path}/test.h5",),
        ensemble=write_small_ensemble(tmp_path / "ensemble", ["Animation", "Gaming"], num_frames=3),
        output=f"{tmp_path}/report",
        gpus=0.25,
    )
    monkeypatch.setattr(ray_cluster, "connect", lambda: ClusterResources(num_cpus=2, num_gpus=0))
    with pytest.raises(ConfigError, match=r"--gpus must be 0 on a cluster without GPUs, got 0\.25"):
        evaluate.evaluate(config)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("gpus", "dry_run", "expected"), [(0.0, False, False), (0.25, False, True), (0.25, True, False)]
)
def test_only_a_gpu_needs_ray(gpus: float, dry_run: bool, expected: bool) -> None:
    config = EvaluateConfig(features=("f.h5",), ensemble="e", output="o", gpus=gpus, dry_run=dry_run)
    assert preflight.needs_ray(config) is expected
