"""Ray for the tests that need it, on loopback without a token. `pytest -m gpu` runs the GPU tests; all others see no
GPU."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator

# Ray reads these when it is imported; jobs that tests start inherit them.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# A Ray of the tests' own, whatever cluster runs on this machine.
os.environ["RAY_ADDRESS"] = "local"
# Models here are tiny: threads would spend their time waiting for each other. torch reads it at import.
os.environ["OMP_NUM_THREADS"] = "1"

# Where workers on a GPU compute is each test's to set.
os.environ.pop("VIDCLF_GPU_DEVICE", None)

# What tests convert is not the user's, and workers of theirs find it.
os.environ["VIDCLF_CACHE"] = tempfile.mkdtemp(prefix="vidclf-tests-")

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    if not is_of_gpu(config):
        # Many tests count on CPUs alone. CUDA reads it when it is first used, which is later, as jobs do.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def is_of_gpu(config: pytest.Config) -> bool:
    return str(config.option.markexpr).strip() == "gpu"


def pytest_sessionfinish() -> None:
    shutil.rmtree(os.environ["VIDCLF_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_of_gpu(config) and torch.cuda.is_available():
        return
    reason = "no CUDA device on this machine" if is_of_gpu(config) else "runs with -m gpu alone"
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
