"""Interlaced H.264 whose packets are fields, and H.264 with intra refresh, are decoded by packet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support.field_pictures import field_pictures, write_field_pictures
from tests.support.videos import as_it_is, read_index, write_video
from vidclf.video import decode, indexed_video, planned_reader
from vidclf.video.access_units import NEVER, CompletePictures, reader_of, second_fields
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.h264 import H264Reader
from vidclf.video.packets import demuxed, scan
from vidclf.video.sampling import SamplingPlan
from vidclf.video.sequential_reader import SequentialReader


@pytest.fixture
def num_decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Frames as the decoder returns them: "planned" or "sequential" per frame."""
    frames: list[str] = []
    by_packet, in_sequence = planned_reader.decoded_frames, SequentialReader._undamaged_frames

    def planned(*args: Any) -> Iterator[Any]:
        for frame in by_packet(*args):
            frames.append("planned")
            yield frame

    def sequential(self: SequentialReader, damage: list[str]) -> Iterator[tuple[int, Any]]:
        for frame in in_sequence(self, damage):
            frames.append("sequential")
            yield frame

    monkeypatch.setattr(planned_reader, "decoded_frames", planned)
    monkeypatch.setattr(SequentialReader, "_undamaged_frames", sequential)
    return frames


def decoded(path: Path, num_frames: int) -> DecodedVideo:
    return decode.decode_video(str(path), SamplingPlan(num_frames=num_frames, avoid_black=False), as_it_is)


def indices(video: DecodedVideo) -> list[int]:
    return [read_index(frame) for frame in video.frames_THWC]


@pytest.mark.parametrize("is_reordered", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.ts", {}),
        ("a.ts", {"has_time_per_field": False}),
        ("a.ts", {"fields_per_packet": 2}),
        ("a.mkv", {}),
        ("a.mkv", {"fields_per_packet": 2}),
        ("a.mp4", {}),
        ("a.mp4", {"fields_per_packet": 2}),
    ],
)
def test_fields_that_are_packets_are_planned_as_pictures(
    tmp_path: Path, name: str, options: dict[str, Any], is_reordered: bool, num_decoded: list[str]
) -> None:
    path = write_field_pictures(tmp_path / name, 40, is_reordered=is_reordered, **options)
    with av.open(str(path)) as container:
        assert len(list(demuxed(container, container.streams.video[0]))) == 40
    video = decoded(path, 4)
    assert (indices(video), video.duration_s) == ([5, 15, 25, 35], pytest.approx(4.0, abs=0.1))
    assert video.pts_s.tolist() == pytest.approx([0.5, 1.5, 2.5, 3.5])
    # Of each group of ten pictures the first six; where pictures are reordered, those to which others refer.
    assert num_decoded == ["planned"] * (20 if is_reordered else 24)


def test_packets_of_fields_that_are_too_many_to_keep_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_decoded: list[str]
) -> None:
    monkeypatch.setattr(indexed_video, "KEEP_PACKETS_BYTES", 1000)
    path = write_field_pictures(tmp_path / "a.ts", 40)
    assert indices(decoded(path, 4)) == [5, 15, 25, 35]
    assert set(num_decoded) == {"planned"}


def test_every_field_picture_is_that_of_a_decode_in_sequence(tmp_path: Path) -> None:
    path = write_field_pictures(tmp_path / "a.ts", 25, is_reordered=True)
    with av.open(str(path)) as container:
        in_sequence = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for num_frames in (1, 3, 7, 25):
        frames = decoded(path, num_frames).frames_THWC
        wanted = [read_index(frame) for frame in frames]
        assert all(np.array_equal(frame, in_sequence[index]) for frame, index in zip(frames, wanted, strict=True))


def test_a_recording_cut_between_two_fields_begins_with_the_next_keyframe(tmp_path: Path) -> None:
    path = write_field_pictures(tmp_path / "a.ts", 40)
    whole = path.read_bytes()
    path.write_bytes(whole[len(whole) // 8 // 188 * 188 :])
    assert indices(decoded(path, 73)) == list(range(10, 40))


@pytest.mark.parametrize(
    ("pts_ticks", "expected"),
    [
        ([0, 1, 2, 3, 4, 5], [0, 1, 0, 1, 0, 1]),
        ([2, 3, 6, 7, 4, 5, 8, 9], [0, 1, 0, 1, 0, 1, 0, 1]),
        ([0, 1, 2, 4, 5, 6, 7], [0, 1, 0, 0, 1, 0, 1]),  # a whole picture at 2
        ([0, 1501, 3003, 4505, 6006, 7507], [0, 1, 0, 1, 0, 1]),  # 59.94 fields per second, in whole ticks
    ],
)
def test_the_times_tell_second_fields(pts_ticks: list[int], expected: list[int]) -> None:
    is_shown = np.ones(len(pts_ticks), np.bool_)
    assert second_fields(np.array(pts_ticks), is_shown).tolist() == [bool(number) for number in expected]


def test_a_field_without_its_other_half_stays_a_packet() -> None:
    pictures = list(field_pictures(2))
    reader = H264Reader(b"")
    top, bottom = pictures[0].fields
    assert [(field.frame_num, field.is_bottom) for field in map(reader.lone_field, (top, bottom)) if field] == [
        (0, False),
        (0, True),
    ]
    assert reader.lone_field(top + bottom) is None
    later = reader.lone_field(pictures[1].fields[0])
    assert later is not None
    assert (later.frame_num, later.is_bottom, later.is_keyframe) == (1, False, False)


def test_nothing_is_read_of_packets_without_parameters_or_with_damage() -> None:
    reader = H264Reader(b"")
    assert reader.lone_field(field_pictures(2).__next__().fields[1]) is None
    for content in (b"", b"\0\0\1", b"\0\0\1\x65", b"\0\0\0\1\x67\x64", b"\0\0\1\x06\xff\xff", bytes(100)):
        assert reader.lone_field(content) is None
        assert reader.pictures_until_complete(content) == 0
    assert H264Reader(b"\1\x64\0\x1f\xff\xe1\xff").lone_field(b"\0\0\0\1") is None


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_intra_refresh_is_planned_from_where_pictures_are_complete(
    tmp_path: Path, name: str, b_frames: int, num_decoded: list[str]
) -> None:
    options = {"x264-params": f"intra-refresh=1:keyint=20:scenecut=0:bframes={b_frames}"}
    path = write_video(tmp_path / name, 90, size=(160, 96), noise=True, b_frames=b_frames, codec_options=options)
    with av.open(str(path)) as container:
        in_sequence = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video = decoded(path, 3)
    assert [round(time_s * 10) for time_s in video.pts_s] == [15, 45, 75]
    for frame, index in zip(video.frames_THWC, (15, 45, 75), strict=True):
        assert np.array_equal(frame, in_sequence[index])
    assert set(num_decoded) == {"planned"}
    # Frame 45 is reached from packet 20 on, whose round is complete at 28, and frame 75 from packet 60 on. The decoder
    # returns no picture that is not complete.
    assert len(num_decoded) == (34 if b_frames else 42)


def test_the_end_of_a_round_of_intra_refresh(tmp_path: Path) -> None:
    options = {"x264-params": "intra-refresh=1:keyint=20:scenecut=0:bframes=0"}
    path = write_video(tmp_path / "a.ts", 90, size=(160, 96), noise=True, codec_options=options)
    with av.open(str(path)) as container:
        table = scan(container, container.streams.video[0])
    assert np.flatnonzero(table.is_keyframe).tolist() == [0, 20, 40, 60, 80]
    assert table.complete_from[[0, 20, 40, 60, 80]].tolist() == [0, 28, 48, 68, 88]
    path = write_video(tmp_path / "b.ts", 85, size=(160, 96), noise=True, codec_options=options)
    with av.open(str(path)) as container:
        table = scan(container, container.streams.video[0])
    assert table.complete_from[80] == NEVER


def test_other_codecs_are_complete_at_every_keyframe(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 12, codec="mpeg4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        reader = reader_of(stream)
        assert reader is None
        complete = CompletePictures(reader)
        for packet in demuxed(container, stream):
            complete.add(packet)
    assert complete.complete_from == list(range(12))
