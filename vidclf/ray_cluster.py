"""Connecting to Ray, what it has, and counting progress across its workers. [Ray]"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data

from vidclf import ray_address
from vidclf.config.fields import ONE_GPU, require
from vidclf.errors import ConfigError

CPU_WORKER_ENV = {
    # Keep freed activations instead of handing them back to the kernel after each layer, which costs a
    # CNN on the CPU half its speed. Ray calls from a thread of its own, whose memory would come from
    # an arena to which glibc applies neither threshold: so there is just the main one.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31),
    "MALLOC_TRIM_THRESHOLD_": str(8 * 10**9),
}


@dataclass(frozen=True, kw_only=True)
class ClusterResources:
    """What a job may count on: what the cluster has, or what it can grow to."""

    num_cpus: int
    num_gpus: int


def connect() -> ClusterResources:
    """Connect to the cluster the job was submitted to, or start Ray on this machine.

    Ray authenticates by token unless `RAY_AUTH_MODE` says otherwise. It reads that when it is
    imported, so it is the environment's to set (the tests do), never this function's.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A node started from here starts workers a few at a time, and Ray warns at each multiple of
    # that number; a pool per operator on a small machine is many multiples and quite all right.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "16")
    if not sys.stderr.isatty():
        # Ray colours what it has to say itself, which in the log of a submitted job is noise.
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    # Workers of a node started from here find this package wherever the job is started from.
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    if not ray.is_initialized():
        ray_address.check_ray()
        # Workers' chatter stays in their log files; their errors reach the driver as exceptions.
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It logs each exception with its whole trace before it raises it; who catches it says what is to be said.
    for name in ("exceptions", "_internal.execution.streaming_executor_state"):
        logging.getLogger(f"ray.data.{name}").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it advertises its bars
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Pools are of fixed size here, so Ray's advice to reserve memory a worker is noise.
    detectors = context.issue_detectors_config
    detectors.detectors = [d for d in detectors.detectors if d.__name__ != "HighMemoryIssueDetector"]
    return resources_of(ray.cluster_resources(), ray._private.state.state.get_max_resources_from_cluster_config())


def resources_of(now: Mapping[str, float], most: Mapping[str, int] | None) -> ClusterResources:
    """CPUs and GPUs of a cluster that has `now`, and that its autoscaler may let grow to `most` (None on a
    cluster of fixed size).

    A cluster that starts empty grows by what is asked of it, so a job that asked for no more than is
    there would leave it so. Where there is no limit to its growth, what it has counts.
    """

    def count(name: str) -> int:
        ceiling = (most or {}).get(name, 0)
        return int(max(now.get(name, 0), ceiling if ceiling < sys.maxsize else 0))

    return ClusterResources(num_cpus=max(count("CPU"), 1), num_gpus=count("GPU"))


def workers_on_gpus(share: float, num_gpus: int) -> int:
    """Workers with `share` of a GPU each, in (0, 1], that `num_gpus` hold: a worker's share is of one GPU."""
    # A tenth is not a tenth to the last bit.
    return num_gpus * int(1 / share + 1e-9)


def check_gpus(flag: str, share: float, resources: ClusterResources, workers_flag: str = "", workers: int = 1) -> None:
    """Raise ConfigError where `workers` with `share` of a GPU each are more than the cluster holds at once, which
    would wait for ever. `flag` names the share, `workers_flag` the number of workers."""
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
    """Around a worker's work: a ConfigError of it reaches the tally before it ends the worker. Ray hands the text of
    a constructor's error on, and not the error."""
    try:
        yield
    except ConfigError as error:
        ray.get(tally.refuse.remote(str(error)))
        raise
