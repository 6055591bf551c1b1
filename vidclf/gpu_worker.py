"""Function calls in a Ray worker that reserves a share of a GPU. [Ray]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from vidclf import torch_gpu
from vidclf.errors import ConfigError


class OnWorker:
    """A function that runs in a worker of the cluster with `share` of a GPU. The worker ends with this object.

    `make` is called once, in the worker, and returns the function. A ConfigError in the worker is raised here as a
    ConfigError.
    """

    def __init__(self, share: float, make: Callable[[], Callable[..., Any]]) -> None:
        self._actor = ray.remote(num_cpus=0, num_gpus=share)(_FunctionActor).remote(make)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return ray.get(self._actor.call.remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ConfigError):
                raise error.cause from None
            raise


def gpu_bytes(share: float) -> int | None:
    """Memory in bytes of the GPU on which a worker with `share` of a GPU runs; None if the share is 0.

    Raises ConfigError if torch cannot use the GPU that Ray counts.
    """
    if not share:
        return None
    total_bytes: int | None = OnWorker(share, lambda: lambda: torch_gpu.memory_bytes(torch_gpu.take_share(share)))()
    return total_bytes


class _FunctionActor:
    """Actor that makes the function at its first call and keeps it."""

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self._make = make
        self._function: Callable[..., Any] | None = None

    def call(self, *arguments: Any) -> Any:
        """The result of the function for these arguments."""
        if self._function is None:
            self._function = self._make()
        return self._function(*arguments)
