"""The device of a worker follows from the share of a GPU that it reserved, not from the GPUs that torch finds."""

from __future__ import annotations

import os

import pytest
import torch

from vidclf import device
from vidclf.config import ClassifyConfig, ServeConfig, TrainConfig, TuneConfig
from vidclf.errors import ConfigError
from vidclf.ray_cluster import ClusterResources, check_gpus, workers_on_gpus


@pytest.mark.parametrize(
    ("num_gpus", "variable", "expected"),
    [(0.0, None, "cpu"), (0.0, "cuda", "cpu"), (0.25, None, "cuda"), (1.0, "", "cuda"), (1.0, "cpu", "cpu")],
)
def test_a_worker_computes_on_what_it_reserved(
    monkeypatch: pytest.MonkeyPatch, num_gpus: float, variable: str | None, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if variable is None:
        monkeypatch.delenv("VIDCLF_GPU_DEVICE", raising=False)
    else:
        monkeypatch.setenv("VIDCLF_GPU_DEVICE", variable)
    assert device.of_share(num_gpus) == expected


def test_a_device_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDCLF_GPU_DEVICE", "gpu")
    with pytest.raises(ConfigError, match=r"the environment variable VIDCLF_GPU_DEVICE must be cuda or cpu, got 'gpu'"):
        device.claim(1.0)


def test_a_gpu_that_torch_cannot_use_is_named_with_the_least_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDCLF_GPU_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigError, match=r"Ray counts a GPU that torch cannot use: .* CUDA 13\.0, .* driver 580"):
        device.claim(0.25)


def test_a_worker_on_a_gpu_is_held_to_its_share_less_the_cuda_context(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, int]] = []
    monkeypatch.delenv("VIDCLF_GPU_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    memory = type("Properties", (), {"total_memory": 6000 * 1024**2})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: memory)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda fraction, index: limits.append((fraction, index))
    )
    assert device.claim(0.25) == "cuda"
    assert limits == [(pytest.approx(0.25 - 0.1), 0)]
    with pytest.raises(ConfigError, match=r"a worker's share of a GPU must be above 0\.100, .* of 5\.9 GiB, got 0\.1"):
        device.claim(0.1)


@pytest.mark.parametrize(
    ("share", "num_gpus", "workers"),
    [(1.0, 3, 3), (0.5, 4, 8), (0.4, 2, 4), (0.6, 3, 3), (0.25, 1, 4), (0.1, 1, 10), (0.3, 7, 21)],
)
def test_workers_are_counted_gpu_by_gpu(share: float, num_gpus: int, workers: int) -> None:
    assert workers_on_gpus(share, num_gpus) == workers


def test_more_gpu_than_there_is_is_refused() -> None:
    two = ClusterResources(num_cpus=8, num_gpus=2)
    check_gpus("--gpus-per-member", 0.4, two, "--members", 4)
    check_gpus("--gpus-per-member", 0.0, ClusterResources(num_cpus=8, num_gpus=0), "--members", 4)
    with pytest.raises(
        ConfigError,
        match=r"^--members must be at most 4 with --gpus-per-member 0\.4 on a cluster of 2 GPU\(s\), got 5$",
    ):
        check_gpus("--gpus-per-member", 0.4, two, "--members", 5)
    with pytest.raises(ConfigError, match=r"^--gpus must be 0 on a cluster without GPUs, got 0\.25$"):
        check_gpus("--gpus", 0.25, ClusterResources(num_cpus=8, num_gpus=0))


def test_tests_see_no_gpu_unless_they_are_of_one() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()


RULE = "must be between 0 and 1 GPU, because a worker computes on one GPU alone, got"


def test_more_than_a_gpu_for_a_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match=rf"--gpus-per-cnn-worker {RULE} 1\.5"):
        ClassifyConfig(input="i", ensemble="e", output="o", gpus_per_cnn_worker=1.5)
    with pytest.raises(ConfigError, match=rf"--gpus-per-member {RULE} 2"):
        TrainConfig(features=("f",), output="o", gpus_per_member=2.0)
    with pytest.raises(ConfigError, match=rf"--gpus-per-trial {RULE} 2"):
        TuneConfig(features=("f",), space="s", output="o", gpus_per_trial=2.0)
    with pytest.raises(ConfigError, match=rf"--gpus {RULE} 2"):
        ServeConfig(ensemble="e", gpus=2.0)
