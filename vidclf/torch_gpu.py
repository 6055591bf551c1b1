"""A share of a GPU for training: torch device, memory limit and precision."""

from __future__ import annotations

import torch

from vidclf import device


def take_share(share: float) -> torch.device:
    """The torch device of a member or trial that reserved `share` of a GPU.

    Limits torch to the same share of the GPU's memory. A training that needs more fails, instead of taking memory from
    other trainings on the same GPU. Raises ConfigError if torch cannot use the GPU.
    """
    if device.claim(share) == "cpu":
        return torch.device("cpu")
    torch.cuda.empty_cache()  # left by the previous trial of this process
    use_tf32()
    return torch.device("cuda", torch.cuda.current_device())


def use_tf32() -> None:
    """Allow TF32 for products of float32 matrices on a GPU.

    TF32 has the range of float32 with 10 bits of fraction, and is several times as fast. The LSTMs of cuDNN use it by
    default.
    """
    torch.set_float32_matmul_precision("high")


def precision(kind: str) -> str:
    """Description of the precision of a training on a device type, `cuda` or `cpu`."""
    return "bf16, its LSTM in tf32" if kind == "cuda" else "fp32"


def memory_bytes(where: torch.device) -> int | None:
    """Memory of the whole GPU in bytes; None for the CPU."""
    return torch.cuda.get_device_properties(where).total_memory if where.type == "cuda" else None
