"""Cropping that a container states: the part of the stored picture that players show.

MP4, MOV and AVIF files state it as the clean aperture (box `clap`, ISO/IEC 14496-12), Matroska files as PixelCrop
(RFC 9559). FFmpeg's program applies it. Its library leaves it to the caller, and PyAV does not give it, so it is read
from the file. The cropping that the compressed video states itself has been applied by the decoder.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vidclf.video.container_structure import (
    MATROSKA_BEGINNING,
    MP4_BEGINNINGS,
    VISUAL_SAMPLE_ENTRY_BYTES,
    BinaryFile,
    Span,
    boxes,
    child_box,
    elements,
    matroska_video_tracks,
    read_span,
)
from vidclf.video.heif_items import find_items

_VIDEO, _PIXEL_CROP = 0xE0, {0x54CC: "left", 0x54DD: "right", 0x54BB: "top", 0x54AA: "bottom"}
"""Ids of elements of Matroska."""


@dataclass(frozen=True)
class Cropping:
    """Number of pixels that are cut from each side of the stored picture."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def applied(self, picture_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the part of a picture [H, W, 3] that is shown; the whole picture if nothing of it would be left."""
        height, width, _ = picture_HWC.shape
        if self == NO_CROPPING or self.left + self.right >= width or self.top + self.bottom >= height:
            return picture_HWC
        return picture_HWC[self.top : height - self.bottom, self.left : width - self.right]


NO_CROPPING = Cropping()


@dataclass(frozen=True)
class StreamPlace:
    """Place of an open video stream in its file, by which its track is found."""

    stream_id: int
    """id of the track or the item in an MP4-like file"""
    is_item: bool
    """whether the stream may be an item, a still picture, of an MP4-like file"""
    number: int
    """number of the video stream among those of the file that are no attached pictures, from 0"""
    num_streams: int
    """number of those video streams; if the file names another number of tracks, its tracks are not told apart"""


def find_cropping(file: BinaryFile, place: StreamPlace) -> Cropping:
    """Return the cropping that a file states for one of its video streams. Raises OSError if it cannot be read."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(8)
    if head[4:8] in MP4_BEGINNINGS:
        return (_item_cropping(file, place.stream_id) if place.is_item else None) or _track_cropping(
            file, size_bytes, place.stream_id
        )
    if head.startswith(MATROSKA_BEGINNING):
        tracks = matroska_video_tracks(file, size_bytes)
        return _matroska_cropping(file, tracks[place.number]) if len(tracks) == place.num_streams else NO_CROPPING
    return NO_CROPPING


def clean_aperture(box: bytes, width: int, height: int) -> Cropping:
    """Return the cropping of a picture of `width` × `height` pixels by the content of a `clap` box.

    The box states width and height of the shown part and the distance of its centre from that of the picture, each as
    a fraction. A part that is not within the picture crops nothing. An edge between two pixels is rounded down.
    """
    if len(box) < 32:
        return NO_CROPPING
    numbers = struct.unpack(">IIIIiIiI", box[:32])
    if not all(numbers[1::2]):
        return NO_CROPPING
    shown_width, shown_height, x, y = (Fraction(top, bottom) for top, bottom in zip(*[iter(numbers)] * 2, strict=True))
    left, top = (width - shown_width) / 2 + x, (height - shown_height) / 2 + y
    last_column, last_row = left + shown_width - 1, top + shown_height - 1
    if left < 0 or top < 0 or last_column > width - 1 or last_row > height - 1 or min(shown_width, shown_height) < 1:
        return NO_CROPPING
    return Cropping(int(left), width - 1 - int(last_column), int(top), height - 1 - int(last_row))


def _item_cropping(file: BinaryFile, item: int) -> Cropping | None:
    """Return the cropping of an item of a HEIF or AVIF file; None if the file has no such item."""
    items = find_items(file)
    if items is None or item not in items.properties:
        return None
    properties = dict(items.properties[item])
    if b"clap" not in properties or b"ispe" not in properties:
        return NO_CROPPING
    width, height = struct.unpack(">II", read_span(file, properties[b"ispe"])[4:12].rjust(8, b"\0"))
    return clean_aperture(read_span(file, properties[b"clap"]), width, height)


def _track_cropping(file: BinaryFile, size_bytes: int, track_id: int) -> Cropping:
    """Return the cropping of the track with the id `track_id` of an MP4-like file."""
    for track in _tracks(file, size_bytes):
        header = child_box(file, track, b"tkhd")
        descriptions = child_box(file, track, b"mdia", b"minf", b"stbl", b"stsd")
        if header is None or descriptions is None:
            continue
        fields = read_span(file, header, 24)
        at = 20 if fields[:1] == b"\1" else 12
        if int.from_bytes(fields[at : at + 4], "big") != track_id:
            continue
        for _, start, end in boxes(file, descriptions[0] + 8, descriptions[1]):
            width, height = struct.unpack(">HH", read_span(file, (start, end))[24:28].rjust(4, b"\0"))
            aperture = child_box(file, (start + VISUAL_SAMPLE_ENTRY_BYTES, end), b"clap")
            if aperture is not None:
                return clean_aperture(read_span(file, aperture), width, height)
    return NO_CROPPING


def _tracks(file: BinaryFile, size_bytes: int) -> Iterator[Span]:
    movie = child_box(file, (0, size_bytes), b"moov")
    if movie is not None:
        for kind, start, end in boxes(file, *movie):
            if kind == b"trak":
                yield start, end


def _matroska_cropping(file: BinaryFile, track: Span) -> Cropping:
    """Return the cropping of a track of a Matroska file."""
    video = next((span for element, *span in elements(file, *track) if element == _VIDEO), None)
    if video is None:
        return NO_CROPPING
    sides = {
        _PIXEL_CROP[element]: int.from_bytes(read_span(file, (start, end), 8), "big")
        for element, start, end in elements(file, *video)
        if element in _PIXEL_CROP
    }
    return Cropping(**sides)
