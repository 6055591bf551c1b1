"""Use of a share of a GPU with torch: the device, the memory limit and the number format (precision)."""

from __future__ import annotations

import torch

from vidclf import device


def take_share(share: float) -> torch.device:
    """Torch device for a Ray worker that reserved `share` of a GPU; the CPU if `share` is 0.

    From then on torch may use the same share of the GPU's memory, not more: a training that needs more fails, instead
    of taking memory from other trainings on this GPU. Raises ConfigError if torch cannot use the GPU.
    """
    if device.claim(share) == "cpu":
        return torch.device("cpu")
    torch.cuda.empty_cache()  # left by the previous trial of this process
    use_tf32()
    return torch.device("cuda", torch.cuda.current_device())


def use_tf32() -> None:
    """Let torch multiply float32 matrices in the format TF32 on GPUs.

    TF32 has the range of float32 but only 10 bits of fraction, and is several times as fast. LSTMs on a GPU (cuDNN) use
    it by default, without this call.
    """
    torch.set_float32_matmul_precision("high")


def precision(kind: str, *, has_lstm: bool = True) -> str:
    """Text that names the number formats in which a training computes on the device type `kind`, `cuda` or `cpu`."""
    if kind != "cuda":
        return "fp32"
    return "bf16, its LSTM in tf32" if has_lstm else "bf16"


def memory_bytes(where: torch.device) -> int | None:
    """Memory in bytes of the whole GPU `where`; None if `where` is the CPU."""
    return torch.cuda.get_device_properties(where).total_memory if where.type == "cuda" else None
