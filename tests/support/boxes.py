"""Boxes of MP4 and AVIF files and elements of Matroska files that FFmpeg does not write, put into files of tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import av

from tests.support.videos import write_video


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I", 8 + len(joined)) + kind + joined


def full_box(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def clap(width: int, height: int, x: int = 0, y: int = 0) -> bytes:
    """Return a clean aperture whose centre is `x` and `y` halves of a pixel right of and below that of the picture."""
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, x, 2, y, 2))


def with_box(path: Path, parents: Sequence[bytes], added: bytes) -> Path:
    """Append a box to the box at the path `parents` of an MP4 file whose index comes last."""
    content = bytearray(path.read_bytes())
    starts, position = [], 0
    for kind in parents:
        position = content.index(kind, position)
        starts.append(position - 4)
    end = starts[-1] + int.from_bytes(content[starts[-1] : starts[-1] + 4], "big")
    content[end:end] = added
    for start in starts:
        content[start : start + 4] = struct.pack(">I", int.from_bytes(content[start : start + 4], "big") + len(added))
    path.write_bytes(content)
    return path


def with_element(path: Path, parents: Sequence[bytes], added: bytes) -> Path:
    """Append an element to the element at the path `parents` (ids) of a Matroska file."""
    content = bytearray(path.read_bytes())
    sizes, position, end = [], 0, 0
    for wanted in parents:
        while True:
            num_bytes = 9 - content[position].bit_length()
            identifier = bytes(content[position : position + num_bytes])
            position += num_bytes
            num_bytes = 9 - content[position].bit_length()
            size = int.from_bytes(content[position : position + num_bytes], "big")
            end = position + num_bytes + (size & ((1 << 7 * num_bytes) - 1))
            if identifier == wanted:
                break
            position = end
        sizes.append((position, num_bytes, size))
        position += num_bytes
    content[end:end] = added
    for position, num_bytes, size in sizes:
        content[position : position + num_bytes] = (size + len(added)).to_bytes(num_bytes, "big")
    path.write_bytes(content)
    return path


SAMPLE_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
"""Path to the box that holds the sample entry of a track."""


def write_avif(path: Path, *properties: bytes, num_tiles: int = 1) -> Path:
    """Write an AVIF file of one picture; every tile is the same 64 × 64 picture, which shows the index 5.

    With more tiles than one, the main item is a row of tiles. `properties` are those of the main item.
    """
    video = write_video(path.with_suffix(".mp4"), 6, codec="libsvtav1", gop=1, codec_options={"preset": "12"})
    content = video.read_bytes()
    at = content.index(b"av1C") - 4
    configuration = content[at : at + int.from_bytes(content[at : at + 4], "big")]
    with av.open(str(video)) as container:
        sample = [bytes(packet) for packet in container.demux(video=0) if packet.size][5]

    has_grid = num_tiles > 1
    tiles = range(2, 2 + num_tiles) if has_grid else range(1, 2)
    types = {1: b"grid"} if has_grid else {}
    types |= dict.fromkeys(tiles, b"av01")
    payloads = dict.fromkeys(tiles, sample)
    if has_grid:
        payloads[1] = struct.pack(">BBBBHH", 0, 0, 0, num_tiles - 1, 64 * num_tiles, 64)
    size_of_main = full_box(b"ispe", 0, 0, struct.pack(">II", 64 * num_tiles, 64))
    known = [configuration, full_box(b"ispe", 0, 0, struct.pack(">II", 64, 64)), size_of_main, *properties]
    own = list(range(4, 4 + len(properties)))
    numbers = {tile: [1, 2, *own] if tile == 1 else [1, 2] for tile in tiles}
    if has_grid:
        numbers[1] = [3, *own]
    path.write_bytes(_heif(types, payloads, known, numbers, list(tiles) if has_grid else []))
    return path


def _heif(
    types: dict[int, bytes],
    payloads: dict[int, bytes],
    known: list[bytes],
    numbers: dict[int, list[int]],
    tiles: list[int],
) -> bytes:
    """Return a HEIF file: types, payloads and numbers of properties by item; item 1 is made of the items `tiles`."""
    entries = [full_box(b"infe", 2, 0, struct.pack(">HH", item, 0), kind, b"\0") for item, kind in types.items()]
    associations = [
        struct.pack(">HB", item, len(of_item)) + bytes(0x80 | number for number in of_item)
        for item, of_item in sorted(numbers.items())
    ]
    reference = box(b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *tiles)) if tiles else b""

    def meta(first_byte: int) -> bytes:
        locations, position = b"", first_byte
        for item, payload in sorted(payloads.items()):
            locations += struct.pack(">HHHII", item, 0, 1, position, len(payload))
            position += len(payload)
        return full_box(
            b"meta",
            0,
            0,
            full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, 0, b"\x44\0", struct.pack(">H", len(payloads)), locations),
            full_box(b"iinf", 0, 0, struct.pack(">H", len(entries)), *entries),
            full_box(b"iref", 0, 0, reference),
            box(
                b"iprp",
                box(b"ipco", *known),
                full_box(b"ipma", 0, 0, struct.pack(">I", len(associations)), *associations),
            ),
        )

    head = box(b"ftyp", b"avif", bytes(4), b"avifmif1")
    return (
        head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *[payload for _, payload in sorted(payloads.items())])
    )
