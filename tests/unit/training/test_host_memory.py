"""The memory of a training job on its machine: the sums, the line of the log, and the refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidclf import device
from vidclf.config import TrainConfig
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.training import host_memory
from vidclf.training.dataset import Sequences, TrainingData
from vidclf.video.sampling import SamplingPlan

SPEC = FeatureSpec.of("efficientnet_lite0", "random", "digest", SamplingPlan(num_frames=73))


@pytest.fixture(autouse=True)
def ray_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")


def has_memory(monkeypatch: pytest.MonkeyPatch, total_gb: float, available_gb: float) -> None:
    machine = host_memory.Machine(total_bytes=int(total_gb * 1e9), available_bytes=int(available_gb * 1e9))
    monkeypatch.setattr(host_memory, "this_machine", lambda: machine)


def config(output: Path, **values: Any) -> TrainConfig:
    small = {"hidden_dim": 64, "num_lstm_layers": 1, "num_attention_heads": 4, "classifier_dims": (32,)}
    return TrainConfig(features=("f",), output=str(output), **{**small, **values})


LARGE = host_memory.Machine(total_bytes=64_000_000_000, available_bytes=60_000_000_000)


def of(config: TrainConfig, num_videos: int, num_backbones: int = 1) -> host_memory.HostMemory:
    return host_memory.host_memory(config, [SPEC] * num_backbones, num_videos, LARGE)


def test_members_count_while_they_train_and_videos_while_they_are_calibrated(tmp_path: Path) -> None:
    few = of(config(tmp_path), 1000)
    assert few.fixed_bytes == 1_110_000_000
    assert (few.calibration_bytes, few.columns_bytes) == (20 * 1280 * 1000, 3_000_000)
    assert few.peak_bytes == few.fixed_bytes + 3_000_000 + 4 * few.member_bytes
    many = of(config(tmp_path), 1_000_000, num_backbones=2)
    assert many.peak_bytes == 1_110_000_000 + 1_000_000 * (3_000 + 20 * 2 * 1280)


def test_a_member_takes_its_processes_weights_and_activations(tmp_path: Path) -> None:
    small = of(config(tmp_path), 1).member_bytes
    assert small == pytest.approx(1.38e9, rel=0.01)
    # Measured: 2.63 GB more than the processes.
    sizes = {"hidden_dim": 768, "num_lstm_layers": 4, "num_attention_heads": 12, "classifier_dims": (256, 128)}
    assert of(config(tmp_path, **sizes), 1).member_bytes == pytest.approx(3.88e9, rel=0.05)


def test_finished_members_take_nothing(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"member_{index}.json").write_text("{}")
    assert of(config(tmp_path), 1).num_members == 1
    assert of(config(tmp_path, overwrite=True), 1).num_members == 4
    assert of(config(tmp_path, folds=3), 1).num_members == 4


def test_members_on_a_cluster_take_nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    memory = of(config(tmp_path), 1000)
    assert (memory.fixed_bytes, memory.member_bytes, memory.num_at_once) == (610_000_000, 0, 4)


def test_the_line_says_what_the_memory_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, 16.0, 5.0)
    assert host_memory.check(config(tmp_path, members=2), [SPEC], 100_000) == (
        "memory: about 4.2 GB of 16.0 GB: 1.1 GB for the job, 2.8 GB for 2 members, 2.9 GB for 100000 videos "
        "while they are calibrated"
    )
    has_memory(monkeypatch, 16.0, 2.0)
    assert host_memory.check(config(tmp_path, members=1), [SPEC], 1000) == (
        "memory: about 2.5 GB of 16.0 GB: 1.1 GB for the job, 1.4 GB for 1 member, 0.0 GB for 1000 videos "
        "while they are calibrated; other processes leave 2.0 GB, which may be too little"
    )


def test_members_that_do_not_fit_together_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, 6.0, 4.5)  # 4.5 − 1.1 for the job is enough for two members of 1.38 GB
    assert host_memory.check(config(tmp_path), [SPEC], 1000) == (
        "memory: about 3.9 GB of 6.0 GB: 1.1 GB for the job, 2.8 GB for 2 of 4 members at a time, 0.0 GB for 1000 "
        "videos while they are calibrated"
    )


@pytest.mark.parametrize(("available_gb", "at_once"), [(20, 4), (4.3, 3), (2.8, 2), (2.7, 1), (0.1, 1)])
def test_as_many_members_as_fit_are_trained_at_once(
    available_gb: float, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.zeros((2, 73, 1280), np.float16)
    data = TrainingData(classes=["A", "B"], train=Sequences.of(rows, [0, 1]), val=Sequences.of(rows, [0, 1]))
    has_memory(monkeypatch, 24.0, available_gb)
    assert host_memory.num_at_once(config(tmp_path), [data], 4, gpus=0) == at_once
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert host_memory.num_at_once(config(tmp_path), [data], 4, gpus=0) == 4


def test_a_model_on_a_gpu_takes_no_memory_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "num_here", lambda: 1)
    has_memory(monkeypatch, 24.0, 24.0)
    large = config(tmp_path, batch_size=100_000)
    assert of(large, 1).member_bytes == 1_250_000_000
    assert host_memory.check(large, [SPEC], 1).startswith("memory: about 6.1 GB of 24.0 GB: ")
    rows = np.zeros((2, 73, 1280), np.float16)
    data = TrainingData(classes=["A", "B"], train=Sequences.of(rows, [0, 1]), val=Sequences.of(rows, [0, 1]))
    assert host_memory.num_at_once(large, [data], 4, gpus=0.25) == 4
    assert host_memory.num_at_once(large, [data], 4, gpus=0) == 1
    with pytest.raises(ConfigError):
        host_memory.check(replace(large, gpus_per_member=0.0), [SPEC], 1)


def test_what_cannot_fit_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, 2.2, 2.2)
    assert "other processes leave 2.2 GB" in host_memory.check(config(tmp_path), [SPEC], 1000)
    with pytest.raises(ConfigError) as refusal:
        host_memory.check(config(tmp_path, batch_size=1024), [SPEC], 1000)
    assert str(refusal.value) == (
        "--batch-size 1024: training one member takes at least 3.3 GB of memory on this machine, which has 2.2 GB; "
        "give a smaller --batch-size or a smaller --hidden-dim, or train on a cluster (RAY_ADDRESS)"
    )
    with pytest.raises(ConfigError) as refusal:
        host_memory.check(config(tmp_path), [SPEC], 1_000_000)
    assert str(refusal.value) == (
        "--features f: calibrating 1000000 videos takes at least 29.2 GB of memory on this machine, which has 2.2 GB; "
        "train on a machine with more memory"
    )


def test_a_container_limits_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "CGROUP", tmp_path)
    unlimited = host_memory.this_machine()
    assert 0 < unlimited.available_bytes <= unlimited.total_bytes
    (tmp_path / "memory.stat").write_text("anon 30000000\nfile 500000000\nshmem 10000000\n")
    (tmp_path / "memory.max").write_text("100000000\n")
    assert host_memory.this_machine() == host_memory.Machine(total_bytes=100_000_000, available_bytes=60_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory.this_machine().total_bytes == unlimited.total_bytes
