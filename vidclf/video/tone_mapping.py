"""Conversion of HDR and wide-gamut colours to those of an SDR display (BT.709), with tables computed once.

Backbones are trained on SDR pictures. An HDR signal used as it is looks grey and flat to them.

The conversion has the steps below, each from a published formula:

1. Signal to light: PQ by SMPTE ST 2084; HLG by BT.2100 with the system gamma 1.2 of a display of 1,000 cd/m².
2. Light of up to 1,000 cd/m² to that of an SDR display, whose white is 203 cd/m² (BT.2408): the curve of BT.2390,
   section 5.4 (EETF). It leaves light below 88 cd/m² as it is and bends what is brighter. The largest of red, green and
   blue decides the factor for all three, so that the hue stays.
3. Primaries to those of BT.709 by a matrix (BT.2087). Colours that BT.709 cannot show are clipped.
4. Light to signal: the inverse of BT.1886 (gamma 2.4).

Every step but the matrix is a table lookup on 16-bit integers, so that no pixel is converted to floats. Light is
multiplied by adding its logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PQ, HLG, SDR = "pq", "hlg", "sdr"
"""Names of the transfer functions (signal to light) that this module converts; `SDR` is BT.1886."""

MASTER_PEAK = 1000.0
"""Brightest light of the HDR display for which videos are assumed to be made, in cd/m²."""

SDR_WHITE = 203.0
"""White of the SDR display to which HDR is mapped, in cd/m²: the reference white of BT.2408."""

SIGNAL_MAX = 1020
"""Largest value of the 10-bit RGB pictures that swscale makes from YUV: 255 × 4, not 1023."""

_CODES = 65536
_LIGHT_MAX = _CODES - 1

_CHROMATICITIES = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""CIE x, y of the red, green and blue primaries by name. White is D65 for all of them."""

_D65 = (0.3127, 0.3290)

# Logarithms of light are stored as 2,048 steps per factor of two, from 2⁻²⁴ of `MASTER_PEAK` on.
_LOG_STEPS, _LOG_OFFSET = 2048, 24

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SdrConversion:
    """Conversion of 10-bit RGB pictures from one transfer function and set of primaries to 8-bit BT.709."""

    transfer: str
    """`PQ`, `HLG` or `SDR`"""
    primaries: str
    """`bt709`, `bt2020` or `p3` (Display P3; DCI-P3 counts as the same, with white adapted to D65)"""

    def __call__(self, planes: list[npt.NDArray[np.uint16]]) -> npt.NDArray[np.uint8]:
        """Convert a picture, given as its red, green and blue planes [H, W], to [H, W, 3] uint8.

        The values of the planes are 0 to `SIGNAL_MAX`.
        """
        light_HWC = _looked_up(cv2.merge(planes), _table(SDR)) if self.transfer == SDR else self._hdr_light(planes)
        if self.primaries != "bt709":
            light_HWC = cv2.transform(light_HWC, primaries_matrix(self.primaries).astype(np.float32))
        signal_HWC: npt.NDArray[np.uint8] = _looked_up(light_HWC, _sdr_signal())
        return signal_HWC

    def _hdr_light(self, planes: list[npt.NDArray[np.uint16]]) -> npt.NDArray[np.uint16]:
        """Return the light of a PQ or HLG picture on an SDR display, [H, W, 3]: its white is 65,535."""
        to_log = _table(f"{self.transfer} log")
        brightest_HW = _looked_up(cv2.max(cv2.max(planes[0], planes[1]), planes[2]), to_log)
        if self.transfer == HLG:
            # The system gamma multiplies the three colours by a power of the luminance, here that of BT.2020.
            scene_HWC = _looked_up(cv2.merge(planes), _table("hlg scene"))
            luminance_HW = cv2.transform(scene_HWC, np.array([[0.2627, 0.6780, 0.0593]], np.float32))
            dimming_HW = _looked_up(luminance_HW, _table("hlg dimming"))
            dimming_HW = cv2.add(dimming_HW, _looked_up(cv2.subtract(brightest_HW, dimming_HW), _table("compression")))
        else:
            dimming_HW = _looked_up(brightest_HW, _table("compression"))
        logs = [cv2.subtract(_looked_up(plane, to_log), dimming_HW) for plane in planes]
        light_HWC: npt.NDArray[np.uint16] = _looked_up(cv2.merge(logs), _table("light"))
        return light_HWC


def primaries_matrix(primaries: str) -> Floats:
    """Return the matrix [3, 3] that converts linear RGB with `primaries` to linear RGB with those of BT.709."""
    return np.linalg.inv(_xyz_matrix("bt709")) @ _xyz_matrix(primaries)


def pq_light(signal: Floats) -> Floats:
    """Return the light in cd/m² of a PQ signal in [0, 1] (SMPTE ST 2084, EOTF)."""
    root = np.maximum(signal, 0) ** (1 / _PQ_M2)
    return np.asarray(10_000 * (np.maximum(root - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1))


def pq_signal(light: Floats | float) -> Floats:
    """Return the PQ signal in [0, 1] of a light in cd/m², the inverse of `pq_light`."""
    power = (np.asarray(light, np.float64) / 10_000) ** _PQ_M1
    return np.asarray(((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2)


def hlg_scene_light(signal: Floats) -> Floats:
    """Return the light in front of the camera, in [0, 1], of an HLG signal in [0, 1] (BT.2100, inverse OETF)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def compressed_light(light: Floats) -> Floats:
    """Return light of up to `MASTER_PEAK` compressed to an SDR display, both in cd/m² (BT.2390, EETF)."""
    peak = pq_signal(MASTER_PEAK)
    ratio = np.minimum(pq_signal(light) / peak, 1)
    ratio_max = float(pq_signal(SDR_WHITE) / peak)
    knee = 1.5 * ratio_max - 0.5
    t = np.maximum(ratio - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * ratio_max
    return pq_light(np.where(ratio < knee, ratio, spline) * peak)


# Constants of SMPTE ST 2084.
_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _xyz_matrix(primaries: str) -> Floats:
    """Return the matrix [3, 3] from linear RGB with `primaries` to CIE XYZ (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in _CHROMATICITIES[primaries]]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


def _looked_up(values: Any, table: npt.NDArray[Any]) -> Any:
    """Return `table` [65536] at the 16-bit `values`, an array of their shape."""
    return cv2.LUT(values, table.reshape(1, -1))


@cache
def _table(name: str) -> npt.NDArray[np.uint16]:
    """Return one of the tables of 16-bit integers, computed at the first call.

    `sdr`, `hlg scene`: signal to light. `pq log`, `hlg log`: signal to the logarithm of light. `hlg dimming`: luminance
    to the logarithm of the divisor that the system gamma makes of it. `compression`: logarithm of light to that of the
    divisor by which BT.2390 compresses it. `light`: logarithm of light to light.
    """
    codes = np.arange(_CODES, dtype=np.float64)
    signal, share = np.minimum(codes / SIGNAL_MAX, 1), codes / _LIGHT_MAX
    light = MASTER_PEAK * 2 ** (codes / _LOG_STEPS - _LOG_OFFSET)
    compute: dict[str, Callable[[], Floats]] = {
        SDR: lambda: signal**2.4 * _LIGHT_MAX,
        "hlg scene": lambda: hlg_scene_light(signal) * _LIGHT_MAX,
        "pq log": lambda: _logarithm(pq_light(signal) / MASTER_PEAK),
        "hlg log": lambda: _logarithm(hlg_scene_light(signal)),
        "hlg dimming": lambda: _LOG_OFFSET * _LOG_STEPS * 0.2 - 0.2 * _logarithm(share),
        "compression": lambda: _logarithm(light / MASTER_PEAK) - _logarithm(compressed_light(light) / MASTER_PEAK),
        "light": lambda: light / SDR_WHITE * _LIGHT_MAX,
    }
    return np.clip(np.rint(compute[name]()), 0, _LIGHT_MAX).astype(np.uint16)


def _logarithm(share: Floats) -> Floats:
    """Return the logarithm of a share of `MASTER_PEAK`, in the steps of the tables."""
    return (np.log2(np.maximum(share, 2.0**-_LOG_OFFSET)) + _LOG_OFFSET) * _LOG_STEPS


@cache
def _sdr_signal() -> npt.NDArray[np.uint8]:
    """Return the table from light, 0 to 65535, to the 8-bit signal of an SDR display (the inverse of BT.1886)."""
    return np.rint((np.arange(_CODES) / _LIGHT_MAX) ** (1 / 2.4) * 255).astype(np.uint8)
