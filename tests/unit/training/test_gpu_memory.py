"""GPU memory of a training, in literal bytes, and its placement in its share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidclf.config import FitConfig
from vidclf.errors import ConfigError
from vidclf.training import gpu_memory
from vidclf.training.dataset import Sequences, TrainingData
from vidclf.training.gpu_memory import MemberMemory, Placement

FULL_SIZE = FitConfig()
FRAME_BYTES = 1280 * 2
MIG_SLICE = 9_800_000_000
FLAG = "--gpus-per-member"


def data(num_train: int, num_val: int, num_frames: int) -> TrainingData:
    splits = [
        Sequences.of([np.empty((num_frames, 1280), np.float16)] * number, [0] * number)
        for number in (num_train, num_val)
    ]
    return TrainingData(classes=["A", "B", "C", "D"], train=splits[0], val=splits[1])


def test_weights_are_counted_with_what_a_step_adds() -> None:
    # 10 weights, 6 of them in the LSTM: weight, gradient, two moments; then the averaged weights; then 4 weights in
    # half precision, and the gradients of the 6 again.
    assert gpu_memory.weights_bytes(10, 6, FitConfig(averaged_epochs=0.0)) == 4 * 4 * 10 + 2 * 4 + 4 * 6
    assert gpu_memory.weights_bytes(10, 6, FULL_SIZE) == 5 * 4 * 10 + 2 * 4 + 4 * 6


def test_activations_grow_with_the_longest_scale_and_the_batch() -> None:
    # 1.15 × 20 = 23 frames are drawn.
    tiny = FitConfig(hidden_dim=1, num_attention_heads=1, num_lstm_layers=1, classifier_dims=(), batch_size=2)
    feature_bytes, block_bytes, lstm_bytes, attention_bytes = (
        14 * 3,
        2 * 19,
        2 * 7 * 4 + 2 * 5 * 4,
        (12 + 8 + 12 + 2) * 2,
    )
    assert gpu_memory.activations_bytes(tiny, 3, 20) == 2 * 23 * (
        feature_bytes + block_bytes + lstm_bytes + attention_bytes
    )
    ten_frames = FitConfig(
        hidden_dim=1, num_attention_heads=1, num_lstm_layers=1, classifier_dims=(), batch_size=2, num_frames=10
    )
    assert gpu_memory.activations_bytes(ten_frames, 3, 20) == 2 * (
        23 * feature_bytes + 10 * (block_bytes + lstm_bytes + attention_bytes)
    )


def test_a_full_size_member() -> None:
    assert gpu_memory.member_memory(FULL_SIZE, data(8, 2, 73)) == MemberMemory(
        weights_bytes=1_539_949_166, activations_bytes=1_217_986_560, features_bytes=10 * 73 * FRAME_BYTES
    )


def test_a_full_size_attentive_probe() -> None:
    # 8,670,212 weights, none of them in an LSTM. For 48 × 84 drawn frames: the features four times, LayerNorm and its
    # gradient, keys and values with their gradients, and 12 heads.
    assert gpu_memory.member_memory(FitConfig(model="attentive"), data(8, 2, 73)) == MemberMemory(
        weights_bytes=(5 * 4 + 2) * 8_670_212,
        activations_bytes=48 * 84 * (1280 * 14 + 1280 * 8 + 1536 * 8 + 12 * 13),
        features_bytes=10 * 73 * FRAME_BYTES,
    )


@pytest.mark.parametrize(
    ("share_bytes", "expected"),
    [
        (1900, Placement()),
        (1899, Placement(features_on_device=False)),
        (1400, Placement(features_on_device=False)),
        (1399, Placement(features_on_device=False, parts_per_batch=2)),
        (1100, Placement(features_on_device=False, parts_per_batch=4)),
        (1099, None),
    ],
)
def test_features_leave_the_gpu_before_batches_are_parted(share_bytes: int, expected: Placement | None) -> None:
    sizes = MemberMemory(weights_bytes=1000, activations_bytes=400, features_bytes=500)
    assert sizes.placement(share_bytes, batch_size=4) == expected


def test_four_full_size_members_on_a_slice_of_10_gb() -> None:
    sizes = gpu_memory.member_memory(FULL_SIZE, data(2600, 400, 73))
    assert sizes.features_bytes == 560_640_000
    quarter = gpu_memory.place(FLAG, 0.25, MIG_SLICE, sizes, 48)
    assert quarter == Placement(features_on_device=False, parts_per_batch=5)
    # Four such members with their CUDA contexts of 629,145,600 bytes each fit into the slice.
    assert 4 * (sizes.needed_bytes(quarter) + 629_145_600) == 9_650_768_312
    assert gpu_memory.place(FLAG, 0.5, MIG_SLICE, sizes, 48) == Placement()
    assert gpu_memory.described(FLAG, 0.25, MIG_SLICE, sizes, quarter) == (
        "GPU memory per training: about 2.41 GB of 2.45 GB (--gpus-per-member 0.25): weights and optimizer 1.54, CUDA "
        "context 0.63; features in the host's memory, batches in 5 parts, which take longer than whole ones; a share "
        "of 0.35 holds those"
    )


def test_a_share_that_is_too_small_is_refused_with_the_least_that_would_do() -> None:
    sizes = MemberMemory(weights_bytes=2_000_000_000, activations_bytes=48_000_000, features_bytes=0)
    with pytest.raises(
        ConfigError,
        match=r"--gpus-per-trial must leave 2\.00 GB of GPU memory to a training, 0\.25 of 9\.8 GB leaves 1\.82 GB, "
        r"which is not enough memory; give at least 0\.27",
    ):
        gpu_memory.place("--gpus-per-trial", 0.25, MIG_SLICE, sizes, 48)
    gpu_memory.place("--gpus-per-trial", 0.27, MIG_SLICE, sizes, 48)
    large = MemberMemory(weights_bytes=20_000_000_000, activations_bytes=0, features_bytes=0)
    with pytest.raises(ConfigError, match="take a smaller model or a larger GPU"):
        gpu_memory.place("--gpus-per-trial", 1.0, MIG_SLICE, large, 48)


def test_a_training_that_runs_out_goes_on_with_less() -> None:
    tried: list[Placement] = []
    messages: list[str] = []

    def train(placement: Placement) -> str:
        tried.append(placement)
        if placement.parts_per_batch < 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")
        return "trained"

    assert gpu_memory.within_memory(Placement(), 6, train, messages.append) == "trained"
    assert [(placement.features_on_device, placement.parts_per_batch) for placement in tried] == [
        (True, 1),
        (False, 1),
        (False, 2),
        (False, 4),
    ]
    assert messages[1] == (
        "out of GPU memory with features in the host's memory (CUDA out of memory. Tried to allocate 2.00 GiB); "
        "continues with features in the host's memory, batches in 2 parts"
    )
    with pytest.raises(torch.OutOfMemoryError):
        gpu_memory.within_memory(Placement(), 3, train, messages.append)


def test_the_cpu_needs_no_plan() -> None:
    assert gpu_memory.placement_on(torch.device("cpu"), FLAG, 0.0, FULL_SIZE, data(2, 2, 3)) == Placement()
