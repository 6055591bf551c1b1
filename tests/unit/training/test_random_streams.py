"""Seeds of the random streams of a training."""

from __future__ import annotations

import torch

from vidclf.training.random_streams import Stream, generator, stream_seed


def test_the_seeds_are_those_of_a_seed_sequence() -> None:
    # Computed with a separate implementation of O'Neill's algorithm in plain integers.
    assert stream_seed(0, Stream.WEIGHTS) == 2536635839775130773
    assert stream_seed(0, Stream.SAMPLER, epoch=1) == 11525603657343385182
    assert stream_seed(0, Stream.MODEL, epoch=1) == 14611799935354504877
    assert stream_seed(7, Stream.MODEL, attempt=2, epoch=15) == 5935358571293733201
    assert stream_seed(-1, Stream.WEIGHTS) == 14296702418518800696


def test_no_two_streams_have_a_seed_in_common() -> None:
    # torch's generator on the CPU uses the lower 32 bits of a seed.
    seeds = [
        stream_seed(seed, stream, attempt=attempt, epoch=epoch) % 2**32
        for seed in range(4)
        for stream in Stream
        for attempt in (1, 2, 3)
        for epoch in range(20)
    ]
    assert len(set(seeds)) == len(seeds) == 960


def test_a_generator_repeats_its_stream() -> None:
    first, second = (torch.rand(3, generator=generator(5, Stream.SAMPLER, epoch=2)) for _ in range(2))
    assert torch.equal(first, second)
