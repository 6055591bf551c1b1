"""Video files are recognised by their first bytes."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from vidclf.container_signature import SIGNATURE_BYTES, looks_like_a_video


def written(path: Path, container: str, codec: str) -> bytes:
    """Return the first bytes of a video of 64 × 48 pixels that PyAV has written."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(12):
            for packet in stream.encode(av.VideoFrame(64, 48, "yuv420p")):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return path.read_bytes()[:SIGNATURE_BYTES]


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mov", "mpeg4"),
        ("matroska", "mpeg4"),
        ("avi", "mpeg4"),
        ("mpegts", "mpeg2video"),
        ("vob", "mpeg2video"),
        ("flv", "flv1"),
        ("asf", "mpeg4"),
        ("mxf", "mpeg2video"),
    ],
)
def test_every_container_has_its_signature(tmp_path: Path, container: str, codec: str) -> None:
    assert looks_like_a_video(written(tmp_path / "video", container, codec))


def test_packets_with_a_time_before_each_are_recognised() -> None:
    assert looks_like_a_video(b"".join(b"\0\0\0\0" + b"\x47" + bytes(187) for _ in range(3)))


@pytest.mark.parametrize("head", [b"", b"export const x = 1;" * 40, b"#EXTM3U\n", b"RIFF\0\0\0\0WAVE", b"\x89PNG\r\n"])
def test_anything_else_is_no_video(head: bytes) -> None:
    assert not looks_like_a_video(head)
