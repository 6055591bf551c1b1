"""Every format that archives hold is opened by what it is, and no other format is opened."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.videos import SVT, VP9, as_it_is, draw_index, read_index, write_video
from vidclf.archive.video_names import VIDEO_EXTENSIONS, extension
from vidclf.schema import RejectReason
from vidclf.video.decode import decode_video
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

X265 = {"codec_options": {"x265-params": "log-level=none"}}


def write(
    path: Path,
    codec: str,
    container: str,
    *,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 64),
    rate: int = 25,
    num_frames: int = 12,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """Write a video whose frames show their own index, in the format `container` of FFmpeg."""
    with av.open(str(path), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw_index(index, *size), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def decode(path: Path) -> DecodedVideo:
    return decode_video(str(path), SamplingPlan(num_frames=4, avoid_black=False), as_it_is)


@pytest.mark.parametrize(
    ("name", "container", "encoder", "options", "codec"),
    [
        ("a.gif", "gif", "gif", {"pix_fmt": "rgb8"}, "gif"),
        ("a.apng", "apng", "apng", {"pix_fmt": "rgb24"}, "apng"),
        ("a.avif", "avif", "libsvtav1", SVT, "av1"),
        ("a.h264", "h264", "libx264", {}, "h264"),
        ("a.264", "h264", "libx264", {}, "h264"),
        ("a.hevc", "hevc", "libx265", X265, "hevc"),
        ("a.265", "hevc", "libx265", X265, "hevc"),
        ("a.ivf", "ivf", "libsvtav1", SVT, "av1"),
        ("a.ivf", "ivf", "libvpx-vp9", VP9, "vp9"),
        ("a.obu", "obu", "libsvtav1", SVT, "av1"),
        ("a.y4m", "yuv4mpegpipe", "rawvideo", {}, "rawvideo"),
        ("a.dv", "dv", "dvvideo", {"size": (720, 576)}, "dvvideo"),
        ("a.rm", "rm", "rv10", {"size": (176, 144)}, "rv10"),
        ("a.swf", "swf", "flv1", {}, "flv1"),
        ("a.swf", "swf", "mjpeg", {"pix_fmt": "yuvj420p"}, "mjpeg"),
        ("a.m2v", "mpeg2video", "mpeg2video", {}, "mpeg2video"),
        ("a.ps", "vob", "mpeg2video", {}, "mpeg2video"),
        ("a.evo", "vob", "mpeg2video", {}, "mpeg2video"),
        ("a.mod", "vob", "mpeg2video", {}, "mpeg2video"),
        ("a.tod", "mpegts", "libx264", {}, "h264"),
        ("a.m2t", "mpegts", "mpeg2video", {}, "mpeg2video"),
        ("a.trp", "mpegts", "libx264", {}, "h264"),
        ("a.mk3d", "matroska", "libx264", {}, "h264"),
        ("a.divx", "avi", "mpeg4", {}, "mpeg4"),
        ("a.qt", "mov", "libx264", {}, "h264"),
        ("a.3gpp", "3gp", "libx264", {}, "h264"),
        ("a.lrv", "mp4", "libx264", {}, "h264"),
        ("a.insv", "mp4", "libx264", {}, "h264"),
        ("a.ismv", "ismv", "libx264", {}, "h264"),
        ("a.m4s", "mp4", "libx264", {}, "h264"),
        ("a.ogm", "ogg", "libvpx", {}, "vp8"),
    ],
)
def test_the_formats_of_archives(
    tmp_path: Path, name: str, container: str, encoder: str, options: dict[str, Any], codec: str
) -> None:
    assert extension(name) in VIDEO_EXTENSIONS
    video = decode(write(tmp_path / name, encoder, container, **options))
    assert [read_index(frame) for frame in video.frames_THWC] == [1, 4, 7, 10]
    assert video.video_codec == codec
    assert video.missing_s == 0.0


@pytest.mark.parametrize(
    ("name", "container", "encoder", "options"),
    [
        ("a.h264", "h264", "libx264", {}),
        ("a.hevc", "hevc", "libx265", X265),
        ("a.y4m", "yuv4mpegpipe", "rawvideo", {}),
    ],
)
def test_a_raw_stream_runs_at_the_rate_that_its_frames_state(
    tmp_path: Path, name: str, container: str, encoder: str, options: dict[str, Any]
) -> None:
    video = decode(write(tmp_path / name, encoder, container, rate=10, **options))
    assert video.framerate == pytest.approx(10.0)
    assert video.duration_s == pytest.approx(1.2)
    assert video.pts_s.tolist() == pytest.approx([0.1, 0.4, 0.7, 1.0])


def test_dv_has_the_rate_of_its_frames(tmp_path: Path) -> None:
    video = decode(write(tmp_path / "a.dv", "dvvideo", "dv", size=(720, 576)))
    assert (video.framerate, video.duration_s) == (pytest.approx(25.0), pytest.approx(0.48))


def test_a_still_gif_is_a_video_of_one_frame(tmp_path: Path) -> None:
    video = decode(write(tmp_path / "a.gif", "gif", "gif", pix_fmt="rgb8", num_frames=1))
    assert [read_index(frame) for frame in video.frames_THWC] == [0]


@pytest.mark.parametrize(
    ("name", "container", "encoder", "message"),
    [
        ("a.nut", "nut", "mpeg4", "NUT is not opened"),
        ("a.webp", "webp", "libwebp_anim", "animated WebP is not opened"),
    ],
)
def test_a_video_of_another_format_has_a_reason_of_its_own(
    tmp_path: Path, name: str, container: str, encoder: str, message: str
) -> None:
    with pytest.raises(VideoRejected, match=message) as rejected:
        decode(write(tmp_path / name, encoder, container))
    assert rejected.value.reason == RejectReason.UNSUPPORTED_CONTAINER


@pytest.mark.parametrize(
    "content",
    [
        "ffconcat version 1.0\nfile {name}\n",
        "#EXTM3U\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>{name}</BaseURL></Period></MPD>',
        "v=0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "[playlist]\nFile1={name}\n",
    ],
)
@pytest.mark.parametrize("name", ["a.swf", "a.rm", "a.gif", "a.h264", "a.m4s"])
def test_no_name_makes_a_list_or_a_script_open_another_file(tmp_path: Path, content: str, name: str) -> None:
    write_video(tmp_path / "other.ts", 3)
    (tmp_path / name).write_text(content.format(name="other.ts"))
    with pytest.raises(VideoRejected) as rejected:
        decode(tmp_path / name)
    assert rejected.value.reason == RejectReason.NOT_A_VIDEO


def test_a_photo_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoRejected) as rejected:
        decode(write(tmp_path / "a.mp4", "libwebp", "webp", num_frames=1))
    assert rejected.value.reason == RejectReason.NOT_A_VIDEO
