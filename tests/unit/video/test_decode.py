"""Decoding gives the planned frames of every container, or a named reject reason."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from tests.support.videos import as_it_is, draw_index, read_index, write_video
from vidclf.schema import RejectReason
from vidclf.video.decode import decode_video
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

TRANSFORM = FrameTransform(resize_size=64, crop_size=64, interpolation="bilinear")
MP4: dict[str, Any] = {"b_frames": 2}


def decode(path: Path | str, num_frames: int = 4) -> DecodedVideo:
    return decode_video(str(path), SamplingPlan(num_frames=num_frames), TRANSFORM)


def indices(video: DecodedVideo) -> list[int]:
    return [read_index(frame) for frame in video.frames_THWC]


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("a.mp4", {"b_frames": 2}, "h264"),
        ("a.mov", {"b_frames": 2}, "h264"),
        ("a.mkv", {"b_frames": 2}, "h264"),
        ("a.ts", {"b_frames": 2}, "h264"),
        ("a.flv", {}, "h264"),
        ("a.avi", {"codec": "mpeg4"}, "mpeg4"),
        ("b_frames.avi", {"codec": "mpeg4", "b_frames": 2}, "mpeg4"),
        ("h264.avi", {}, "h264"),
        # AVI stores no presentation times: for H.264 with B-frames FFmpeg gives decoding times instead.
        ("h264_b_frames.avi", {"b_frames": 2}, "h264"),
        ("a.webm", {"codec": "libvpx-vp9"}, "vp9"),
    ],
)
def test_twelve_frames_at_ten_a_second_give_the_planned_four(
    tmp_path: Path, name: str, options: dict[str, Any], codec: str
) -> None:
    video = decode(write_video(tmp_path / name, 12, fps=10, **options))
    # Midpoints 0.15, 0.45, 0.75 and 1.05 s.
    assert indices(video) == [1, 4, 7, 10]
    assert video.pts_s.tolist() == pytest.approx([0.1, 0.4, 0.7, 1.0], abs=1e-9)
    assert video.duration_s == pytest.approx(1.2, abs=1e-9)
    assert (video.width, video.height) == (64, 64)
    assert video.framerate == pytest.approx(10.0)
    assert video.video_codec == codec
    assert video.frames_THWC.shape == (4, 64, 64, 3)
    assert video.frames_THWC.dtype == np.uint8


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_frame_times_decide_which_frames_are_taken(tmp_path: Path, name: str) -> None:
    video = decode(write_video(tmp_path / name, 5, pts_ms=[0, 100, 200, 1000, 1100]))
    # Midpoints 150, 450, 750 and 1050 ms; the third frame is on screen from 200 to 1000 ms.
    assert indices(video) == [1, 2, 3]
    assert video.pts_s.tolist() == pytest.approx([0.1, 0.2, 1.0], abs=1e-9)
    assert video.duration_s == pytest.approx(1.2, abs=1e-9)


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    video = decode(write_video(tmp_path / "late.mkv", 4, pts_ms=[500, 600, 700, 800]))
    assert video.pts_s.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=1e-9)
    assert video.duration_s == pytest.approx(0.4, abs=1e-9)


@pytest.mark.parametrize(("num_frames", "expected"), [(1, [6]), (3, [2, 6, 10]), (12, list(range(12)))])
def test_a_midpoint_at_a_frames_time_takes_that_frame(tmp_path: Path, num_frames: int, expected: list[int]) -> None:
    assert indices(decode(write_video(tmp_path / "a.mp4", 12, **MP4), num_frames)) == expected


def test_a_video_shorter_than_the_plan_gives_every_frame_once(tmp_path: Path) -> None:
    assert indices(decode(write_video(tmp_path / "a.mp4", 3), 16)) == [0, 1, 2]


def test_a_video_of_one_frame_gives_it(tmp_path: Path) -> None:
    video = decode(write_video(tmp_path / "a.mp4", 1))
    assert (indices(video), video.pts_s.tolist(), video.duration_s) == ([0], [0.0], pytest.approx(0.1))


def test_width_and_height_are_the_videos_and_not_the_models(tmp_path: Path) -> None:
    video = decode(write_video(tmp_path / "a.mp4", 2, size=(96, 48)))
    assert (video.width, video.height) == (96, 48)
    assert video.frames_THWC.shape[1:] == (64, 64, 3)


def test_only_the_planned_frames_are_transformed(tmp_path: Path) -> None:
    transformed: list[int] = []

    def transform(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        transformed.append(read_index(frame))
        return frame

    decode_video(str(write_video(tmp_path / "a.mp4", 12, **MP4)), SamplingPlan(num_frames=4), transform)
    assert transformed == [1, 4, 7, 10]


def test_cover_art_is_not_the_video_even_if_it_is_larger(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 256
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(draw_index(77, 256, 256), format="rgb24")))
        for index in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_index(index, 64, 64), format="rgb24")))
        container.mux(stream.encode(None))
    assert indices(decode(tmp_path / "a.mp4")) == [1, 4, 7, 10]


def with_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write the matrix [a, b; c, d] (16.16 fixed point) into the track header of an MP4 file (ISO/IEC 14496-12)."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),  # a quarter turn clockwise
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 0, 0, 0), lambda picture: picture),
    ],
)
def test_a_picture_is_turned_and_mirrored_as_its_file_says(
    tmp_path: Path, matrix: tuple[int, int, int, int], expected: Callable[[npt.NDArray[np.uint8]], Any]
) -> None:
    path = write_video(tmp_path / "a.mp4", 2, size=(96, 64))
    with_display_matrix(path, *((1 << 16) * value for value in matrix))
    video = decode_video(str(path), SamplingPlan(num_frames=2), as_it_is)
    pictures = np.stack([expected(draw_index(index, 96, 64)) for index in range(2)])
    assert (video.height, video.width) == pictures.shape[1:3]
    assert np.abs(video.frames_THWC.astype(int) - pictures).mean() < 8


def test_of_two_streams_of_one_size_the_default_is_the_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        streams[1].disposition = av.stream.Disposition.default
        for index, stream in ((3, streams[0]), (9, streams[1])):
            frame = av.VideoFrame.from_ndarray(draw_index(index, 64, 64), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode(None)])
    assert indices(decode(path, 1)) == [9]


def test_a_larger_stream_that_is_not_the_default_is_not_the_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        streams = [container.add_stream("mpeg4", rate=10) for _ in range(2)]
        for stream, size in zip(streams, (64, 128), strict=True):
            stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        streams[0].disposition = av.stream.Disposition.default
        for index, stream in ((3, streams[0]), (9, streams[1])):
            frame = av.VideoFrame.from_ndarray(draw_index(index, stream.width, stream.height), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode(None)])
    assert indices(decode(tmp_path / "a.mp4", 1)) == [3]  # as ffmpeg 9.0.2 chooses


def test_the_largest_of_several_video_streams_is_the_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, size in zip(streams, (32, 64), strict=True):
            stream.width = stream.height = size
        for stream, first in zip(streams, (100, 0), strict=True):
            frames = [draw_index(first + index, stream.width, stream.height) for index in range(3)]
            packets = [stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")) for frame in frames]
            for packet in [*packets, stream.encode(None)]:
                container.mux(packet)
    assert indices(decode(tmp_path / "two.mkv")) == [0, 1, 2]


@pytest.mark.parametrize(
    "name", ["with space.mp4", "видео 日本 é.mp4", "new\nline.mp4", "100%d%20#?.mp4", "-dash.mp4", "pipe:0", "CAPS.MP4"]
)
def test_any_file_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    content = write_video(tmp_path / "plain.mp4", 12).read_bytes()
    (tmp_path / name).write_bytes(content)
    assert indices(decode(tmp_path / name)) == [1, 4, 7, 10]


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_cover(path: Path) -> None:
    """Write a file with only an attached picture, which FFmpeg presents as a video stream."""
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(draw_index(1, 64, 64), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))


def write_changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(write_video(path.with_name(f"whole_{path.name}"), 12).read_bytes()))


def spoil_samples(content: bytes) -> bytes:
    """Overwrite the second half of the media data of an MP4 file, but not its index."""
    start = content.index(b"mdat") - 4
    size = int.from_bytes(content[start : start + 4], "big")
    return content[: start + size // 2] + b"\xff" * (size - size // 2) + content[start + size :]


def long_cut_box(content: bytes) -> bytes:
    """Cut an MP4 file inside a media data box that states its size in 64 bits."""
    start = content.index(b"mdat") - 4
    return content[:start] + b"\0\0\0\1mdat" + (1 << 40).to_bytes(8, "big") + bytes(100)


REJECTED: dict[str, tuple[Callable[[Path], object], RejectReason, str]] = {
    "absent.mp4": (lambda path: None, RejectReason.NOT_FOUND, "no such file"),
    "directory.mp4": (lambda path: path.mkdir(), RejectReason.NOT_A_VIDEO, "not a regular file"),
    "empty.mp4": (lambda path: path.touch(), RejectReason.EMPTY_FILE, "0 bytes"),
    "text.mp4": (
        lambda path: path.write_text("hello\n" * 100),
        RejectReason.NOT_A_VIDEO,
        "no known container signature (InvalidDataError: ",
    ),
    "three_bytes.mp4": (
        lambda path: path.write_bytes(b"abc"),
        RejectReason.NOT_A_VIDEO,
        "no known container signature (InvalidDataError: ",
    ),
    "half.mp4": (
        lambda path: write_changed(path, lambda content: content[: len(content) // 2]),
        RejectReason.TRUNCATED,
        "the file ends inside a box at ",
    ),
    "long_box.mp4": (lambda path: write_changed(path, long_cut_box), RejectReason.TRUNCATED, "the file ends inside a "),
    "spoiled.mp4": (
        lambda path: write_changed(path, spoil_samples),
        RejectReason.DECODE_ERROR,
        "none of its packets could be decoded: 12 damaged, the first with 'Invalid data found",
    ),
    "junk.mkv": (
        lambda path: write_changed(path, lambda content: content[:4] + b"\x7f" * 3000),
        RejectReason.DECODE_ERROR,
        "InvalidDataError: ",
    ),
    "no_samples.mp4": (
        lambda path: write_changed(path, lambda content: content.replace(b"stsz", b"free")),
        RejectReason.TOO_FEW_FRAMES,
        "no frame could be decoded",
    ),
    "audio.mp4": (write_audio, RejectReason.NO_VIDEO_STREAM, "the container holds no video stream"),
    "cover.mp4": (write_cover, RejectReason.NO_VIDEO_STREAM, "the container holds no video stream"),
    # FFmpeg does not know this codec, so that PyAV's stream has no codec context and no width.
    "unknown_codec.mp4": (
        lambda path: write_changed(path, lambda content: content.replace(b"avc1", b"zzzz")),
        RejectReason.UNSUPPORTED_CODEC,
        "",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_video_without_frames_is_rejected_with_its_reason(tmp_path: Path, name: str) -> None:
    write, reason, message = REJECTED[name]
    write(tmp_path / name)
    with pytest.raises(VideoRejected) as rejected:
        decode(tmp_path / name)
    assert rejected.value.reason == reason
    assert str(rejected.value).startswith(message)


@pytest.mark.parametrize(
    "script", ["ffconcat version 1.0\nfile {name}\n", "#EXTM3U\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n"]
)
def test_a_script_under_a_videos_name_opens_no_other_file(tmp_path: Path, script: str) -> None:
    write_video(tmp_path / "secret.ts", 3)
    (tmp_path / "a.mp4").write_text(script.format(name="secret.ts"))
    with pytest.raises(VideoRejected) as rejected:
        decode(tmp_path / "a.mp4")
    assert rejected.value.reason == RejectReason.NOT_A_VIDEO


def test_a_scheme_nobody_knows_is_a_read_error() -> None:
    with pytest.raises(VideoRejected, match=r"^nosuch://b/a\.mp4: not a location that can be opened") as rejected:
        decode("nosuch://b/a.mp4")
    assert rejected.value.reason == RejectReason.READ_ERROR


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_permission_denied(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2)
    path.chmod(0)
    with pytest.raises(VideoRejected) as rejected:
        decode(path)
    assert rejected.value.reason == RejectReason.PERMISSION_DENIED
