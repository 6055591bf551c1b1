"""Files that are cut off or have holes: their frames count, and the row states the seconds that are missing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.videos import FRAGMENTED, as_it_is, read_index, write_video
from vidclf.schema import RejectReason
from vidclf.video.completeness import asf_duration_s, cut_message, ends_in_zeros, gaps_s, has_hole
from vidclf.video.decode import decode_video
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

FASTSTART = {"container_options": {"movflags": "faststart"}}
EVEN: dict[str, Any] = {"gop": 1, "noise": True, "size": (320, 240)}
"""Options of `write_video` for frames of about the same size, each decodable alone."""

Change = Callable[[bytes], bytes]


def decode(path: Path) -> DecodedVideo:
    return decode_video(str(path), SamplingPlan(num_frames=73), as_it_is)


def changed(path: Path, change: Change, **options: Any) -> Path:
    """Write a video of 40 frames at 10 per second, 4 s, and `change` the bytes of the file."""
    content = write_video(path, 40, **{**EVEN, **options}).read_bytes()
    path.write_bytes(change(content))
    return path


def first_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def hole(content: bytes) -> bytes:
    """Overwrite the bytes from 40 to 60 per cent of a file with zeros."""
    start, end = len(content) * 2 // 5, len(content) * 3 // 5
    return content[:start] + bytes(end - start) + content[end:]


def empty_second_half(content: bytes) -> bytes:
    return first_half(content) + bytes(len(content) - len(content) // 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", FASTSTART),
        ("a.mkv", {}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.asf", {"codec": "mpeg4"}),
        ("a.flv", {"codec": "flv1"}),
    ],
)
@pytest.mark.parametrize("change", [first_half, empty_second_half, hole])
def test_frames_and_missing_seconds_make_up_the_whole(
    tmp_path: Path, name: str, options: dict[str, Any], change: Change
) -> None:
    video = decode(changed(tmp_path / name, change, **options))
    shown = [read_index(frame) for frame in video.frames_THWC]
    assert shown[0] == 0
    assert 0 < len(shown) < 40
    assert len(shown) * 0.1 + video.missing_s == pytest.approx(4.0, abs=0.11)


def test_a_fragmented_file_misses_what_its_last_fragment_promises(tmp_path: Path) -> None:
    video = decode(changed(tmp_path / "a.mp4", first_half, **FRAGMENTED, gop=20))
    shown = [read_index(frame) for frame in video.frames_THWC]
    # Nothing promises the fragments after the one that is cut.
    assert shown == list(range(len(shown)))
    assert 0.1 <= video.missing_s <= 2.0
    assert len(shown) * 0.1 + video.missing_s < 4.0


def test_an_index_at_the_end_of_a_cut_file_is_lost(tmp_path: Path) -> None:
    with pytest.raises(VideoRejected, match="the file ends inside a box at") as rejected:
        decode(changed(tmp_path / "a.mp4", first_half))
    assert rejected.value.reason == RejectReason.TRUNCATED


def test_a_cut_transport_stream_promises_nothing_and_a_hole_in_it_shows(tmp_path: Path) -> None:
    cut = decode(changed(tmp_path / "a.ts", first_half))
    assert cut.missing_s == 0.0
    with_hole = decode(changed(tmp_path / "b.ts", hole))
    assert len(with_hole.frames_THWC) * 0.1 + with_hole.missing_s == pytest.approx(4.0, abs=0.11)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov", "a.flv"])
def test_a_whole_file_lacks_nothing(tmp_path: Path, name: str) -> None:
    assert decode(write_video(tmp_path / name, 40)).missing_s == 0.0


@pytest.mark.parametrize("name", ["a.avi", "a.asf"])
def test_a_whole_file_of_mpeg4_lacks_nothing(tmp_path: Path, name: str) -> None:
    assert decode(write_video(tmp_path / name, 40, codec="mpeg4")).missing_s == 0.0


def test_pauses_of_a_whole_recording_are_not_missing(tmp_path: Path) -> None:
    video = decode(write_video(tmp_path / "a.mkv", 5, pts_ms=[0, 100, 200, 1000, 1100]))
    assert (video.gaps_s, video.missing_s) == (pytest.approx(0.7), 0.0)


def test_gaps_are_wider_than_one_and_a_half_median_distances() -> None:
    assert gaps_s(np.array([0, 10, 20, 35, 45]), 0.1) == 0.0
    assert gaps_s(np.array([0, 10, 20, 36, 46]), 0.1) == pytest.approx(0.6)
    assert gaps_s(np.array([7]), 0.1) == 0.0


@pytest.mark.parametrize(("size", "is_hole"), [(8_191, False), (16_384, True)])
def test_a_hole_is_a_run_of_zeros(size: int, is_hole: bool) -> None:
    assert has_hole(io.BytesIO(b"x" * 5000 + bytes(size) + b"x" * 30_000)) is is_hole


def test_a_short_run_of_zeros_at_the_end_is_padding() -> None:
    assert not ends_in_zeros(io.BytesIO(b"x" * 5000 + bytes(4095)))
    assert ends_in_zeros(io.BytesIO(b"x" * 5000 + bytes(4096)))
    assert not ends_in_zeros(io.BytesIO(bytes(10)))


def test_a_reserved_file_that_was_never_filled_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(200_000))
    with pytest.raises(VideoRejected, match="the file begins with 4096 zeros") as rejected:
        decode(tmp_path / "a.mp4")
    assert rejected.value.reason == RejectReason.TRUNCATED


def test_the_size_that_a_header_states() -> None:
    live = b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7
    assert cut_message(io.BytesIO(live)) is None
    assert cut_message(io.BytesIO(b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\x82xx")) is None
    assert cut_message(io.BytesIO(b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\x83xx")) is not None
    avi = b"RIFF" + (100).to_bytes(4, "little") + b"AVI "
    assert cut_message(io.BytesIO(avi)) == "the file ends at 12 bytes, and its header promises 108 bytes"
    assert cut_message(io.BytesIO(b"\0\0\0\x08ftyp\0\0\0\x10mdat" + bytes(8))) is None
    assert cut_message(io.BytesIO(b"\0\0\0\x08ftyp\0\0\0\x10mdat" + bytes(7))) is not None
    assert asf_duration_s(io.BytesIO(avi)) is None
