"""Choice between CPU and GPU for a Ray worker, by the share of a GPU that the worker reserved.

It does not matter whether torch finds a GPU: a worker without a reservation inherits `CUDA_VISIBLE_DEVICES` from its
machine, and would find a GPU too.
"""

from __future__ import annotations

import os

from vidclf.errors import ConfigError

GPU_DEVICE_VARIABLE = "VIDCLF_GPU_DEVICE"
"""Name of an environment variable: the device that stands for each GPU that Ray counts, `cuda` (default) or `cpu`.

With `cpu` the tests run the pipeline of a GPU cluster on machines without GPUs, whose GPUs are only pretended."""

CONTEXT_BYTES = 600 * 1024**2
"""GPU memory in bytes that a process needs for the CUDA context and kernels, besides the memory that torch
allocates."""

LEAST_DRIVER = "580"
"""Minimum version of NVIDIA's driver. It belongs to CUDA 13, with which the torch packages are built."""


def of_share(num_gpus: float) -> str:
    """Device type for a worker that reserved the share `num_gpus` of a GPU: `cuda`, or `cpu` if the share is 0.

    With the environment variable `VIDCLF_GPU_DEVICE` set to `cpu`, always `cpu`. ConfigError for an unknown value of
    it.
    """
    if not num_gpus:
        return "cpu"
    device = os.environ.get(GPU_DEVICE_VARIABLE) or "cuda"
    if device not in ("cuda", "cpu"):
        raise ConfigError(f"the environment variable {GPU_DEVICE_VARIABLE} must be cuda or cpu, got {device!r}")
    return device


def num_here() -> int:
    """Number of GPUs of this machine that this process can use; 1 if `VIDCLF_GPU_DEVICE` is `cpu` (GPUs only
    pretended)."""
    if of_share(1.0) == "cpu":
        return 1
    import torch

    return torch.cuda.device_count()


def claim(num_gpus: float) -> str:
    """Prepare the GPU for this worker, and return the device type, `cuda` or `cpu`, as `of_share` does.

    Torch may then use the share `num_gpus` of the GPU's memory, not more.
    Raises ConfigError if Ray counts a GPU that torch cannot use, or if the share is too small for the CUDA context.
    """
    device = of_share(num_gpus)
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(unusable_text(torch.__version__, torch.version.cuda))
        index = torch.cuda.current_device()  # the memory fraction needs a device with an index
        total_bytes = torch.cuda.get_device_properties(index).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_fraction(num_gpus, total_bytes), index)
    return device


def memory_fraction(share: float, total_bytes: int) -> float:
    """Fraction of a GPU's memory that torch may allocate in a worker that reserved `share` of the GPU.

    The memory of the CUDA context is left out of it. Raises ConfigError if that alone fills the share.
    """
    fraction = min(share, 1.0) - CONTEXT_BYTES / total_bytes
    if fraction <= 0:
        raise ConfigError(
            f"a worker's share of a GPU must be above {CONTEXT_BYTES / total_bytes:.3f}, the part that the CUDA "
            f"context takes of {total_bytes / 1024**3:.1f} GiB, got {share:g}"
        )
    return fraction


def unusable_text(torch_version: str, cuda_version: str | None) -> str:
    """Text of the error for a GPU that Ray counts but torch cannot use, with versions and remedies."""
    built = f"is built for CUDA {cuda_version}" if cuda_version else "is built without CUDA"
    return (
        f"Ray counts a GPU that torch cannot use: torch {torch_version} {built}, which needs NVIDIA's driver "
        f"{LEAST_DRIVER} or later (see nvidia-smi on the node); update the driver or the machine's image, or run "
        "without GPUs (--gpus-per-cnn-worker 0, --gpus-per-member 0, --gpus-per-trial 0, serve --gpus 0)"
    )
