"""What a training takes of a GPU's memory, and how it is made to fit into its share.

Bytes of weights are exact. Those of activations are an estimate from the layers' shapes, since cuDNN does not publish
what it keeps for the backward pass; `benchmarks/gpu/train_members.py` shows it beside the measured peak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from vidclf import device, torch_gpu
from vidclf.config import FitConfig
from vidclf.ensemble.temporal_model import TemporalClassifier, num_parameters
from vidclf.errors import ConfigError
from vidclf.training.dataset import TrainingData

Result = TypeVar("Result")

FLOAT, HALF = 4, 2
"""Bytes of a value in float32 or TF32, and in bfloat16 or float16."""

WEIGHT_COPIES = 4
"""Of each weight: itself, its gradient, and AdamW's two moments."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a training uses its device's memory."""

    features_on_device: bool = True
    """else each batch is gathered in pinned memory of the host"""
    parts_per_batch: int = 1
    """forward and backward passes that share one optimizer step"""

    def smaller(self, batch_size: int) -> Placement | None:
        """The next one that takes less memory; None where there is none."""
        if self.features_on_device:
            return replace(self, features_on_device=False)
        if self.parts_per_batch >= batch_size:
            return None
        return replace(self, parts_per_batch=min(2 * self.parts_per_batch, batch_size))

    @property
    def text(self) -> str:
        features = "features on the GPU" if self.features_on_device else "features in the host's memory"
        return features + (f", batches in {self.parts_per_batch} parts" if self.parts_per_batch > 1 else "")


WHOLE = Placement()


@dataclass(frozen=True, kw_only=True)
class MemberMemory:
    """GPU memory of a member or trial, in bytes, beside the CUDA context."""

    weights_bytes: int
    """weights, gradients, moments and averaged weights, with the copies that a step makes of them"""
    activations_bytes: int
    """of a whole batch, with its features"""
    features_bytes: int
    """of all videos of train and val, where they are kept on the GPU"""

    def needed_bytes(self, placement: Placement) -> int:
        features_bytes = self.features_bytes if placement.features_on_device else 0
        return self.weights_bytes + -(-self.activations_bytes // placement.parts_per_batch) + features_bytes

    def placement(self, share_bytes: int, batch_size: int) -> Placement | None:
        """The first placement that fits into `share_bytes`; None where none does.

        Whole batches come before features on the GPU: parts of batches take an LSTM nearly as long as whole ones.
        """
        for features_on_device in (True, False):
            whole = Placement(features_on_device=features_on_device)
            if self.needed_bytes(whole) <= share_bytes:
                return whole
        parts = (Placement(features_on_device=False, parts_per_batch=count) for count in range(2, batch_size + 1))
        return next((placement for placement in parts if self.needed_bytes(placement) <= share_bytes), None)


def member_memory(config: FitConfig, data: TrainingData) -> MemberMemory:
    """The memory of one training on these features."""
    num_frames = max(*data.train.lengths, *data.val.lengths)
    with torch.device("meta"):
        model = TemporalClassifier(data.feature_dim, len(data.classes), config)
    return MemberMemory(
        weights_bytes=weights_bytes(num_parameters(model), num_parameters(model.lstm), config),
        activations_bytes=activations_bytes(config, data.feature_dim, num_frames),
        features_bytes=data.train.num_bytes + data.val.num_bytes,
    )


def weights_bytes(num_weights: int, num_in_lstm: int, config: FitConfig) -> int:
    """Bytes of a model and its optimizer, with what a step adds: autocast's copies outside the LSTM in half precision,
    and cuDNN's buffer for the gradients of the LSTM's weights."""
    copies = WEIGHT_COPIES + bool(config.averaged_epochs)
    return FLOAT * copies * num_weights + HALF * (num_weights - num_in_lstm) + FLOAT * num_in_lstm


def activations_bytes(config: FitConfig, feature_dim: int, num_frames: int) -> int:
    """An estimate of what a training step keeps of one whole batch of videos of `num_frames` frames."""
    drawn = max(1, round(num_frames * max(config.multi_scale)))
    seen = min(drawn, config.num_frames) if config.num_frames is not None else drawn
    hidden, wide = config.hidden_dim, 2 * config.hidden_dim
    projected, pooling = config.projection_dim or hidden, config.pooling_dim or hidden
    # Features as gathered, interpolated and with noise, and as the projection's input.
    of_features = 3 * FLOAT * feature_dim + HALF * feature_dim
    # Linear, LayerNorm's input and output, ReLU, dropout and its mask; the pooling has Tanh instead of ReLU.
    of_block = HALF + 4 * FLOAT + 1
    # Per direction and layer: four gates, the cell and its Tanh, and the output; then the gradients of one layer.
    of_lstm = config.num_lstm_layers * 2 * 7 * FLOAT * hidden + 2 * 5 * FLOAT * hidden
    # Input, query, key, value, attended, output, in half precision; residual and LayerNorm; their gradients.
    of_attention = 6 * HALF * wide + 2 * FLOAT * wide + 6 * HALF * wide + HALF * wide
    per_seen = of_block * (projected + pooling) + of_lstm + of_attention
    return config.batch_size * (drawn * of_features + seen * per_seen)


def share_bytes(share: float, gpu_bytes: int) -> int:
    """What a process with `share` of a GPU may allocate beside its CUDA context."""
    return int(device.memory_fraction(share, gpu_bytes) * gpu_bytes)


def place(flag: str, share: float, gpu_bytes: int, memory: MemberMemory, batch_size: int) -> Placement:
    """How a training fits into its share of a GPU. ConfigError, naming the share that would do, where it does not."""
    found = memory.placement(share_bytes(share, gpu_bytes), batch_size)
    if found is None:
        least_bytes = memory.needed_bytes(Placement(features_on_device=False, parts_per_batch=batch_size))
        least = (least_bytes + device.CONTEXT_BYTES) / gpu_bytes
        left_bytes = share_bytes(share, gpu_bytes)
        remedy = f"give at least {least + 0.005:.2f}" if least < 0.995 else "take a smaller model or a larger GPU"
        raise ConfigError(
            f"{flag} must leave {least_bytes / 1e9:.2f} GB of GPU memory to a training, {share:g} of "
            f"{gpu_bytes / 1e9:.1f} GB leaves {left_bytes / 1e9:.2f} GB, which is not enough memory; {remedy}"
        )
    return found


def described(flag: str, share: float, gpu_bytes: int, memory: MemberMemory, placement: Placement) -> str:
    """What a training takes of its share, in a line."""
    needed_bytes = memory.needed_bytes(placement)
    text = (
        f"GPU memory per training: about {(needed_bytes + device.CONTEXT_BYTES) / 1e9:.2f} GB of "
        f"{share * gpu_bytes / 1e9:.2f} GB ({flag} {share:g}): weights and optimizer {memory.weights_bytes / 1e9:.2f}, "
        f"CUDA context {device.CONTEXT_BYTES / 1e9:.2f}; {placement.text}"
    )
    if placement.parts_per_batch > 1:
        whole_bytes = memory.needed_bytes(Placement(features_on_device=False)) + device.CONTEXT_BYTES
        text += f", which take longer than whole ones; a share of {whole_bytes / gpu_bytes + 0.005:.2f} holds those"
    return text


def placement_on(where: torch.device, flag: str, share: float, config: FitConfig, data: TrainingData) -> Placement:
    """How a training fits into its share of the GPU `where`; WHOLE on the CPU. Raises as `place`."""
    gpu_bytes = torch_gpu.memory_bytes(where)
    if gpu_bytes is None:
        return WHOLE
    return place(flag, share, gpu_bytes, member_memory(config, data), config.batch_size)


def within_memory(
    placement: Placement, batch_size: int, train: Callable[[Placement], Result], say: Callable[[str], None]
) -> Result:
    """`train(placement)`, begun again with the next smaller placement where the GPU's memory does not suffice.

    Raises torch.OutOfMemoryError where the smallest one does not fit.
    """
    while True:
        try:
            return train(placement)
        except torch.OutOfMemoryError as error:
            smaller = placement.smaller(batch_size)
            if smaller is None:
                raise
            first_line = str(error).splitlines()[0]
        say(f"out of GPU memory with {placement.text} ({first_line}); goes on with {smaller.text}")
        placement = smaller
        torch.cuda.empty_cache()
