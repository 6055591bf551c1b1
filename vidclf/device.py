"""The device of a worker, which follows from the share of a GPU that the worker reserved.

What torch sees does not decide: Ray leaves the node's `CUDA_VISIBLE_DEVICES` to workers that reserve no GPU.
"""

from __future__ import annotations

import os

from vidclf.errors import ConfigError

GPU_DEVICE_VARIABLE = "VIDCLF_GPU_DEVICE"
"""Environment variable: the device behind each GPU that Ray counts, `cuda` (default) or `cpu`. With `cpu` a cluster
whose GPUs are made up runs the graph of a cluster with GPUs; the tests do so."""

CONTEXT_BYTES = 600 * 1024**2
"""GPU memory that a process takes beside torch's allocator: the CUDA context and the libraries' kernels."""

LEAST_DRIVER = "580"
"""Least version of NVIDIA's driver for the CUDA 13 that torch's packages are built with."""


def of_share(num_gpus: float) -> str:
    """`cuda` for a worker that reserved a share of a GPU, else `cpu`."""
    if not num_gpus:
        return "cpu"
    device = os.environ.get(GPU_DEVICE_VARIABLE) or "cuda"
    if device not in ("cuda", "cpu"):
        raise ConfigError(f"the environment variable {GPU_DEVICE_VARIABLE} must be cuda or cpu, got {device!r}")
    return device


def num_here() -> int:
    """GPUs of this machine that this process sees; with GPUs that are made up, one."""
    if of_share(1.0) == "cpu":
        return 1
    import torch

    return torch.cuda.device_count()


def claim(num_gpus: float) -> str:
    """`of_share`, with torch held to that share of the GPU's memory.

    Raises ConfigError where Ray counts a GPU that torch cannot use.
    """
    device = of_share(num_gpus)
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(unusable_text(torch.__version__, torch.version.cuda))
        index = torch.cuda.current_device()  # the memory fraction wants a device with an index
        total_bytes = torch.cuda.get_device_properties(index).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_fraction(num_gpus, total_bytes), index)
    return device


def memory_fraction(share: float, total_bytes: int) -> float:
    """The part of a GPU's memory that torch may allocate, of a worker with `share` of the GPU. Raises ConfigError for
    a share that the CUDA context alone fills."""
    fraction = min(share, 1.0) - CONTEXT_BYTES / total_bytes
    if fraction <= 0:
        raise ConfigError(
            f"a worker's share of a GPU must be above {CONTEXT_BYTES / total_bytes:.3f}, which the CUDA context takes "
            f"of {total_bytes / 1024**3:.1f} GiB, got {share:g}"
        )
    return fraction


def unusable_text(torch_version: str, cuda_version: str | None) -> str:
    """What to do about a GPU that Ray counts and torch does not see."""
    built = f"is built for CUDA {cuda_version}" if cuda_version else "is built without CUDA"
    return (
        f"Ray counts a GPU that torch cannot use: torch {torch_version} {built}, which takes NVIDIA's driver "
        f"{LEAST_DRIVER} or later (see nvidia-smi on the node); update the driver or the machine's image, or run "
        "without GPUs (--gpus-per-cnn-worker 0, --gpus-per-member 0, --gpus-per-trial 0, serve --gpus 0)"
    )
