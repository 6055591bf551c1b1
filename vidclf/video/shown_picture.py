"""Picture of a decoded frame as players show it: colours of an SDR display, cropped, square pixels, upright.

PyAV gives the stored picture instead. It applies neither the cropping of the container nor the pixels' shape nor the
display matrix, and FFmpeg takes HD videos without a colour tag for SD.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter

from vidclf.video.cropping import Cropping
from vidclf.video.display_matrix import Orientation
from vidclf.video.tone_mapping import HLG, PQ, SDR, SdrConversion

LARGEST_STRETCH = 10
"""Ratio of a pixel's sides above which the stated ratio counts as a mistake, and pixels count as square."""

_TRANSFERS = {ColorTrc.SMPTE2084: PQ, ColorTrc.ARIB_STD_B67: HLG}
_WIDE_GAMUTS = {ColorPrimaries.BT2020: "bt2020", ColorPrimaries.SMPTE431: "p3", ColorPrimaries.SMPTE432: "p3"}

_SWSCALE_MATRICES = frozenset({0, 1, 4, 5, 6, 7, 9})
"""Codes (ITU-T H.273) of the matrices from YUV to RGB that swscale knows. It fails on others."""

_UNSPECIFIED, _BT2020_CONSTANT_LUMINANCE = 2, 10


def _unlisted(cls: type[SideData], value: int) -> SideData:
    member = object.__new__(cls)
    vars(member).update(_name_=f"TYPE_{value}", _value_=value)
    return member


# A frame may carry data of kinds that PyAV 18.1 does not list, such as EXIF in JPEG and AVIF pictures. PyAV then gives
# none of the frame's data, so that neither its picture could be turned nor the video be decoded.
SideData._missing_ = classmethod(_unlisted)  # type: ignore[assignment]


def pixel_aspect(stream: Any) -> Fraction | None:
    """Return width divided by height of a video stream's pixels, or None if it states none or an impossible one.

    The container's statement goes before that of the compressed video, as in FFmpeg.
    """
    stated = stream.sample_aspect_ratio
    if not stated or not Fraction(1, LARGEST_STRETCH) <= stated <= LARGEST_STRETCH:
        return None
    return Fraction(stated)


class ShownPictures:
    """Conversion of the decoded frames of one video to RGB pictures as players show them."""

    def __init__(self, pixel_aspect: Fraction | None, cropping: Cropping) -> None:
        """`pixel_aspect`: width divided by height of a pixel; None if unknown, which counts as square.

        `cropping`: the pixels that the container cuts from the stored picture.
        """
        self._cropping = cropping
        self._matrix: bytes | None = None
        self._pixel_aspect = pixel_aspect or Fraction(1)
        # One reformatter per video: otherwise every frame sets up its own, which costs as much as the conversion.
        self._reformatter = VideoReformatter()

    def notice(self, frame: Any) -> None:
        """Take the display matrix of a decoded keyframe for the frames that follow it.

        H.264 and HEVC may state it with keyframes alone, or with the first one. A container's comes with every frame.
        """
        if frame.key_frame:
            self._matrix_of(frame)

    def _matrix_of(self, frame: Any) -> bytes | None:
        """Return the display matrix of a frame, or the last one that was seen."""
        stated = frame.side_data.get(SideData.DISPLAYMATRIX)
        if stated is not None:
            self._matrix = bytes(stated)
        return self._matrix

    def picture(self, frame: Any) -> npt.NDArray[np.uint8]:
        """Return a decoded frame as RGB [H, W, 3]. The memory may be that of a buffer that the next frame reuses."""
        rgb_HWC = self._cropping.applied(self._rgb(frame))
        height, width, _ = rgb_HWC.shape
        size = displayed_size(width, height, self._pixel_aspect)
        if size != (width, height):
            rgb_HWC = cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_LINEAR)
        matrix = self._matrix_of(frame)
        if matrix is not None:
            rgb_HWC = Orientation.of(matrix).applied(rgb_HWC)
        return np.ascontiguousarray(rgb_HWC)

    def _rgb(self, frame: Any) -> npt.NDArray[np.uint8]:
        """Return a frame as RGB [H, W, 3] with the colours of an SDR display, as stored otherwise."""
        conversion = _sdr_conversion(frame)
        matrix = _assumed_matrix(frame)
        if conversion is None:
            # The plane is viewed, not copied.
            (plane,) = self._reformatted(frame, "rgb24", matrix).planes
            rows = np.frombuffer(cast("Any", plane), np.uint8).reshape(plane.height, plane.line_size)
            return rows[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
        green, blue, red = (
            np.frombuffer(cast("Any", plane), np.uint16).reshape(plane.height, -1)[:, : plane.width]
            for plane in self._reformatted(frame, "gbrp10le", matrix).planes
        )
        return conversion([red, green, blue])

    def _reformatted(self, frame: Any, pixel_format: str, matrix: Colorspace | None) -> Any:
        """Return a frame in another pixel format; `matrix` is that of its YUV, None for the one that it states."""
        # With more threads, every frame would start them anew.
        return self._reformatter.reformat(frame, format=pixel_format, src_colorspace=matrix, threads=1)


def displayed_size(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return the size (width, height) at which a stored picture is shown with square pixels.

    The picture grows in one direction and shrinks in none, as HTML prescribes for videos.
    """
    if pixel_aspect >= 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def _sdr_conversion(frame: Any) -> SdrConversion | None:
    """Return the conversion of a frame's colours to SDR, or None if they are SDR within BT.709."""
    transfer = _TRANSFERS.get(frame.color_trc, SDR)
    primaries = _WIDE_GAMUTS.get(frame.color_primaries, "bt709")
    if transfer != SDR and frame.color_primaries == ColorPrimaries.UNSPECIFIED:
        primaries = "bt2020"
    return SdrConversion(transfer, primaries) if (transfer, primaries) != (SDR, "bt709") else None


def _assumed_matrix(frame: Any) -> Colorspace | None:
    """Return the matrix from YUV to RGB of a frame that states none, or one that swscale does not know.

    The result is None for other frames, for RGB, and for SD, where the assumption of swscale is right.

    HDR and BT.2020 have the matrix of BT.2020. Other HD pictures have that of BT.709, and SD that of BT.601. The limit
    between SD and HD is that of mpv and libplacebo.
    """
    stated = int(frame.colorspace)
    if stated in _SWSCALE_MATRICES or frame.format.is_rgb:
        return None
    is_hdr = frame.color_trc in _TRANSFERS
    if is_hdr or frame.color_primaries == ColorPrimaries.BT2020 or stated == _BT2020_CONSTANT_LUMINANCE:
        return Colorspace.BT2020
    if frame.width >= 1280 or frame.height > 576:
        return Colorspace.ITU709
    return None if stated == _UNSPECIFIED else Colorspace.ITU601
