"""Structure of MP4-like and Matroska files: their boxes and elements, read without a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

MAX_ELEMENTS = 10_000
"""Number of boxes or elements after which a search ends, so that a file of tiny boxes costs little."""

VISUAL_SAMPLE_ENTRY_BYTES = 78
"""Bytes of the fixed fields of a video's sample entry, after the box header; boxes such as `sinf` follow (14496-12)."""

SEGMENT, TRACKS, TRACK_ENTRY, TRACK_TYPE, CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0x1F43B675
"""Ids of elements of Matroska (RFC 9559)."""

MP4_BEGINNINGS = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"wide", b"skip", b"sidx")
"""Types of the box with which an MP4-like file may begin."""

MATROSKA_BEGINNING = b"\x1aE\xdf\xa3"

Span = tuple[int, int]
"""Begin and end of the content of a box or element, as offsets in the file."""


class BinaryFile(Protocol):
    """File from which bytes can be read at any position."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


def read_span(file: BinaryFile, span: Span, max_bytes: int = 65536) -> bytes:
    """Return the content of a box or element, up to `max_bytes` bytes of it."""
    file.seek(span[0])
    return file.read(max(0, min(span[1] - span[0], max_bytes)))


def boxes(file: BinaryFile, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, begin and end of the content of each box (ISO/IEC 14496-12) from `position` up to `end`."""
    for _ in range(MAX_ELEMENTS):
        if position + 8 > end:
            return
        file.seek(position)
        header = file.read(16)
        size, header_bytes = int.from_bytes(header[:4], "big"), 8
        if size == 1:
            size, header_bytes = int.from_bytes(header[8:16], "big"), 16
        elif size == 0:
            size = end - position
        if size < header_bytes or len(header) < header_bytes or position + header_bytes > end:
            return
        yield header[4:8], position + header_bytes, min(position + size, end)
        position += size


def child_box(file: BinaryFile, parent: Span | None, *path: bytes) -> Span | None:
    """Return begin and end of the content of the box at `path` below `parent`, or None if there is none."""
    for name in path:
        if parent is None:
            return None
        parent = next(((start, end) for kind, start, end in boxes(file, *parent) if kind == name), None)
    return parent


def elements(file: BinaryFile, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield id, begin and end of the content of each EBML element (RFC 8794) from `position` up to `end`."""
    for _ in range(MAX_ELEMENTS):
        if position >= end:
            return
        file.seek(position)
        header = file.read(12)
        if len(header) < 2 or not header[0]:
            return
        id_bytes = 9 - header[0].bit_length()
        if id_bytes >= len(header) or not header[id_bytes]:
            return
        size_bytes = 9 - header[id_bytes].bit_length()
        ones = (1 << (7 * size_bytes)) - 1
        size = int.from_bytes(header[id_bytes : id_bytes + size_bytes], "big") & ones
        start = position + id_bytes + size_bytes
        if start > end:
            return
        # A size of only ones is unknown: the element ends with its parent (live recordings).
        position = end if size == ones else min(start + size, end)
        yield int.from_bytes(header[:id_bytes], "big"), start, position


def matroska_video_tracks(file: BinaryFile, size_bytes: int) -> list[Span]:
    """Return the entries of the video tracks of a Matroska file, in order; empty if none precedes the data."""
    tracks: list[Span] = []
    for element, start, end in elements(file, 0, size_bytes):
        if element != SEGMENT:
            continue
        for part, part_start, part_end in elements(file, start, end):
            if part == CLUSTER:
                return tracks
            if part == TRACKS:
                entries = [entry[1:] for entry in elements(file, part_start, part_end) if entry[0] == TRACK_ENTRY]
                tracks += [entry for entry in entries if _is_video_entry(file, *entry)]
    return tracks


def _is_video_entry(file: BinaryFile, start: int, end: int) -> bool:
    for element, content, content_end in elements(file, start, end):
        if element == TRACK_TYPE:
            return int.from_bytes(read_span(file, (content, content_end)), "big") == 1
    return False
