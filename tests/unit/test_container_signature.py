"""Video files are recognised by their first bytes."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from vidclf.container_signature import SIGNATURE_BYTES, looks_like_a_video, unopened_format


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
        ("rm", "rv10"),
        ("swf", "flv1"),
        ("h264", "libx264"),
        ("m4v", "mpeg4"),
        ("mpeg2video", "mpeg2video"),
        ("ivf", "libvpx"),
    ],
)
def test_every_container_has_its_signature(tmp_path: Path, container: str, codec: str) -> None:
    assert looks_like_a_video(written(tmp_path / "video", container, codec))


def test_packets_with_a_time_before_each_are_recognised() -> None:
    assert looks_like_a_video(b"".join(b"\0\0\0\0" + b"\x47" + bytes(187) for _ in range(3)))


@pytest.mark.parametrize(
    "head",
    [
        b"\x1f\x07\x00\xbf",
        b"\x1f\x07\x00\x3f",
        b"\0\0\0\x01\x67\x64",
        b"\0\0\x01\x09\xf0",
        b"\0\0\0\x01\x40\x01",
        b"\x12\0\x0a\x0a",
        b"\x89PNG\r\n\x1a\n....acTL....IDAT",
    ],
)
def test_streams_without_a_container_are_recognised(head: bytes) -> None:
    assert looks_like_a_video(head)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"BIKi" + bytes(16), "Bink"),
        (b"nut/multimedia container\0", "NUT"),
        (b"DHAV\xfd", "DHAV of surveillance recorders"),
        (bytes(4) + b"\x12\xaf", "FLIC"),
        (b"RIFF\0\0\0\0AMV LIST", "AMV"),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02", "animated WebP"),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"\x1aE\xdf\xa3", None),
        (b"", None),
    ],
)
def test_videos_that_are_not_opened_have_a_name(head: bytes, name: str | None) -> None:
    assert unopened_format(head) == name
    assert not looks_like_a_video(head) or head.startswith(b"\x1aE")


@pytest.mark.parametrize(
    "head",
    [
        b"\x89PNG\r\n\x1a\n....IDAT....acTL",  # a still picture
        b"\0\0\x01\0\x01\0\x20\x20",  # an icon
        b"%!PS-Adobe-3.0",
        b"\xff\xd8\xff\xe0",
        b"\0\0\0\x01",
    ],
)
def test_pictures_and_documents_are_no_videos(head: bytes) -> None:
    assert not looks_like_a_video(head)


@pytest.mark.parametrize("head", [b"", b"export const x = 1;" * 40, b"#EXTM3U\n", b"RIFF\0\0\0\0WAVE", b"\x89PNG\r\n"])
def test_anything_else_is_no_video(head: bytes) -> None:
    assert not looks_like_a_video(head)
