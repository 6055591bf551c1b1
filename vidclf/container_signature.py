"""Recognition of video files by their first bytes, whatever their names."""

from __future__ import annotations

SIGNATURE_BYTES = 4096
"""Number of bytes at the beginning of a file that are enough to recognise it."""


def looks_like_a_video(head: bytes) -> bool:
    """Return whether a file's first bytes `head` are those of a common video format.

    The formats are ISO BMFF, Matroska, AVI, TS, M2TS, FLV, ASF, PS, MXF and Ogg.
    """
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75", b"\x00\x00\x01\xba", b"OggS"))
        or head.startswith(b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02")  # partition pack of MXF (SMPTE 377)
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
        or (len(head) > 388 and head[4] == head[196] == head[388] == 0x47)  # M2TS: 4 bytes of time before each packet
    )
