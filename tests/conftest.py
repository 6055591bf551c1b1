"""Environment of all tests, and one Ray cluster for the tests that need it.

The cluster runs on loopback without a token. `pytest -m gpu` runs the GPU tests only; all other tests see no GPU.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator

# Ray reads these variables on import; jobs that tests start inherit them.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Tests start their own Ray, even if another cluster runs on this machine.
os.environ["RAY_ADDRESS"] = "local"
# Models in tests are tiny, and several threads would only wait for each other. torch reads the variable on import.
os.environ["OMP_NUM_THREADS"] = "1"

# Each test that needs a pretended GPU sets this variable itself.
os.environ.pop("VIDCLF_GPU_DEVICE", None)

# A cache of converted backbones for the tests and their workers, separate from the cache of the user.
os.environ["VIDCLF_CACHE"] = tempfile.mkdtemp(prefix="vidclf-tests-")

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    if not is_of_gpu(config):
        # Many tests expect a machine without GPUs. CUDA reads the variable at its first use, which comes later.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def is_of_gpu(config: pytest.Config) -> bool:
    """Whether only the GPU tests were selected."""
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
    """Ray in this process, started once for all tests that use it."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
