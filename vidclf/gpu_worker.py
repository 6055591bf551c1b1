"""Calls that run in a worker with a share of a GPU. [Ray]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from vidclf import torch_gpu
from vidclf.errors import ConfigError


class OnWorker:
    """A function that runs in a worker of the cluster, which reserves `share` of a GPU and ends with this object.

    `make` is called in the worker, once, and gives the function. A ConfigError in it is raised here as such.
    """

    def __init__(self, share: float, make: Callable[[], Callable[..., Any]]) -> None:
        self._actor = ray.remote(num_cpus=0, num_gpus=share)(_Held).remote(make)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return ray.get(self._actor.call.remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ConfigError):
                raise error.cause from None
            raise


def gpu_bytes(share: float) -> int | None:
    """Memory of the GPU that a worker with `share` of one gets; None without a GPU. ConfigError where torch cannot use
    the GPU that Ray counts."""
    if not share:
        return None
    found: int | None = OnWorker(share, lambda: lambda: torch_gpu.memory_bytes(torch_gpu.take_share(share)))()
    return found


class _Held:
    """The function, in the worker."""

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self._make = make
        self._function: Callable[..., Any] | None = None

    def call(self, *arguments: Any) -> Any:
        if self._function is None:
            self._function = self._make()
        return self._function(*arguments)
