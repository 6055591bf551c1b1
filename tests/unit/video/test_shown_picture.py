"""Literal pixels of small videos that players do not show as they are stored.

The expected pixels are those of ffmpeg 9.0.2, with the filters named at each test. swscale truncates where zscale
rounds, so that a difference of one or two grey levels is expected.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.bitstream import BitStreamFilterContext

from tests.support.videos import as_it_is, read_index, write_video
from vidclf.video.decode import decode_video
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.sampling import SamplingPlan
from vidclf.video.shown_picture import displayed_size

BT709, BT2020, PQ, HLG, DISPLAY_P3 = 1, 9, 16, 18, 12
"""Codes of matrices, primaries and transfer functions (ITU-T H.273)."""

Colour = tuple[int, int, int]

# 8-bit and 10-bit patches (Y, Cb, Cr).
PATCHES = [(81, 90, 240), (145, 54, 34), (41, 240, 110), (180, 128, 128)]
WIDE_PATCHES = [(180, 128, 128), (100, 100, 160), (120, 160, 100), (81, 90, 240)]
HDR_PATCHES = [
    *((300, 512, 512), (420, 512, 512), (330, 420, 600), (330, 600, 420)),
    *((509, 512, 512), (600, 480, 540), (722, 512, 512), (940, 512, 512)),
]


def write_patches(
    path: Path, patches: Sequence[Colour], size: tuple[int, int], pix_fmt: str = "yuv420p", **attributes: Any
) -> Path:
    """Write a lossless video of one frame that shows the colours `patches` (Y, Cb, Cr) side by side.

    `attributes`: colour tags and pixel shape of the stream.
    """
    with av.open(str(path), "w") as container:
        # PyAV writes the shape of pixels with H.264, and the other tags with FFV1.
        stream = container.add_stream("libx264" if "sample_aspect_ratio" in attributes else "ffv1", rate=5)
        stream.options = {"qp": "0"} if stream.name == "libx264" else {}
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        frame = av.VideoFrame(*size, pix_fmt)
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
            if name != "sample_aspect_ratio":
                setattr(frame, name, value)
        dtype = np.dtype(np.uint16 if pix_fmt.endswith("10le") else np.uint8)
        for channel, plane in enumerate(frame.planes):
            row = np.repeat(np.array([patch[channel] for patch in patches], dtype), plane.width // len(patches))
            rows = np.zeros((plane.height, plane.line_size // dtype.itemsize), dtype)
            rows[:, : len(row)] = row
            plane.update(rows.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path: Path) -> DecodedVideo:
    return decode_video(str(path), SamplingPlan(num_frames=1, avoid_black=False), as_it_is)


def shown(path: Path, num_patches: int) -> npt.NDArray[np.int64]:
    """Decode a video of `num_patches` patches; returns their RGB colours as shown [num_patches, 3]."""
    (picture,) = decode(path).frames_THWC
    height, width, _ = picture.shape
    return picture[height // 2, (2 * np.arange(num_patches) + 1) * width // (2 * num_patches)].astype(np.int64)


def assert_close(colours: npt.NDArray[np.int64], expected: Sequence[Colour], levels: int) -> None:
    """Assert that colours differ by at most `levels` grey levels from the expected ones."""
    assert np.abs(colours - np.array(expected)).max() <= levels, colours.tolist()


@pytest.mark.parametrize("size", [(1280, 16), (64, 578)])
def test_hd_without_a_colour_tag_is_bt709(tmp_path: Path, size: tuple[int, int]) -> None:
    # scale=in_color_matrix=bt709:flags=accurate_rnd+full_chroma_int
    bt709 = [(255, 24, 0), (0, 216, 0), (0, 15, 255), (191, 191, 191)]
    assert_close(shown(write_patches(tmp_path / "untagged.mkv", PATCHES, size), 4), bt709, 1)
    tagged = {"colorspace": BT709, "color_primaries": BT709, "color_trc": BT709}
    assert_close(shown(write_patches(tmp_path / "tagged.mkv", PATCHES, size, **tagged), 4), bt709, 1)


def test_hd_with_the_tag_of_bt601_stays_bt601(tmp_path: Path) -> None:
    path = write_patches(tmp_path / "tagged.mkv", PATCHES, (1280, 16), colorspace=5)
    assert_close(shown(path, 4), [(253, 0, 0), (0, 254, 0), (0, 0, 254), (190, 190, 190)], 1)


def test_sd_without_a_colour_tag_is_bt601(tmp_path: Path) -> None:
    path = write_patches(tmp_path / "a.mkv", PATCHES, (64, 64))
    assert_close(shown(path, 4), [(253, 0, 0), (0, 254, 0), (0, 0, 254), (190, 190, 190)], 1)


def test_a_matrix_that_ffmpeg_does_not_convert_is_no_error(tmp_path: Path) -> None:
    # 3 is reserved; 10 is BT.2020 with constant luminance, to which that without is near.
    reserved = write_patches(tmp_path / "reserved.mkv", PATCHES, (64, 64), colorspace=3)
    assert_close(shown(reserved, 4), [(253, 0, 0), (0, 254, 0), (0, 0, 254), (190, 190, 190)], 1)
    constant = write_patches(tmp_path / "constant.mkv", PATCHES[3:], (64, 64), colorspace=10, color_primaries=BT2020)
    assert_close(shown(constant, 1), [(191, 191, 191)], 1)


def test_pq_is_shown_as_sdr(tmp_path: Path) -> None:
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": PQ, "color_range": 1}
    path = write_patches(tmp_path / "pq.mkv", HDR_PATCHES, (128, 16), "yuv420p10le", **tags)
    colours = shown(path, 8)
    # Light below 88 cd/m² is not compressed:
    # zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709:t=bt709:m=gbr:r=pc
    assert_close(colours[:4], [(62, 62, 62), (122, 122, 122), (179, 18, 0), (0, 95, 182)], 1)
    # 100, 420, 994 and 10,000 cd/m², from the formulas of ST 2084, BT.2390, BT.2087 and BT.1886.
    assert_close(colours[4:], [(189, 189, 189), (255, 192, 153), (255, 255, 255), (255, 255, 255)], 1)
    # The same as HDR10 without a matrix and primaries.
    bare = write_patches(tmp_path / "bare.mkv", HDR_PATCHES, (128, 16), "yuv420p10le", color_trc=PQ, color_range=1)
    assert shown(bare, 8).tolist() == colours.tolist()


def test_hlg_is_shown_as_sdr(tmp_path: Path) -> None:
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": HLG, "color_range": 1}
    colours = shown(write_patches(tmp_path / "hlg.mkv", HDR_PATCHES, (128, 16), "yuv420p10le", **tags), 8)
    # Greys below 88 cd/m², with the filters of the test above.
    assert_close(colours[[0, 1, 4]], [(77, 77, 77), (116, 116, 116), (145, 145, 145)], 1)
    # From the formulas of BT.2100, BT.2390, BT.2087 and BT.1886. zscale applies the system gamma to each channel.
    assert_close(colours[[2, 3, 5]], [(142, 70, 21), (0, 101, 134), (211, 174, 157)], 1)
    assert_close(colours[6:], [(231, 231, 231), (255, 255, 255)], 1)


def test_wide_gamuts_are_brought_to_bt709(tmp_path: Path) -> None:
    # zscale=p=bt709:t=bt709:m=gbr:r=pc
    tags = {"color_trc": BT709, "color_range": 1}
    bt2020 = write_patches(
        tmp_path / "bt2020.mkv", WIDE_PATCHES, (64, 16), colorspace=BT2020, color_primaries=BT2020, **tags
    )
    assert_close(shown(bt2020, 4), [(191, 191, 191), (181, 66, 0), (0, 138, 195), (255, 0, 0)], 2)
    p3 = write_patches(
        tmp_path / "p3.mkv", WIDE_PATCHES, (64, 16), colorspace=BT709, color_primaries=DISPLAY_P3, **tags
    )
    # The zero of the second patch may be 4: near black, an 8-bit signal has coarser steps than light has.
    assert_close(shown(p3, 4), [(191, 191, 191), (166, 82, 2), (41, 131, 194), (255, 0, 0)], 2)


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    shape = Fraction(64, 45)
    path = write_patches(tmp_path / "pal.mkv", PATCHES, (720, 576), sample_aspect_ratio=shape)
    video = decode(path)
    assert (video.width, video.height, video.sample_aspect_ratio) == (1024, 576, pytest.approx(64 / 45))
    assert video.frames_THWC.shape == (1, 576, 1024, 3)
    assert_close(shown(path, 4), [(253, 0, 0), (0, 254, 0), (0, 0, 254), (190, 190, 190)], 1)


def test_square_pixels_and_impossible_ones_are_left_as_they_are(tmp_path: Path) -> None:
    square = decode(write_patches(tmp_path / "a.mkv", PATCHES, (64, 48), sample_aspect_ratio=Fraction(1)))
    assert (square.width, square.height, square.sample_aspect_ratio) == (64, 48, 1.0)
    wild = decode(write_patches(tmp_path / "b.mkv", PATCHES, (64, 48), sample_aspect_ratio=Fraction(64, 1)))
    assert (wild.width, wild.height, wild.sample_aspect_ratio) == (64, 48, None)


def test_a_picture_grows_to_its_displayed_size() -> None:
    assert displayed_size(1440, 1080, Fraction(4, 3)) == (1920, 1080)
    assert displayed_size(720, 480, Fraction(8, 9)) == (720, 540)
    assert displayed_size(640, 360, Fraction(1)) == (640, 360)


def jpeg_with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Return a JPEG picture with an EXIF segment that states its orientation."""
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda rgb: rgb),
        (2, lambda rgb: rgb[:, ::-1]),
        (3, lambda rgb: rgb[::-1, ::-1]),
        (6, lambda rgb: np.rot90(rgb, 3)),
    ],
)
def test_camera_videos_whose_pictures_have_exif(tmp_path: Path, orientation: int, turned: Any) -> None:
    # PyAV 18.1 lists no such data of a frame and fails when any data of the frame are read.
    plain = write_video(tmp_path / "plain.avi", 4, codec="mjpeg", pix_fmt="yuvj420p", size=(64, 48))
    with av.open(str(plain)) as source, av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                changed = av.Packet(jpeg_with_orientation(bytes(packet), orientation))
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.stream, changed.is_keyframe = stream, True
                container.mux(changed)
    plan = SamplingPlan(num_frames=4, avoid_black=False)
    expected = decode_video(str(plain), plan, as_it_is).frames_THWC
    frames = decode_video(str(tmp_path / "a.avi"), plan, as_it_is).frames_THWC
    assert all(np.array_equal(frame, turned(rgb)) for frame, rgb in zip(frames, expected, strict=True))


def test_an_orientation_that_only_keyframes_state_holds_for_all_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40, gop=20, size=(64, 48))
    with av.open(str(path)) as whole, av.open(str(tmp_path / "b.mp4"), "w") as turned:
        stream = turned.add_stream_from_template(whole.streams.video[0])
        change = BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", whole.streams.video[0])
        for packet in whole.demux(video=0):
            for changed in change.filter(packet) if packet.size else []:
                changed.stream = stream
                turned.mux(changed)
    video = decode_video(str(tmp_path / "b.mp4"), SamplingPlan(num_frames=8, avoid_black=False), as_it_is)
    assert (video.width, video.height) == (48, 64)
    upright = [read_index(np.rot90(frame, -1)) for frame in video.frames_THWC]
    assert upright == [2, 7, 12, 17, 22, 27, 32, 37]  # ffmpeg 9.0.2 turns by 90 degrees to the left


def test_columns_that_the_video_cuts_from_the_left_are_not_shown(tmp_path: Path) -> None:
    options = {"codec_options": {"x264-params": "crop-rect=16,8,32,10", "qp": "0"}}
    (frame,) = decode(write_video(tmp_path / "a.mp4", 1, size=(176, 144), **options)).frames_THWC
    # Without AV_CODEC_FLAG_UNALIGNED, FFmpeg gives 144 × 126 pixels.
    assert frame.shape == (126, 128, 3)
