"""Independent streams of random numbers in a training, all derived from the one seed of the member.

Two generators with the same seed draw the same numbers: which units are dropped would then depend on which videos are
drawn. `numpy.random.SeedSequence` therefore derives a seed for each purpose, attempt and epoch (O'Neill 2015,
Developing a seed_seq Alternative). Streams that differ in any of these have no relation to each other.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """Purposes for which a training draws random numbers; each has a stream of its own."""

    WEIGHTS = 0
    """first weights of the model"""
    BOOTSTRAP = 1
    """the member's own sample of the videos"""
    SAMPLER = 2
    """videos of each training step, and their augmentation in time"""
    MODEL = 3
    """dropout and noise on the features, drawn on the device from torch's default generator"""


def stream_seed(seed: int, stream: Stream, *, attempt: int = 1, epoch: int = 0) -> int:
    """The seed of a stream in an epoch of an attempt (training from new weights), for the member's `seed`.

    The result is from 0 to 2^64 - 1. A negative `seed` counts as 2^64 + `seed`.
    """
    sequence = np.random.SeedSequence(seed % 2**64, spawn_key=(int(stream), attempt, epoch))
    return int(sequence.generate_state(1, np.uint64)[0])


def generator(seed: int, stream: Stream, *, attempt: int = 1, epoch: int = 0) -> torch.Generator:
    """A generator on the CPU for a stream in an epoch of an attempt (training from new weights)."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, attempt=attempt, epoch=epoch))
