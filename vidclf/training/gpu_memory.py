"""GPU memory that one training needs, and the settings that make the training fit into its share of a GPU.

These settings are called a placement: features in the GPU's or the host's memory, and batches in one or several parts.

Bytes of weights are exact. Bytes of activations are an estimate from the layers' shapes, because cuDNN does not publish
what it keeps for the backward pass. `benchmarks/gpu/train_members.py` compares the estimate with the measured peak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from vidclf import device, torch_gpu
from vidclf.config import FitConfig
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.temporal_model import TemporalClassifier, num_parameters
from vidclf.errors import ConfigError
from vidclf.training.dataset import TrainingData

Result = TypeVar("Result")

FLOAT, HALF = 4, 2
"""Bytes per value in float32 or TF32, and in bfloat16 or float16."""

WEIGHT_COPIES = 4
"""Numbers in memory for each weight: the weight, its gradient, and the two moments of AdamW."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a training uses the memory of its device: where the features are, and in how many parts a batch is
    computed."""

    features_on_device: bool = True
    """whether all features are in GPU memory; otherwise those of each batch are gathered in pinned memory of the
    host"""
    parts_per_batch: int = 1
    """number of parts of a batch; each has its own forward and backward pass, and all share one optimizer step"""

    def smaller(self, batch_size: int) -> Placement | None:
        """The next placement to try, which takes less memory and is slower: first with features in the host's memory,
        then with twice as many parts per batch. None if a batch of `batch_size` videos cannot be divided further."""
        if self.features_on_device:
            return replace(self, features_on_device=False)
        if self.parts_per_batch >= batch_size:
            return None
        return replace(self, parts_per_batch=min(2 * self.parts_per_batch, batch_size))

    @property
    def text(self) -> str:
        """The placement in words, for messages, for example "features on the GPU"."""
        features = "features on the GPU" if self.features_on_device else "features in the host's memory"
        return features + (f", batches in {self.parts_per_batch} parts" if self.parts_per_batch > 1 else "")


WHOLE = Placement()
"""Features on the device and batches in one part: the fastest placement, which takes the most memory."""


@dataclass(frozen=True, kw_only=True)
class MemberMemory:
    """GPU memory, in bytes, that the training of one member (model of the ensemble) needs, without the CUDA context."""

    weights_bytes: int
    """weights, gradients, moments, averaged weights, and the copies of weights that a training step makes"""
    activations_bytes: int
    """activations that a training step keeps for a whole batch, including the batch's features"""
    features_bytes: int
    """features of all train and val videos; counted only if they are on the GPU"""

    @property
    def model_bytes(self) -> int:
        """Bytes of a model in training, with a whole batch."""
        return self.weights_bytes + self.activations_bytes

    def needed_bytes(self, placement: Placement) -> int:
        """Bytes of GPU memory that the training takes with a placement (where features are, and parts per batch)."""
        features_bytes = self.features_bytes if placement.features_on_device else 0
        return self.weights_bytes + -(-self.activations_bytes // placement.parts_per_batch) + features_bytes

    def placement(self, share_bytes: int, batch_size: int) -> Placement | None:
        """The fastest placement (where features are, and parts per batch) that fits into `share_bytes`, or None.

        Whole batches have priority over features on the GPU, because an LSTM takes nearly as long for a part of a batch
        as for a whole one.
        """
        for features_on_device in (True, False):
            whole = Placement(features_on_device=features_on_device)
            if self.needed_bytes(whole) <= share_bytes:
                return whole
        parts = (Placement(features_on_device=False, parts_per_batch=count) for count in range(2, batch_size + 1))
        return next((placement for placement in parts if self.needed_bytes(placement) <= share_bytes), None)


def member_memory(config: FitConfig, data: TrainingData) -> MemberMemory:
    """GPU memory that one training with these settings needs on the given data."""
    num_frames = max(*data.train.lengths, *data.val.lengths)
    model = model_memory(config, data.feature_dim, num_frames, data.hierarchy.num_outputs)
    return replace(model, features_bytes=data.train.num_bytes + data.val.num_bytes)


def model_memory(config: FitConfig, feature_dim: int, num_frames: int, num_outputs: int = 1) -> MemberMemory:
    """Memory that one training needs on its device for videos of `num_frames` frames, without the features of videos
    that are not in the batch. The number of outputs hardly counts."""
    return MemberMemory(
        weights_bytes=weights_bytes(*model_sizes(config, feature_dim, num_outputs), config),
        activations_bytes=activations_bytes(config, feature_dim, num_frames),
        features_bytes=0,
    )


def model_sizes(config: FitConfig, feature_dim: int, num_outputs: int) -> tuple[int, int]:
    """Number of weights of a model, and number of those in its LSTM."""
    with torch.device("meta"):
        model = build_model(feature_dim, num_outputs, config)
    return num_parameters(model), num_parameters(model.lstm) if isinstance(model, TemporalClassifier) else 0


def weights_bytes(num_weights: int, num_in_lstm: int, config: FitConfig) -> int:
    """Bytes of a model and its optimizer, including the copies of weights that a training step makes.

    These copies are autocast's half-precision copies of the weights outside the LSTM, and cuDNN's buffer for the
    gradients of the LSTM's weights.
    """
    copies = WEIGHT_COPIES + bool(config.averaged_epochs)
    return FLOAT * copies * num_weights + HALF * (num_weights - num_in_lstm) + FLOAT * num_in_lstm


def activations_bytes(config: FitConfig, feature_dim: int, num_frames: int) -> int:
    """Estimated bytes that a training step keeps for one whole batch of videos with `num_frames` frames each."""
    num_drawn = max(1, round(num_frames * max(config.multi_scale)))
    num_used = min(num_drawn, config.num_frames) if config.num_frames is not None else num_drawn
    # Features: gathered, interpolated, with noise, and as input of the first linear layer.
    feature_bytes = 3 * FLOAT * feature_dim + HALF * feature_dim
    bytes_per_used = (
        _bilstm_frame_bytes(config) if config.model == "bilstm" else _probe_frame_bytes(config, feature_dim)
    )
    return config.batch_size * (num_drawn * feature_bytes + num_used * bytes_per_used)


def _bilstm_frame_bytes(config: FitConfig) -> int:
    """Estimated bytes that a training step of a BiLSTM keeps for one frame, besides the frame's features."""
    hidden, wide = config.hidden_dim, 2 * config.hidden_dim
    projected, pooling = config.projection_dim or hidden, config.pooling_dim or hidden
    # Linear, input and output of LayerNorm, ReLU, dropout and its mask; the pooling has Tanh instead of ReLU.
    block_bytes = HALF + 4 * FLOAT + 1
    # Per direction and layer: four gates, the cell and its Tanh, and the output; then the gradients of one layer.
    lstm_bytes = config.num_lstm_layers * 2 * 7 * FLOAT * hidden + 2 * 5 * FLOAT * hidden
    # Input, query, key, value, attended, output, in half precision; residual and LayerNorm; their gradients.
    attention_bytes = 6 * HALF * wide + 2 * FLOAT * wide + 6 * HALF * wide + HALF * wide
    return block_bytes * (projected + pooling) + lstm_bytes + attention_bytes


def _probe_frame_bytes(config: FitConfig, feature_dim: int) -> int:
    """Estimated bytes that a training step of an attentive probe keeps for one frame, besides the frame's features."""
    # Output of LayerNorm, and its gradient; keys and values in half precision, and their gradients; per head the score,
    # the weight, dropout and its mask.
    norm_bytes = 2 * FLOAT * feature_dim
    attention_bytes = 4 * HALF * 2 * config.hidden_dim + config.num_attention_heads * (3 * FLOAT + 1)
    return norm_bytes + attention_bytes


def share_bytes(share: float, gpu_bytes: int) -> int:
    """Bytes of GPU memory that a process with the fraction `share` of a GPU may allocate, besides its CUDA context."""
    return int(device.memory_fraction(share, gpu_bytes) * gpu_bytes)


def place(flag: str, share: float, gpu_bytes: int, memory: MemberMemory, batch_size: int) -> Placement:
    """The fastest placement (where features are, and parts per batch) for a training in the fraction `share` of a GPU.

    Raises ConfigError, which names `flag` and the smallest sufficient share, if no placement fits.
    """
    placement = memory.placement(share_bytes(share, gpu_bytes), batch_size)
    if placement is None:
        least_bytes = memory.needed_bytes(Placement(features_on_device=False, parts_per_batch=batch_size))
        least_share = (least_bytes + device.CONTEXT_BYTES) / gpu_bytes
        available_bytes = share_bytes(share, gpu_bytes)
        remedy = (
            f"give at least {least_share + 0.005:.2f}"
            if least_share < 0.995
            else "take a smaller model or a larger GPU"
        )
        raise ConfigError(
            f"{flag} must leave {least_bytes / 1e9:.2f} GB of GPU memory to a training, {share:g} of "
            f"{gpu_bytes / 1e9:.1f} GB leaves {available_bytes / 1e9:.2f} GB, which is not enough memory; {remedy}"
        )
    return placement


def described(flag: str, share: float, gpu_bytes: int, memory: MemberMemory, placement: Placement) -> str:
    """A line for the log: how much of its share of the GPU's memory a training takes, and with which placement."""
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


def placement_on(
    torch_device: torch.device, flag: str, share: float, config: FitConfig, data: TrainingData
) -> Placement:
    """The placement (where features are, and parts per batch) with which a training fits into its share of a GPU; WHOLE
    on the CPU. ConfigError if none fits."""
    gpu_bytes = torch_gpu.memory_bytes(torch_device)
    if gpu_bytes is None:
        return WHOLE
    return place(flag, share, gpu_bytes, member_memory(config, data), config.batch_size)


def within_memory(
    placement: Placement, batch_size: int, train: Callable[[Placement], Result], say: Callable[[str], None]
) -> Result:
    """Result of `train(placement)`, called again with a smaller placement each time that the GPU runs out of memory.

    A placement says where features are and in how many parts a batch is computed. Each repetition is reported to `say`.
    Raises torch.OutOfMemoryError if the smallest placement does not fit.
    """
    while True:
        try:
            return train(placement)
        except torch.OutOfMemoryError as error:
            smaller = placement.smaller(batch_size)
            if smaller is None:
                raise
            first_line = str(error).splitlines()[0]
        say(f"out of GPU memory with {placement.text} ({first_line}); continues with {smaller.text}")
        placement = smaller
        torch.cuda.empty_cache()
