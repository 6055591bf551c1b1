"""Environment of all tests, their tiers, and one Ray cluster for the tests that need it.

The cluster runs on loopback without a token. `pytest -m gpu` runs the GPU tests only; all other tests see no GPU.

The tier of a test is a marker, which follows from its directory unless the test or its file is marked itself:

- `unit` (tests/unit, tests/project): no Ray.
- `ray` (tests/ray): the Ray of this session.
- `system` (tests/system): whole jobs, processes that are killed, clusters of their own, S3, a browser, damaged videos.

`make test` runs the first two, `make test-system` the third. One file of whole jobs, with a kill, is marked `ray`.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Ray reads these variables on import; jobs that tests start inherit them.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Tests start their own Ray, even if another cluster runs on this machine.
os.environ["RAY_ADDRESS"] = "local"
# Models in tests are tiny, and several threads would only wait for each other. torch reads the variable on import.
os.environ["OMP_NUM_THREADS"] = "1"

# Otherwise every process of the tests, and there are hundreds, compiles every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Each test that needs a pretended GPU sets this variable itself.
os.environ.pop("VIDCLF_GPU_DEVICE", None)

import pytest

sys.dont_write_bytecode = False  # this process has read the variable at its start

# The modules and tests that are collected stay until the end, so looking for garbage among them finds nothing. It would
# cost a tenth of the collection, and some tenths of a second again and again while the tests run.
gc.disable()

TIERS = {"unit": "unit", "project": "unit", "ray": "ray", "system": "system"}
"""Tier of the tests in each directory below tests/."""


SESSION_RAY = tuple(
    f"tests/system/test_{name}.py" for name in ("jobs", "killed_training", "s3", "several_backbones", "stopping")
)
"""Files outside of tests/ray/ whose tests use the Ray of the session."""

LONGEST = (
    "tests/ray/test_gpu_cluster.py",
    "tests/ray/test_search.py",
    "tests/system/test_chaos.py",
    "tests/system/test_jobs.py",
    "tests/system/test_killed_training.py",
    "tests/system/test_s3.py",
    "tests/system/test_several_backbones.py",
    "tests/system/test_submitted_jobs.py",
)
"""The files that take more than a minute. They begin first, so that no process is left with one of them in the end."""


def pytest_configure(config: pytest.Config) -> None:
    if not is_xdist_worker(config):
        # A cache of converted backbones for the tests and their workers, separate from the cache of the user. The
        # processes of pytest-xdist start later and share it.
        os.environ["VIDCLF_CACHE"] = tempfile.mkdtemp(prefix="vidclf-tests-")
    if not is_of_gpu(config):
        # Many tests expect a machine without GPUs. CUDA reads the variable at its first use, which comes later.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def is_of_gpu(config: pytest.Config) -> bool:
    """Whether only the GPU tests were selected."""
    return str(config.option.markexpr).strip() == "gpu"


def is_xdist_worker(config: pytest.Config) -> bool:
    """Whether another process, of pytest-xdist, hands tests to this one."""
    return hasattr(config, "workerinput")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not is_xdist_worker(session.config):
        shutil.rmtree(os.environ["VIDCLF_CACHE"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        # The markers alone: the keywords of a test contain the names of its directories, too.
        if not {marker.name for marker in item.iter_markers()} & {*TIERS.values()}:
            item.add_marker(TIERS[item.path.relative_to(tests).parts[0]])
    skip_gpu_tests(config, items)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or libraries would report at the end that their objects leak


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out among the processes of pytest-xdist by file, so that the tests of a file share its fixtures.

    One process runs the files that use the Ray of the session, with one Ray, and the others run the other files.
    A process that has none of its files left takes one of the other kind, so that all processes end together. The
    option `--dist loadgroup` of pytest-xdist cannot do that: with pytest 9.2 it has no effect
    (`findings/xdist_loadgroup.sh`).
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.split("::")[0]

        def _assign_work_unit(self, node: Any) -> None:
            runs_ray = node is self.nodes[0]
            best = min(self.workqueue, key=lambda file: (uses_session_ray(file) != runs_ray, file not in LONGEST))
            self.workqueue.move_to_end(best, last=False)
            super()._assign_work_unit(node)

    return ByFile(config, log)


def uses_session_ray(file: str) -> bool:
    """Whether tests of this file use the Ray of the session."""
    return file.startswith("tests/ray/") or file in SESSION_RAY


def skip_gpu_tests(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU, unless only they were selected and there is one."""
    if is_of_gpu(config):
        import torch  # here, since the process that hands out the tests needs no torch

        if torch.cuda.is_available():
            return
    reason = "no CUDA device on this machine" if is_of_gpu(config) else "runs with -m gpu alone"
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[str]:
    """Ray in this process, started once for all tests that use it; its address, for processes that attach to it."""
    import ray

    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield str(context.address_info["gcs_address"])
    ray.shutdown()
