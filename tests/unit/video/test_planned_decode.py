"""Planned decoding gives the frames of a full sequential decode, bit for bit before scaling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support.videos import (
    B_FRAMES,
    FRAGMENTED,
    OPEN_GOP,
    SVT,
    VP9,
    X265,
    X265_CLOSED,
    as_it_is,
    read_index,
    write_video,
)
from vidclf.video import decode, indexed_video, sampling
from vidclf.video.sampling import SamplingPlan

MATRIX: list[tuple[str, str, dict[str, Any]]] = [
    ("mp4", "libx264", {}),
    ("mp4", "libx264", B_FRAMES),
    ("mp4", "libx264", OPEN_GOP),
    ("mp4", "libx264", B_FRAMES | FRAGMENTED),
    ("mov", "libx264", OPEN_GOP),
    ("mkv", "libx264", OPEN_GOP),
    ("avi", "libx264", {}),
    ("avi", "libx264", B_FRAMES),
    ("ts", "libx264", B_FRAMES),
    ("ts", "libx264", OPEN_GOP),
    ("mp4", "libx265", X265),
    ("mp4", "libx265", X265_CLOSED),
    ("mkv", "libx265", X265),
    ("mov", "libx265", X265),
    ("ts", "libx265", X265),
    ("webm", "libvpx-vp9", VP9),
    ("mp4", "libvpx-vp9", VP9),
    ("mkv", "libsvtav1", SVT),
    ("mp4", "libsvtav1", SVT),
    ("webm", "libsvtav1", SVT),
    ("mp4", "mpeg4", {}),
    ("mp4", "mpeg4", {"b_frames": 2}),
    ("avi", "mpeg4", {}),
    ("avi", "mpeg4", {"b_frames": 2}),
    ("mkv", "mpeg4", {"b_frames": 2}),
]

PLANS = [
    SamplingPlan(num_frames=1),
    SamplingPlan(num_frames=5),
    SamplingPlan(num_frames=7, skip_edges=0.2),
    SamplingPlan(num_frames=4, mode="middle", clip_duration_s=1.0),
    SamplingPlan(num_frames=4, mode="random", clip_duration_s=1.0),
    SamplingPlan(num_frames=73),
]


def every_frame(path: Path) -> tuple[list[int], list[av.VideoFrame]]:
    """Decode all frames in sequence with PyAV alone, as the reference: their times and the frames."""
    with av.open(str(path)) as container:
        shown = list(container.decode(video=0))
        pts = [frame.pts for frame in shown]
        if pts != sorted(pts):  # AVI with reordered frames: the times are FFmpeg's guess, the order is right
            pts = list(range(len(pts)))
        return pts, shown


def assert_planned_equals_sequence(path: Path, *plans: SamplingPlan) -> None:
    pts, frames = every_frame(path)
    times = np.array(pts)
    with av.open(str(path)) as container:
        time_base = container.streams.video[0].time_base
    for plan in plans:
        planned = decode.decode_video(str(path), plan, as_it_is, seed="a")
        end = times[0] + round(planned.duration_s / time_base)
        chosen = sampling.choose(times, int(end), np.zeros(len(times), bool), time_base, plan, "a")
        assert planned.pts_s.tolist() == pytest.approx([float((pts[i] - pts[0]) * time_base) for i in chosen])
        assert len(planned.frames_THWC) == len(chosen)
        for frame, index in zip(planned.frames_THWC, chosen, strict=True):
            assert np.array_equal(frame, frames[index].to_ndarray(format="rgb24"))


@pytest.mark.parametrize(("container", "codec", "options"), MATRIX)
def test_every_container_and_codec(tmp_path: Path, container: str, codec: str, options: dict[str, Any]) -> None:
    path = write_video(tmp_path / f"v.{container}", 50, codec=codec, noise=True, size=(96, 64), **options)
    assert_planned_equals_sequence(path, *PLANS)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 25])
def test_short_videos(tmp_path: Path, num_frames: int) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames, fps=20, noise=True, b_frames=2)
    assert_planned_equals_sequence(path, *PLANS)


def test_a_video_of_thirty_seconds_with_many_groups(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 750, fps=25, gop=50, noise=True, **OPEN_GOP)
    assert_planned_equals_sequence(path, *(SamplingPlan(num_frames=num_frames) for num_frames in (3, 16, 73)))


def test_variable_frame_rate(tmp_path: Path) -> None:
    pts_ms = [0, 40, 80, 500, 520, 540, 2000, 2100, 2101, 2500, 4000, 4040]
    for container in ("mp4", "mkv"):
        path = write_video(tmp_path / f"v.{container}", len(pts_ms), pts_ms=pts_ms, noise=True, b_frames=2)
        assert_planned_equals_sequence(path, *PLANS)


@pytest.mark.parametrize("size", [(65, 49), (64, 2), (18, 130)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "v.mkv", 10, size=size, noise=True, pix_fmt="yuv444p")
    assert_planned_equals_sequence(path, SamplingPlan(num_frames=4))


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p10le"])
def test_ten_bits(tmp_path: Path, pix_fmt: str) -> None:
    path = write_video(tmp_path / "v.mp4", 10, noise=True, pix_fmt=pix_fmt)
    assert_planned_equals_sequence(path, SamplingPlan(num_frames=4))


def test_interlaced(tmp_path: Path) -> None:
    options = {"codec_options": {"x264-params": "interlaced=1:bframes=2", "flags": "+ildct+ilme"}}
    path = write_video(tmp_path / "v.ts", 30, noise=True, **options)
    assert_planned_equals_sequence(path, SamplingPlan(num_frames=7))


def test_field_coded_interlaced(tmp_path: Path) -> None:
    # MPEG-2 is the codec of interlaced archives: two fields make a frame, and a packet holds both.
    options = {"codec": "mpeg2video", "b_frames": 2, "codec_options": {"flags": "+ildct+ilme", "alternate_scan": "1"}}
    for container in ("ts", "mpg", "mxf"):
        size = (720, 576) if container == "mxf" else (96, 64)
        path = write_video(tmp_path / f"v.{container}", 30, fps=25, noise=True, size=size, **options)
        assert_planned_equals_sequence(path, SamplingPlan(num_frames=7))


def test_alpha(tmp_path: Path) -> None:
    for name, codec, pix_fmt in (("v.mov", "qtrle", "argb"), ("v.mov", "prores_ks", "yuva444p10le")):
        path = write_video(tmp_path / name, 10, codec=codec, noise=True, pix_fmt=pix_fmt)
        assert_planned_equals_sequence(path, SamplingPlan(num_frames=4))


@pytest.mark.parametrize(("duration_ms", "fps"), [(100, 30), (500, 30), (3_000, 30), (30_000, 10)])
def test_from_a_tenth_of_a_second_to_thirty_seconds(tmp_path: Path, duration_ms: int, fps: int) -> None:
    for container in ("mp4", "mkv", "ts"):
        path = write_video(tmp_path / f"v.{container}", duration_ms * fps // 1000, fps=fps, noise=True, **OPEN_GOP)
        assert_planned_equals_sequence(path, SamplingPlan(num_frames=73))


def test_black_frames_give_way_to_the_nearest_good_ones(tmp_path: Path) -> None:
    # Forty frames in four quarters [0, 10), [10, 20), ...; frames 5, 15, 25 and 35 are sampled.
    black = {*range(4, 8), *range(20, 30)}
    for container, options in (("mp4", {"b_frames": 2}), ("avi", {"b_frames": 2})):
        path = tmp_path / f"v.{container}"
        write_video(path, 40, black=black, **options)
        plan = SamplingPlan(num_frames=4)
        with_black = decode.decode_video(str(path), replace(plan, avoid_black=False), as_it_is)
        assert [read_index(frame) for frame in with_black.frames_THWC] == [0, 15, 0, 35]
        # Four of the frames that are nearer to 5 than to 15 are decoded: 1, 3, 6 and 8. Frame 3 is the nearest
        # one that is not black. The third quarter is black throughout.
        video = decode.decode_video(str(path), plan, as_it_is)
        assert [read_index(frame) for frame in video.frames_THWC] == [3, 15, 0, 35]
        assert video.pts_s.tolist() == pytest.approx([0.3, 1.5, 2.5, 3.5])


def test_a_video_that_is_black_throughout_is_kept_as_it_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 40, black=range(40))
    video = decode.decode_video(str(path), SamplingPlan(num_frames=4), as_it_is)
    assert video.pts_s.tolist() == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert video.is_black.all()


def test_packets_too_many_to_keep_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed_video, "KEEP_PACKETS_BYTES", 1000)
    path = write_video(tmp_path / "v.mp4", 50, noise=True, **OPEN_GOP)
    assert_planned_equals_sequence(path, *PLANS)


def test_an_edit_list_that_cuts_the_beginning(tmp_path: Path) -> None:
    pts_ms = [100 * index - 450 for index in range(30)]
    path = write_video(tmp_path / "v.mp4", 30, pts_ms=pts_ms, noise=True, b_frames=2)
    assert_planned_equals_sequence(path, *PLANS)


def test_keyframes_mode_takes_keyframes_only(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 60, gop=10, fps=10, codec_options={"x264-params": "scenecut=0"})
    plan = SamplingPlan(mode="keyframes", num_frames=3)
    assert decode.decode_video(str(path), plan, as_it_is).pts_s.tolist() == [1.0, 3.0, 5.0]
    every = decode.decode_video(str(path), replace(plan, num_frames=73), as_it_is)
    assert every.pts_s.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
