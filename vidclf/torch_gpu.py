"""A share of a GPU for training: the device, and what it computes in."""

from __future__ import annotations

import torch

from vidclf import device


def take_share(share: float) -> torch.device:
    """The device of a member or trial that reserved `share` of a GPU, with torch held to that share of its memory:
    one that would take more fails, rather than those beside it. ConfigError where torch cannot use the GPU."""
    if device.claim(share) == "cpu":
        return torch.device("cpu")
    torch.cuda.empty_cache()  # of the trial that this process had before
    use_tf32()
    return torch.device("cuda", torch.cuda.current_device())


def use_tf32() -> None:
    """Let a GPU compute products of float32 matrices in TF32: float32's range with 10 bits of fraction, several times
    as fast. cuDNN's LSTMs do so by default."""
    torch.set_float32_matmul_precision("high")


def precision(kind: str) -> str:
    """What a training computes in on a device of this kind, `cuda` or `cpu`."""
    return "bf16, its LSTM in tf32" if kind == "cuda" else "fp32"


def memory_bytes(where: torch.device) -> int | None:
    """Memory of a whole GPU; None for the CPU."""
    return torch.cuda.get_device_properties(where).total_memory if where.type == "cuda" else None
