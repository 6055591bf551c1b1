"""Device of a worker, CPU or GPU, derived from the share of a GPU that it reserved in Ray.

Whether torch finds a GPU does not decide: workers without a reservation inherit `CUDA_VISIBLE_DEVICES` from their
node and would find one too.
"""

from __future__ import annotations

import os

from vidclf.errors import ConfigError

GPU_DEVICE_VARIABLE = "VIDCLF_GPU_DEVICE"
"""Environment variable with the device used for each GPU that Ray counts: `cuda` (default) or `cpu`. With `cpu` the
pipeline of a GPU cluster runs on pretended GPUs without hardware, as the tests need it."""

CONTEXT_BYTES = 600 * 1024**2
"""GPU memory in bytes that a process needs in addition to torch's allocator, for the CUDA context and kernels."""

LEAST_DRIVER = "580"
"""Minimum version of NVIDIA's driver for CUDA 13, with which torch's packages are built."""


def of_share(num_gpus: float) -> str:
    """The device type for a reserved share of a GPU: `cuda`, or `cpu` if the share is 0.

    Raises ConfigError for an unknown value of `VIDCLF_GPU_DEVICE`.
    """
    if not num_gpus:
        return "cpu"
    device = os.environ.get(GPU_DEVICE_VARIABLE) or "cuda"
    if device not in ("cuda", "cpu"):
        raise ConfigError(f"the environment variable {GPU_DEVICE_VARIABLE} must be cuda or cpu, got {device!r}")
    return device


def num_here() -> int:
    """Number of GPUs of this machine that this process can use; 1 with pretended GPUs."""
    if of_share(1.0) == "cpu":
        return 1
    import torch

    return torch.cuda.device_count()


def claim(num_gpus: float) -> str:
    """The device type as in `of_share`; also limits torch to the same share of the GPU's memory.

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
    """The fraction of a GPU's memory that torch may allocate in a worker with `share` of the GPU.

    Raises ConfigError if the CUDA context alone fills the share.
    """
    fraction = min(share, 1.0) - CONTEXT_BYTES / total_bytes
    if fraction <= 0:
        raise ConfigError(
            f"a worker's share of a GPU must be above {CONTEXT_BYTES / total_bytes:.3f}, the part that the CUDA "
            f"context takes of {total_bytes / 1024**3:.1f} GiB, got {share:g}"
        )
    return fraction


def unusable_text(torch_version: str, cuda_version: str | None) -> str:
    """Error message, with remedies, for a GPU that Ray counts and torch cannot use."""
    built = f"is built for CUDA {cuda_version}" if cuda_version else "is built without CUDA"
    return (
        f"Ray counts a GPU that torch cannot use: torch {torch_version} {built}, which needs NVIDIA's driver "
        f"{LEAST_DRIVER} or later (see nvidia-smi on the node); update the driver or the machine's image, or run "
        "without GPUs (--gpus-per-cnn-worker 0, --gpus-per-member 0, --gpus-per-trial 0, serve --gpus 0)"
    )
