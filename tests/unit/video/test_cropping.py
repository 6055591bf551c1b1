"""Pictures are shown without the parts that their container cuts off.

The expected pixels are those of ffmpeg 9.0.2, which crops such files by itself.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.boxes import SAMPLE_ENTRY, box, clap, full_box, with_box, with_element, write_avif
from tests.support.videos import as_it_is, read_index
from vidclf.schema import RejectReason
from vidclf.video.cropping import NO_CROPPING, Cropping, StreamPlace, clean_aperture, find_cropping
from vidclf.video.decode import decode_video
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.heif_items import find_items
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

VIDEO_ELEMENT = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0")
"""Ids of the path to the properties of a video track in a Matroska file."""


def write_ramp(path: Path) -> Path:
    """Write a lossless video of one frame, 64 × 48, whose luma is 16 + 2 · column + row."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame(64, 48, "yuv420p")
        luma = np.full((48, frame.planes[0].line_size), 16, np.uint8)
        luma[:, :64] = 16 + 2 * np.arange(64)[None] + np.arange(48)[:, None]
        frame.planes[0].update(luma.tobytes())
        for plane in frame.planes[1:]:
            plane.update(bytes([128]) * (plane.height * plane.line_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path: Path) -> DecodedVideo:
    return decode_video(str(path), SamplingPlan(num_frames=1, avoid_black=False), as_it_is)


def corners(video: DecodedVideo) -> list[int]:
    """Return the grey levels of the four corners: upper left, upper right, lower left, lower right."""
    (picture,) = video.frames_THWC
    return picture[[0, 0, -1, -1], [0, -1, 0, -1], 0].tolist()


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_a_clean_aperture_is_what_is_shown(tmp_path: Path, name: str) -> None:
    path = with_box(write_ramp(tmp_path / name), (*SAMPLE_ENTRY, b"avc1"), clap(32, 16, -8, -16))
    video = decode(path)
    # ffmpeg 9.0.2: "Frame Cropping: 8/24/12/20" (top, bottom, left, right)
    assert (video.width, video.height, corners(video)) == (32, 16, [37, 109, 54, 126])


def test_matroska_crops_pixels(tmp_path: Path) -> None:
    crop = b"\x54\xcc\x81\x0c\x54\xdd\x81\x14\x54\xbb\x81\x08\x54\xaa\x81\x18"
    video = decode(with_element(write_ramp(tmp_path / "a.mkv"), VIDEO_ELEMENT, crop))
    assert (video.width, video.height, corners(video)) == (32, 16, [37, 109, 54, 126])


def test_the_shape_of_pixels_is_that_of_the_cropped_picture(tmp_path: Path) -> None:
    # 8 of 48 rows are cut, and 128 × 40 shown: pixels are twice as wide as high.
    crop = b"\x54\xaa\x81\x08\x54\xb0\x81\x80\x54\xba\x81\x28\x54\xb2\x81\x00"
    video = decode(with_element(write_ramp(tmp_path / "a.mkv"), VIDEO_ELEMENT, crop))
    assert (video.width, video.height, video.sample_aspect_ratio) == (128, 40, 2.0)


def test_an_avif_picture_is_cropped(tmp_path: Path) -> None:
    whole, cropped = (decode(write_avif(tmp_path / f"{name}.avif", *boxes)) for name, boxes in _AVIF.items())
    assert read_index(whole.frames_THWC[0]) == 5
    assert (cropped.width, cropped.height) == (32, 16)
    assert np.array_equal(cropped.frames_THWC[0], whole.frames_THWC[0, 32:48, 0:32])


_AVIF = {"whole": [], "cropped": [clap(32, 16, -32, 16)]}


def test_a_picture_made_of_tiles_has_a_reason_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(VideoRejected, match="composed of several") as rejected:
        decode(write_avif(tmp_path / "a.avif", num_tiles=3))
    assert rejected.value.reason is RejectReason.UNSUPPORTED_CONTAINER


@pytest.mark.parametrize(
    ("numbers", "cropping"),
    [
        ((60, 1, 40, 1, 0, 1, 0, 1), Cropping(2, 2, 4, 4)),
        ((60, 1, 40, 1, 2, 1, -4, 1), Cropping(4, 0, 0, 8)),
        ((61, 1, 40, 1, 0, 1, 0, 1), Cropping(1, 2, 4, 4)),  # edges at 1.5 and 62.5 pixels
        ((122, 2, 40, 1, 1, 2, 0, 1), Cropping(2, 1, 4, 4)),
        ((64, 1, 48, 1, 0, 1, 0, 1), NO_CROPPING),
        ((60, 1, 40, 1, 3, 1, 0, 1), NO_CROPPING),  # beyond the right edge
        ((60, 1, 40, 1, -3, 1, 0, 1), NO_CROPPING),
        ((65, 1, 40, 1, 0, 1, 0, 1), NO_CROPPING),
        ((60, 0, 40, 1, 0, 1, 0, 1), NO_CROPPING),
        ((0, 1, 40, 1, 0, 1, 0, 1), NO_CROPPING),
    ],
)
def test_clean_apertures(numbers: tuple[int, ...], cropping: Cropping) -> None:
    assert clean_aperture(struct.pack(">IIIIiIiI", *numbers), 64, 48) == cropping


def test_a_cropping_that_leaves_nothing_is_a_mistake() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    assert Cropping(3, 3, 0, 0).applied(picture).shape == (4, 6, 3)
    assert Cropping(3, 2, 1, 0).applied(picture).shape == (3, 1, 3)


def test_the_track_is_found_by_its_id() -> None:
    def track(number: int, *apertures: bytes) -> bytes:
        entry = box(b"avc1", bytes(24), struct.pack(">HH", 64, 48), bytes(50), *apertures)
        descriptions = full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry)
        header = full_box(b"tkhd", 1, 0, bytes(16), struct.pack(">I", number), bytes(60))
        return box(b"trak", header, box(b"mdia", box(b"minf", box(b"stbl", descriptions))))

    file = io.BytesIO(box(b"ftyp") + box(b"moov", track(1), track(3, clap(60, 40))))
    assert find_cropping(file, StreamPlace(3, is_item=False, number=0, num_streams=1)) == Cropping(2, 2, 4, 4)
    assert find_cropping(file, StreamPlace(1, is_item=False, number=1, num_streams=1)) == NO_CROPPING


def found_on_disk(path: Path, content: bytes) -> Cropping:
    """Return the cropping of a file on disk, where a read of a negative number of bytes fails."""
    path.write_bytes(content)
    with path.open("rb") as file:
        return find_cropping(file, StreamPlace(1, is_item=False, number=0, num_streams=1))


def test_a_box_whose_long_size_lies_outside_its_parent_crops_nothing(tmp_path: Path) -> None:
    descriptions = box(b"mdia", box(b"minf", box(b"stbl", full_box(b"stsd", 0, 0, bytes(4)))))
    movie = box(b"moov", box(b"trak", descriptions, b"\0\0\0\1tkhd"))
    assert found_on_disk(tmp_path / "a.mp4", box(b"ftyp") + movie + box(b"free", bytes(64))) == NO_CROPPING


def test_tracks_of_matroska_that_are_not_streams_crop_nothing(tmp_path: Path) -> None:
    crop = b"\x54\xcc\x81\x0c\x54\xdd\x81\x14"
    path = with_element(write_ramp(tmp_path / "a.mkv"), VIDEO_ELEMENT, crop)
    with path.open("rb") as file:
        one, two = (
            find_cropping(file, StreamPlace(1, is_item=False, number=0, num_streams=number)) for number in (1, 2)
        )
    assert (one, two) == (Cropping(12, 20, 0, 0), NO_CROPPING)


def test_only_files_with_a_brand_of_pictures_have_items() -> None:
    items = full_box(b"meta", 0, 0, full_box(b"pitm", 0, 0, b"\0\1"))
    assert find_items(io.BytesIO(box(b"ftyp", b"avis", bytes(4), b"msf1") + items)) is not None
    assert find_items(io.BytesIO(box(b"ftyp", b"iso5", bytes(4), b"iso6mp41") + items)) is None


def test_an_element_whose_size_lies_outside_its_parent_crops_nothing(tmp_path: Path) -> None:
    entry = b"\x83\x81\x01\xe0\x82\x54\xcc"
    tracks = b"\xae" + bytes([0x80 + len(entry)]) + entry
    segment = b"\x16\x54\xae\x6b" + bytes([0x80 + len(tracks)]) + tracks
    content = b"\x1aE\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67" + bytes([0x80 + len(segment)]) + segment
    assert found_on_disk(tmp_path / "a.mkv", content + b"\x81\x0c" + bytes(8)) == NO_CROPPING


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\0\x08ftyp", b"\0\0\0\x14ftypavif\0\0\0\0\0\0\0\x0cmeta", b"\x1aE\xdf\xa3"]
)
def test_a_file_that_is_cut_crops_nothing(content: bytes) -> None:
    assert find_cropping(io.BytesIO(content), StreamPlace(1, is_item=True, number=0, num_streams=1)) == NO_CROPPING
