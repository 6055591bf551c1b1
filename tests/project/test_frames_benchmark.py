"""The benchmark of right frames tells right frames from wrong ones, and finds all of vidclf's right.

The benchmark's reference is the program ffmpeg. Here it is a plain decode of every frame, so that no program is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.frames import Answer, Reference, judge, ours, thumbnail
from tests.support.videos import B_FRAMES, FRAGMENTED, OPEN_GOP, SVT, VP9, write_video

NUM_FRAMES = 6


def decode_all(path: Path) -> Reference:
    """Decode every frame of a video in order."""
    with av.open(str(path)) as container:
        frames = sorted(container.decode(video=0), key=lambda frame: frame.pts)
        pictures = [thumbnail(frame.to_ndarray(format="rgb24")) for frame in frames]
        times_s = np.array([frame.pts * float(frame.time_base) for frame in frames])
    return Reference(np.stack(pictures), times_s - times_s[0])


def outcome(reference: Reference, numbers: list[int]) -> str:
    """Return the outcome for a method that returns the frames `numbers` where evenly spread ones were asked for."""
    answer = Answer([reference.thumbnails[number] for number in numbers], None, 0.0)
    return judge(reference, reference.expected(NUM_FRAMES), answer)[0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", B_FRAMES),
        ("a.mov", OPEN_GOP),
        ("b.mp4", B_FRAMES | FRAGMENTED),
        ("a.mkv", B_FRAMES),
        ("a.ts", OPEN_GOP),
        ("a.flv", {}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.mpg", {"codec": "mpeg2video", "b_frames": 2, "fps": 25}),
        ("a.webm", {"codec": "libvpx-vp9", **VP9}),
        ("a.mp4", {"codec": "libsvtav1", **SVT}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_all_frames_are_right(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = write_video(tmp_path / name, 30, noise=True, **options)
    reference = decode_all(path)
    numbers = reference.expected(NUM_FRAMES)
    thumbnails, times_s = ours(str(path), numbers, NUM_FRAMES)
    assert judge(reference, numbers, Answer(thumbnails, times_s, 0.0))[:2] == ("all right", "")


def test_other_frames_are_wrong(tmp_path: Path) -> None:
    reference = decode_all(write_video(tmp_path / "a.mp4", 30, noise=True))
    numbers = reference.expected(NUM_FRAMES)
    assert numbers == [2, 7, 12, 17, 22, 27]
    assert outcome(reference, numbers) == "all right"
    assert outcome(reference, [2, 7, 12, 16, 22, 27]) == "some wrong"
    assert outcome(reference, numbers[:5]) == "some wrong"
    assert judge(reference, numbers, "crashed")[0] == "crashed"
    assert judge(reference, numbers, "encrypted: no key")[0] == "refused"
    assert judge(None, numbers, "encrypted: no key")[0] == "no reference"


def test_the_last_frame_counts_for_as_long_as_it_is_shown() -> None:
    pictures = np.zeros((4, 32, 32), np.float32)
    assert Reference(pictures, np.arange(4) / 10).expected(4) == [0, 1, 2, 3]
    assert Reference(pictures, np.arange(4) / 10, last_s=3.7).expected(4) == [3]


def test_tone_mapping_makes_no_frame_wrong_and_another_picture_is_wrong() -> None:
    generator = np.random.default_rng(0)
    pictures = generator.uniform(0, 120, (3, 32, 32)).astype(np.float32)
    reference = Reference(pictures, np.arange(3) / 10, is_hdr=True)
    brighter = [(60 + 1.4 * picture) for picture in pictures]
    assert judge(reference, [0, 1, 2], Answer(brighter, None, 0.0))[0] == "all right"
    assert judge(reference, [0, 1, 2], Answer(brighter[::-1], None, 0.0))[0] == "some wrong"
