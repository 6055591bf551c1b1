"""The memory of a training job on its machine: the sums, the line of the log, and the refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vidclf.config import TrainConfig
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.training import host_memory
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


def test_members_count_while_they_train_and_videos_while_they_are_calibrated(tmp_path: Path) -> None:
    few = host_memory.host_memory(config(tmp_path), [SPEC], 1000)
    assert few.fixed_bytes == 1_110_000_000
    assert (few.calibration_bytes, few.columns_bytes) == (16 * 1280 * 1000, 3_000_000)
    assert few.peak_bytes == few.fixed_bytes + 3_000_000 + 4 * few.member_bytes
    many = host_memory.host_memory(config(tmp_path), [SPEC, SPEC], 1_000_000)
    assert many.peak_bytes == 1_110_000_000 + 1_000_000 * (3_000 + 16 * 2 * 1280)


def test_a_member_takes_its_processes_weights_and_activations(tmp_path: Path) -> None:
    small = host_memory.host_memory(config(tmp_path), [SPEC], 1).member_bytes
    assert small == pytest.approx(1.63e9, rel=0.01)
    # Measured: 2.63 GB more than the processes.
    sizes = {"hidden_dim": 768, "num_lstm_layers": 4, "num_attention_heads": 12, "classifier_dims": (256, 128)}
    assert host_memory.host_memory(config(tmp_path, **sizes), [SPEC], 1).member_bytes == pytest.approx(4.26e9, rel=0.05)


def test_finished_members_take_nothing(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"member_{index}.json").write_text("{}")
    assert host_memory.host_memory(config(tmp_path), [SPEC], 1).num_members == 1
    assert host_memory.host_memory(config(tmp_path, overwrite=True), [SPEC], 1).num_members == 4
    assert host_memory.host_memory(config(tmp_path, folds=3), [SPEC], 1).num_members == 4


def test_members_on_a_cluster_take_nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    memory = host_memory.host_memory(config(tmp_path), [SPEC], 1000)
    assert (memory.fixed_bytes, memory.member_bytes) == (610_000_000, 0)


def test_the_line_says_what_the_memory_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, 16.0, 5.0)
    line = (
        "memory: about 4.7 GB of 16.0 GB: 1.1 GB for the job, 3.3 GB for 2 members, 2.3 GB for 100000 videos "
        "while they are calibrated"
    )
    assert host_memory.check(config(tmp_path, members=2), [SPEC], 100_000) == line
    has_memory(monkeypatch, 16.0, 4.0)
    assert host_memory.check(config(tmp_path, members=2), [SPEC], 100_000) == (
        f"{line}; other processes leave 4.0 GB, which may be too little"
    )


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, 6.0, 6.0)
    with pytest.raises(ConfigError) as refusal:
        host_memory.check(config(tmp_path), [SPEC], 1000)
    assert str(refusal.value) == (
        "--members 4: the job takes about 7.6 GB of memory on this machine (1.6 GB per member that is trained), which "
        "has 6.0 GB; give fewer --members, a smaller --batch-size or a smaller --hidden-dim, or train on a "
        "cluster (RAY_ADDRESS)"
    )
    assert "of 6.0 GB" in host_memory.check(config(tmp_path, members=2), [SPEC], 1000)


def test_a_container_limits_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "CGROUP", tmp_path)
    unlimited = host_memory.this_machine()
    assert 0 < unlimited.available_bytes <= unlimited.total_bytes
    (tmp_path / "memory.stat").write_text("anon 30000000\nfile 500000000\nshmem 10000000\n")
    (tmp_path / "memory.max").write_text("100000000\n")
    assert host_memory.this_machine() == host_memory.Machine(total_bytes=100_000_000, available_bytes=60_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory.this_machine().total_bytes == unlimited.total_bytes
