"""The packets that a frame needs, with literal indices."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from vidclf.video import packets
from vidclf.video.packets import PacketIndex, PacketRange, PacketTable


def index_of(pts: list[int], keyframes: list[int]) -> PacketIndex:
    """Return the index of packets with these times in decoding order, and with these packets as keyframes."""
    return PacketIndex(
        pts_ticks=np.array(pts),
        is_keyframe=np.isin(np.arange(len(pts)), keyframes),
        is_shown=np.ones(len(pts), bool),
        end_ticks=max(pts) + 1,
        complete_from=np.arange(len(pts)),
        positions=np.full(len(pts), -1),
        sizes=np.ones(len(pts), int),
    )


def test_ranges_begin_at_a_keyframe_and_end_at_the_wanted_packet() -> None:
    index = index_of([0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11], keyframes=[0, 4, 8])
    assert packets.needed_ranges(index, np.array([1, 10])) == [PacketRange(0, 2), PacketRange(8, 9)]
    assert packets.needed_ranges(index, np.array([3, 4])) == [PacketRange(0, 4)]
    assert packets.needed_ranges(index, np.array([5])) == [PacketRange(4, 6)]


def test_a_leading_picture_needs_the_group_before() -> None:
    # Packet 5 is shown at time 3, before its keyframe (packet 4), which is shown at time 4.
    index = index_of([0, 1, 2, 8, 4, 3, 5], keyframes=[0, 4])
    assert packets.needed_ranges(index, np.array([3])) == [PacketRange(0, 5)]


def test_frames_before_the_first_keyframe_are_decoded_from_the_beginning() -> None:
    assert packets.needed_ranges(index_of([0, 1, 2, 3], keyframes=[2]), np.array([1, 3])) == [PacketRange(0, 3)]


def test_a_leading_picture_and_its_keyframe_are_one_range_from_the_group_before() -> None:
    # Packet 5 is shown at time 7, before its keyframe (packet 4), which is shown at time 8.
    index = index_of([0, 1, 2, 3, 8, 7, 9], keyframes=[0, 4])
    assert packets.needed_ranges(index, np.array([7, 8])) == [PacketRange(0, 5)]


def test_a_picture_before_the_end_of_a_round_of_intra_refresh_needs_the_round_before() -> None:
    # Decoding that begins with packet 2 gives pictures from packet 4 on, with packet 5 from 7 on.
    index = replace(index_of(list(range(9)), keyframes=[0, 2, 5]), complete_from=np.array([0, 1, 4, 3, 4, 7, 6, 7, 8]))
    assert packets.needed_ranges(index, np.array([3])) == [PacketRange(0, 3)]
    assert packets.needed_ranges(index, np.array([6])) == [PacketRange(2, 6)]
    assert packets.needed_ranges(index, np.array([8])) == [PacketRange(5, 8)]


@pytest.mark.parametrize(("unknown", "is_indexed"), [([0, 1], True), ([0, 2], False), ([3], False)])
def test_only_shown_frames_and_their_keyframes_need_times(unknown: list[int], is_indexed: bool) -> None:
    numbers = np.arange(4)
    table = PacketTable(
        pts_ticks=numbers * 10,
        has_pts=~np.isin(numbers, unknown),
        is_keyframe=numbers % 2 == 0,
        is_shown=np.isin(numbers, [1, 3] if unknown == [0, 2] else [2, 3]),
        complete_from=numbers,
        positions=numbers,
        sizes=numbers,
        kept=None,
        has_content=True,
        is_second_field=None,
        are_times_guessed=False,
        time_jumps=1,
        last_duration_ticks=10,
        time_base=Fraction(1, 100),
    )
    assert (packets.index_of(table) is not None) is is_indexed
