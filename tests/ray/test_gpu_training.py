"""Training on GPUs: scheduling on a cluster with a simulated GPU, and results on a real one (`-m gpu`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import training_job
from vidclf import torch_gpu
from vidclf.config import FitConfig
from vidclf.ensemble import files, info
from vidclf.training.dataset import training_data
from vidclf.training.gpu_memory import Placement
from vidclf.training.member_fit import MemberFit, fit_member

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def small() -> FitConfig:
    return replace(training_job.config("unused"), epochs=2, batch_size=24)


@pytest.mark.system
def test_train_and_tune_run_on_a_cluster_that_counts_a_gpu(tmp_path: Path) -> None:
    job = subprocess.run(
        [sys.executable, "-m", "tests.support.made_up_gpu_training", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "VIDCLF_GPU_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "GPU-made-up", "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert job.returncode == 0, job.stderr
    # No state is left, and the members are equal to members trained in one process.
    assert list(tmp_path.glob("ensemble/_state/*")) == []
    trained = files.load(str(tmp_path / "ensemble"), CPU)
    assert [member.precision for member in trained.info.members] == ["fp32", "fp32"]
    alone = fit_member(training_data(training_job.features()), small(), training_job.SEED, CPU)
    assert all(torch.equal(trained._members[0].state_dict()[key], value) for key, value in alone.state.items())
    summary = json.loads((tmp_path / "tune" / "summary.json").read_text())
    assert (summary["statuses"], summary["num_epochs"]) == ({"finished": 2}, 4)
    trial_ensemble = files.load(str(tmp_path / "tune" / "ensemble"), CPU)
    assert len(trial_ensemble.info.members) == 2
    assert trial_ensemble([training_job.features().features[:3]]).probabilities_BC.shape == (3, 3)


def gpu_fit(**values: Any) -> MemberFit:
    placement = Placement(**values)
    return MemberFit(
        training_data(training_job.features()), small(), 0, torch.device("cuda", torch.cuda.current_device()), placement
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    "values", [{}, {"features_on_device": False}, {"features_on_device": False, "parts_per_batch": 3}]
)
def test_a_member_trains_wherever_its_features_are(values: dict[str, Any]) -> None:
    torch_gpu.take_share(1.0)
    whole, placed = gpu_fit(), gpu_fit(**values)
    assert placed.run_epoch().train_loss == pytest.approx(whole.run_epoch().train_loss, abs=0.05)


@pytest.mark.gpu
def test_no_step_waits_for_the_gpu() -> None:
    torch_gpu.take_share(1.0)
    fit = gpu_fit(features_on_device=False)
    fit.run_epoch()
    try:
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            fit._train_epoch(torch.Generator().manual_seed(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # The only two: the mean loss and the confusion matrix, at the end of the epoch.
    assert len([warning for warning in warned if "synchronizing" in str(warning.message)]) == 2


@pytest.mark.gpu
def test_a_member_on_a_gpu_goes_on_from_its_state() -> None:
    torch_gpu.take_share(1.0)
    first, second = gpu_fit(), gpu_fit()
    first.run_epoch()
    second.restore(first.checkpoint())
    assert second.run_epoch().val_loss == pytest.approx(first.run_epoch().val_loss, abs=1e-3)
    assert all(value.device.type == "cpu" for value in second.result().state.values())


@pytest.mark.gpu
def test_gradients_of_the_lstm_are_not_lost() -> None:
    torch_gpu.take_share(1.0)
    fit = gpu_fit()
    fit.run_epoch()
    for name, parameter in fit._model.lstm.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert float((parameter.grad != 0).float().mean()) > 0.9, name


@pytest.mark.gpu
def test_a_search_and_its_ensemble_run_on_a_gpu(tmp_path: Path) -> None:
    job = subprocess.run(
        [sys.executable, "-m", "tests.support.made_up_gpu_training", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert job.returncode == 0, job.stderr
    members = info.read_info(str(tmp_path / "ensemble")).members
    assert {member.precision for member in members} == {"bf16, its LSTM in tf32"}
    assert min(member.peak_gpu_memory_bytes or 0 for member in members) > 0
    assert json.loads((tmp_path / "tune" / "summary.json").read_text())["statuses"] == {"finished": 2}


@pytest.mark.gpu
def test_the_head_on_a_gpu_says_what_it_computes_in_and_agrees(tmp_path: Path) -> None:
    from tests.ray.test_from_features import SPEC, train
    from vidclf.classification.head import EnsembleHead, HeadSettings

    directory = train(str(tmp_path), [SPEC, SPEC])
    settings = HeadSettings(tta=False, trust_threshold=0.0, segments_s=None)
    assert EnsembleHead(directory, settings, "cuda", precision="auto").engine == "torch cuda tf32"
    videos = [np.full((3, 1280), value, np.float16) for value in (0.1, 0.5)]
    on_cpu, on_gpu = (files.load(directory, torch.device(name))([videos]).probabilities_BC for name in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.01)
