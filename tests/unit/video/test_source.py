"""The reject reason of a video that cannot be opened or decoded, and the facts that its container states."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import av
import av.error
import pytest

from tests.support.videos import SVT, VP9, write_video
from vidclf.schema import RejectReason
from vidclf.video.source import LocalFile, codec_name, open_video, rejection


def ffmpeg_error(code: int) -> Exception:
    """Return the exception that PyAV raises for an error code of FFmpeg."""
    try:
        av.error.err_check(-code, "a.mp4")
    except av.error.FFmpegError as error:
        return error
    raise AssertionError(code)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOENT])
def test_an_error_number_of_a_decoder_does_not_tell_the_state_of_the_file(tmp_path: Path, code: int) -> None:
    error = ffmpeg_error(code)
    assert isinstance(error, OSError)
    path = write_video(tmp_path / "a.mp4", 2)
    assert rejection(LocalFile(str(path)), error).reason == RejectReason.DECODE_ERROR
    assert rejection(LocalFile(str(tmp_path / "gone.mp4")), error).reason == RejectReason.NOT_FOUND


def test_an_error_of_the_operating_system_has_its_reason(tmp_path: Path) -> None:
    source = LocalFile(str(write_video(tmp_path / "a.mp4", 2)))
    assert rejection(source, PermissionError("no")).reason == RejectReason.PERMISSION_DENIED
    assert rejection(source, FileNotFoundError("no")).reason == RejectReason.NOT_FOUND
    assert rejection(source, OSError("no")).reason == RejectReason.READ_ERROR


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("a.mkv", {"codec": "libsvtav1", **SVT}, "av1"),
        ("a.webm", {"codec": "libvpx-vp9", **VP9}, "vp9"),
        ("a.mp4", {"codec": "libx264"}, "h264"),
        ("a.avi", {"codec": "msmpeg4"}, "msmpeg4v3"),
    ],
)
def test_a_codec_has_its_own_name_and_not_that_of_a_decoder(
    tmp_path: Path, name: str, options: dict[str, Any], codec: str
) -> None:
    path = write_video(tmp_path / name, 3, **options)
    with open_video(LocalFile(str(path))) as (_, stream):
        assert codec_name(stream) == codec
