"""Videos whose edit list cuts, repeats or moves parts; the frames are those that ffmpeg 9.0.2 shows."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.support.boxes import full_box
from tests.support.videos import B_FRAMES, as_it_is, read_index, write_video
from vidclf.video.decode import decode_video
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.sampling import SamplingPlan

SECOND = 10_240
"""Ticks of the track per second; a frame lasts a tenth."""


def write_edits(path: Path, *edits: tuple[int, int], b_frames: bool = True) -> Path:
    """Write 40 frames in groups of 10, 10 per second; an edit shows as many ms of the file, from a second of it on."""
    write_video(path, 40, gop=10, **(B_FRAMES if b_frames else {}))
    content = bytearray(path.read_bytes())
    start = content.index(b"elst") - 4
    size = int.from_bytes(content[start : start + 4], "big")
    first_tick = int.from_bytes(content[start + 20 : start + 24], "big")
    entries = [struct.pack(">IiHH", ms, -1 if at < 0 else first_tick + at * SECOND, 1, 0) for ms, at in edits]
    edit_list = full_box(b"elst", 0, 0, struct.pack(">I", len(entries)), *entries)
    content[start : start + size] = edit_list
    for parent in (b"edts", b"trak", b"moov"):
        at = content.index(parent) - 4
        larger = int.from_bytes(content[at : at + 4], "big") + len(edit_list) - size
        content[at : at + 4] = struct.pack(">I", larger)
    path.write_bytes(content)
    return path


def decode(path: Path, num_frames: int) -> DecodedVideo:
    return decode_video(str(path), SamplingPlan(num_frames=num_frames, avoid_black=False), as_it_is)


@pytest.mark.parametrize(
    ("edits", "indices"),
    [
        ([(1000, 0), (1000, 3)], [2, 7, 32, 37]),
        ([(1000, 0), (1000, 0), (1000, 1)], [2, 7, 2, 7, 12, 17]),
        ([(1000, 2), (1000, 0)], [22, 27, 2, 7]),
        ([(2000, 2)], [22, 27, 32, 37]),
    ],
)
@pytest.mark.parametrize("b_frames", [True, False])
def test_the_parts_of_an_edit_list(
    tmp_path: Path, edits: list[tuple[int, int]], indices: list[int], b_frames: bool
) -> None:
    video = decode(write_edits(tmp_path / "a.mp4", *edits, b_frames=b_frames), len(indices))
    assert [read_index(frame) for frame in video.frames_THWC] == indices
    assert (video.time_jumps, video.num_damaged) == (0, 0)
    assert video.duration_s == pytest.approx(len(indices) / 2)
