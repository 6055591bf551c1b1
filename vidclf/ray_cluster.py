"""Connection to a Ray cluster, its number of CPUs and GPUs, and a check that the requested GPU shares fit on it.
[Ray]"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data

from vidclf import ray_address, stderr_filter
from vidclf.config.fields import ONE_GPU, require
from vidclf.errors import SUBMIT_AGAIN, ConfigError, RunStopped

CPU_WORKER_ENV = {
    # Freed activations stay in the process. Returning them to the kernel after each layer would halve the speed of a
    # CNN on a CPU. glibc applies the two thresholds to its main arena only, and Ray calls workers from a thread that
    # would get another arena: so there is only one.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31),
    "MALLOC_TRIM_THRESHOLD_": str(8 * 10**9),
}
"""Environment variables, with values, of worker processes that run a CNN on a CPU. They keep freed memory in the
process, which is faster."""


RAY_STARTS_TOO_SLOWLY = "timed out during startup"
"""Part of the message of the bare `Exception` that Ray raises if its processes do not start in time."""


@dataclass(frozen=True, kw_only=True)
class ClusterResources:
    """Numbers of CPUs and GPUs that a job can use: those that the cluster has, or to which its autoscaler can grow
    it."""

    num_cpus: int
    num_gpus: int


def connect() -> ClusterResources:
    """Connect to the Ray cluster of the job, or start Ray on this machine if there is none; returns its CPUs and GPUs.

    Raises ConfigError if the cluster does not answer, and RunStopped if Ray does not start in time. Ray authenticates
    by token unless the environment variable `RAY_AUTH_MODE` sets another mode. Ray reads this variable when it is
    imported, so it must be set before that (as in the tests), not in this function.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray starts the workers of a node a few at a time, and warns at each multiple of that number. One pool per operator
    # on a small machine reaches many multiples, without any harm.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "16")
    if not sys.stderr.isatty():
        # Ray adds colour codes to its messages, which are noise in the log of a submitted job.
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    # The workers of a node that starts here find this package, whatever the working directory of the job is.
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    if not ray.is_initialized():
        ray_address.check_ray()
        stderr_filter.start()
        with own_sigterm_handler():
            attach_or_start()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Ray Data logs each exception with its whole trace before it raises it. The code that catches it prints a message.
    for name in ("exceptions", "_internal.execution.streaming_executor_state"):
        logging.getLogger(f"ray.data.{name}").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it advertises its progress bars
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # The pools of a job have a fixed size, so Ray's advice to reserve memory per worker is noise.
    detectors = context.issue_detectors_config
    detectors.detectors = [d for d in detectors.detectors if d.__name__ != "HighMemoryIssueDetector"]
    return resources_of(ray.cluster_resources(), ray._private.state.state.get_max_resources_from_cluster_config())


def attach_or_start() -> None:
    """Attach to the cluster, or start Ray on this machine. Raises RunStopped if its processes take longer to start than
    Ray waits, which is 30 seconds on any machine."""
    try:
        # The output of workers stays in their log files; their errors reach the driver as exceptions.
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        if RAY_STARTS_TOO_SLOWLY not in str(error):
            raise
        raise RunStopped(
            "Ray did not start within 30 seconds, because this machine is too busy; finished work is kept: "
            f"{SUBMIT_AGAIN}"
        ) from error


@contextmanager
def own_sigterm_handler() -> Iterator[None]:
    """Set the handler of SIGTERM again that the program had before the body.

    `ray.init` installs one that ends the program by `sys.exit`, without the message of a stopped job.
    """
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # A program without a handler keeps Ray's. Only the main thread may set one.
        if callable(previous) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)


def resources_of(now: Mapping[str, float], most: Mapping[str, int] | None) -> ClusterResources:
    """Numbers of CPUs and GPUs that a job can use on a cluster, from two mappings of resource names to amounts.

    `now` holds the present resources. `most` holds those to which the autoscaler may grow the cluster; None if its size
    is fixed. The larger number counts, because an empty cluster grows only if a job requests more than it has. If
    growth has no limit, the present number counts.
    """

    def count(name: str) -> int:
        limit = (most or {}).get(name, 0)
        return int(max(now.get(name, 0), limit if limit < sys.maxsize else 0))

    return ClusterResources(num_cpus=max(count("CPU"), 1), num_gpus=count("GPU"))


def workers_on_gpus(share: float, num_gpus: int) -> int:
    """Number of workers that fit on `num_gpus` GPUs, if each takes the share `share` (above 0, at most 1) of one
    GPU."""
    # 1e-9 because ten shares of 0.1 must fit, although 0.1 has no exact binary value.
    return num_gpus * int(1 / share + 1e-9)


def check_gpus(flag: str, share: float, resources: ClusterResources, workers_flag: str = "", workers: int = 1) -> None:
    """Raise ConfigError if `workers` workers, each with `share` of a GPU, do not fit on the cluster at the same time.

    Such a job would wait for ever. `flag` and `workers_flag` are the flags that gave the share and the number of
    workers, for the message.
    """
    if not share:
        return
    if not resources.num_gpus:
        raise ConfigError(f"{flag} must be 0 on a cluster without GPUs, got {share:g}")
    require(0 < share <= 1, flag.removeprefix("--"), ONE_GPU.message, share)
    most = workers_on_gpus(share, resources.num_gpus)
    if workers > most:
        raise ConfigError(
            f"{workers_flag} must be at most {most} with {flag} {share:g} on a cluster of {resources.num_gpus} GPU(s), "
            f"got {workers}"
        )


@contextmanager
def refusals_told(tally: Any) -> Iterator[None]:
    """Report a ConfigError that is raised in the `with` block to the job's main process, then raise it further.

    For code of a Ray worker: if it fails when it starts, Ray passes on only the text of the error, and the main process
    could not recognise a ConfigError. The report goes through `tally` (the `Tally` actor of the job); `tally.watch`
    raises it in the main process.
    """
    try:
        yield
    except ConfigError as error:
        ray.get(tally.refuse.remote(str(error)))
        raise
