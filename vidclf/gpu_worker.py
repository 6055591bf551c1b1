"""Calls of a function that runs in a Ray worker with a reserved share of a GPU. [Ray]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from vidclf.errors import ConfigError


class OnWorker:
    """A callable whose calls run in one Ray worker that reserves `share` of a GPU, until this object is deleted.

    `make` is called once, in the worker, and returns the function that the calls run. A ConfigError in the worker is
    raised in the caller as a ConfigError.
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
    """Whole memory, in bytes, of the GPU that Ray gives to a worker with `share` of a GPU; None if `share` is 0.

    Raises ConfigError if torch cannot use the GPU that Ray counts.
    """
    if not share:
        return None
    from vidclf import torch_gpu  # imported here, because a job without GPUs may do without torch

    total_bytes: int | None = OnWorker(share, lambda: lambda: torch_gpu.memory_bytes(torch_gpu.take_share(share)))()
    return total_bytes


class _FunctionActor:
    """Ray actor (worker process) behind `OnWorker`. Its first call makes the function, which it keeps for all later
    calls."""

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self._make = make
        self._function: Callable[..., Any] | None = None

    def call(self, *arguments: Any) -> Any:
        """Result of the function for `arguments`; the first call makes the function."""
        if self._function is None:
            self._function = self._make()
        return self._function(*arguments)
