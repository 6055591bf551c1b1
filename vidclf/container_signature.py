"""Recognition of video files by their first bytes, whatever their names."""

from __future__ import annotations

SIGNATURE_BYTES = 4096
"""Number of bytes at the beginning of a file that are enough to recognise it."""

_BEGINNINGS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75",  # ASF
    b"\x00\x00\x01\xba",  # MPEG-2 PS
    b"OggS",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",  # partition pack of MXF (SMPTE 377)
    b"GIF87a",
    b"GIF89a",
    b".RMF",  # RealMedia
    b"FWS",  # SWF
    b"CWS",  # SWF, compressed
    b"DKIF",  # IVF
    b"YUV4MPEG2 ",
    b"\x12\x00\x0a",  # AV1: temporal delimiter and sequence header as low-overhead OBUs
    b"\x00\x00\x01\xb3",  # MPEG-1 and MPEG-2 video: sequence header
    b"\x00\x00\x01\xb0",  # MPEG-4 video: visual object sequence
    b"\x00\x00\x01\x00\x00\x00\x01\x20",  # MPEG-4 video: video object and its layer
)

_MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"wide", b"skip", b"pnot")

_UNOPENED = (
    (0, b"BIK", "Bink"),
    (0, b"KB2", "Bink 2"),
    (0, b"SMK2", "Smacker"),
    (0, b"SMK4", "Smacker"),
    (0, b"nut/multimedia container", "NUT"),
    (0, bytes.fromhex("b7d800203749da11a64e0007e95ead8d"), "Windows Recorded TV"),
    (0, b"DHAV", "DHAV of surveillance recorders"),
    (0, b"IMKH", "IMKH of surveillance recorders"),
    (0, b"NSVf", "Nullsoft Streaming Video"),
    (0, b"NSVs", "Nullsoft Streaming Video"),
    (0, b"\x00\x00\x00\x00\x01\xbc", "GXF"),
    (0, b"LEITCH\x00\x00", "LXF"),
    (0, b"CI\x2c\x00", "Phantom Cine"),
    (0, b"MLVI", "Magic Lantern Video"),
    (0, b"BBCD", "Dirac"),
    (0, b"\x84\x10\xff\xff\xff\xff", "RoQ"),
    (0, b"THP\x00", "THP"),
    (0, b"DEXA", "DXA"),
    (0, b"ARMovie\n", "ARMovie"),
    (0, b"\xf5\x46\x7a\xbd", "TiVo"),
    (0, b".R1M", "Internet Video Recording"),
    (0, b"\x8aMNG\r\n", "MNG"),
    (0, b"ZWS", "SWF compressed by LZMA"),
    (4, b"RED1", "REDCODE"),
    (4, b"RED2", "REDCODE"),
    (4, b"\x11\xaf", "FLIC"),
    (4, b"\x12\xaf", "FLIC"),
)
"""Video formats that are recognised but not opened: offset and bytes of the signature, name of the format."""

_UNOPENED_CHUNKS = {
    (b"RIFF", b"4XMV"): "4X Movie",
    (b"RIFF", b"AMV "): "AMV",
    (b"FORM", b"ANIM"): "Amiga ANIM",
}
"""Video formats that are not opened, by the type of the file's outer chunk and the form type in it."""


def looks_like_a_video(head: bytes) -> bool:
    """Return whether a file's first bytes `head` are those of a video format that is opened.

    The formats are ISO BMFF (also animated AVIF), Matroska, AVI, TS, M2TS, FLV, ASF, PS, MXF, Ogg, RealMedia, SWF, DV,
    GIF, APNG, Y4M, IVF, and raw streams of AV1, H.264, H.265 and MPEG video.
    """
    return (
        head[4:8] in _MP4_BOXES
        or head.startswith(_BEGINNINGS)
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
        or (len(head) > 388 and head[4] == head[196] == head[388] == 0x47)  # M2TS: 4 bytes of time before each packet
        or (head[:3] == b"\x1f\x07\x00" and len(head) > 3 and head[3] & 0x7F == 0x3F)  # DV: header of a frame
        or _is_animated_png(head)
        or _is_raw_h264_or_h265(head)
    )


def unopened_format(head: bytes) -> str | None:
    """Return the name of the video format that a file's first bytes `head` show, if it is a format that is not opened.

    None for every other file. An animated WebP is one of them, because FFmpeg 8.1 does not decode its frames.
    """
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and head[20] & 0x02:
        return "animated WebP"
    chunk = _UNOPENED_CHUNKS.get((head[:4], head[8:12]))
    return chunk or next((name for offset, mark, name in _UNOPENED if head.startswith(mark, offset)), None)


def _is_animated_png(head: bytes) -> bool:
    """Return whether a PNG has a chunk acTL (animation control) before its pixels."""
    pixels = head.find(b"IDAT")
    return head.startswith(b"\x89PNG\r\n\x1a\n") and b"acTL" in (head[:pixels] if pixels >= 0 else head)


def _is_raw_h264_or_h265(head: bytes) -> bool:
    """Return whether a stream of NAL units begins with parameters or an access unit delimiter (Annex B)."""
    start = 3 if head.startswith(b"\x00\x00\x01") else 4 if head.startswith(b"\x00\x00\x00\x01") else 0
    if not start or len(head) < start + 2:
        return False
    first, second = head[start], head[start + 1]
    is_h264 = first in (0x67, 0x47, 0x27) or (first == 0x09 and second & 0x1F == 0x10)
    return is_h264 or (first in (0x40, 0x42, 0x46) and second == 0x01)
