"""Pictures in the items of a HEIF or AVIF file (ISO/IEC 23008-12): the main one, their types and their properties.

An animated file also has tracks, as an MP4 file does. Items and tracks have ids of their own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from vidclf.video.container_structure import BinaryFile, Span, boxes, child_box, read_span

_FULL_BOX_BYTES = 4
"""Bytes of the version and the flags with which many boxes begin."""

_BRANDS = frozenset(
    b"mif1 mif2 mif3 miaf msf1 avif avis avio heic heix heim heis hevc hevx hevm hevs jpeg j2ki".split()
)
"""Brands of the files that have items."""


@dataclass(frozen=True)
class HeifItems:
    """Items of a HEIF or AVIF file."""

    main_type: bytes
    """type of the main item, such as `av01` for a coded picture or `grid` for one made of tiles; empty if unknown"""
    properties: dict[int, list[tuple[bytes, Span]]]
    """type and content of the properties of each item, in their order, by the item's id"""


def find_items(file: BinaryFile) -> HeifItems | None:
    """Return the items of a file, or None if it has none. Raises OSError if the file cannot be read.

    Only a file with a brand of HEIF or AVIF is searched: a remote MP4 file in fragments has as many boxes as fragments.
    """
    size_bytes = file.seek(0, io.SEEK_END)
    file_type = next(boxes(file, 0, size_bytes), None)
    if file_type is None or file_type[0] != b"ftyp":
        return None
    brands = read_span(file, file_type[1:])
    if _BRANDS.isdisjoint(brands[at : at + 4] for at in range(0, len(brands), 4)):
        return None
    meta = child_box(file, (0, size_bytes), b"meta")
    if meta is None:
        return None
    inside = (meta[0] + _FULL_BOX_BYTES, meta[1])
    return HeifItems(_types(file, inside).get(_main_item(file, inside), b""), _properties(file, inside))


def _main_item(file: BinaryFile, meta: Span) -> int:
    box = child_box(file, meta, b"pitm")
    return int.from_bytes(read_span(file, box)[_FULL_BOX_BYTES:], "big") if box is not None else -1


def _types(file: BinaryFile, meta: Span) -> dict[int, bytes]:
    """Return the type of each item by its id."""
    box = child_box(file, meta, b"iinf")
    if box is None:
        return {}
    version = read_span(file, box, 1)
    types = {}
    for kind, start, end in boxes(file, box[0] + _FULL_BOX_BYTES + (2 if version == b"\0" else 4), box[1]):
        entry = read_span(file, (start, end), 16)
        if kind == b"infe" and len(entry) >= 12:
            id_bytes = 4 if entry[0] >= 3 else 2
            types[int.from_bytes(entry[4 : 4 + id_bytes], "big")] = entry[6 + id_bytes : 10 + id_bytes]
    return types


def _properties(file: BinaryFile, meta: Span) -> dict[int, list[tuple[bytes, Span]]]:
    """Return the properties of each item by its id."""
    parent = child_box(file, meta, b"iprp")
    container = child_box(file, parent, b"ipco")
    if parent is None or container is None:
        return {}
    known = [(kind, (start, end)) for kind, start, end in boxes(file, *container)]
    properties: dict[int, list[tuple[bytes, Span]]] = {}
    for kind, start, end in boxes(file, *parent):
        if kind == b"ipma":
            for item, numbers in _associations(read_span(file, (start, end))):
                properties.setdefault(item, []).extend(known[number - 1] for number in numbers if number <= len(known))
    return properties


def _associations(box: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield the id of each item in an `ipma` box, and the numbers of its properties, counted from 1."""
    if len(box) < 8:
        return
    id_bytes, number_bytes = (4 if box[0] else 2), (2 if box[3] & 1 else 1)
    largest = (1 << (8 * number_bytes - 1)) - 1  # the first bit says whether the property is essential
    position = 8
    for _ in range(int.from_bytes(box[4:8], "big")):
        if position + id_bytes >= len(box):
            return
        item, count = int.from_bytes(box[position : position + id_bytes], "big"), box[position + id_bytes]
        position += id_bytes + 1
        entries = [box[at : at + number_bytes] for at in range(position, position + count * number_bytes, number_bytes)]
        numbers = [int.from_bytes(entry, "big") & largest for entry in entries]
        yield item, [number for number in numbers if number]
        position += count * number_bytes
