"""Tables that make SDR of HDR, against the published formulas computed in floating point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vidclf.video import tone_mapping
from vidclf.video.tone_mapping import HLG, PQ, SDR, SIGNAL_MAX, SdrConversion

Floats = npt.NDArray[np.float64]

TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""The matrix from BT.2020 to BT.709, as BT.2087-0 prints it."""


def pq_light(signal: Floats) -> Floats:
    """SMPTE ST 2084 with its constants as decimal numbers."""
    power = signal ** (1 / 78.84375)
    return np.asarray(
        10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    )


def pq_signal(light: Floats) -> Floats:
    power = (light / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def hlg_light(signal_HWC: Floats) -> Floats:
    """BT.2100: light in front of the camera, times the power of its luminance."""
    bright = (np.exp((signal_HWC - 0.55991073) / 0.17883277) + 0.28466892) / 12
    scene_HWC = np.where(signal_HWC <= 0.5, signal_HWC**2 / 3, bright)
    luminance_HW1 = scene_HWC @ np.array([[0.2627], [0.6780], [0.0593]])
    return np.asarray(1000 * scene_HWC * luminance_HW1**0.2)


def compressed(light: Floats) -> Floats:
    """BT.2390, EETF from 1,000 to 203 cd/m², black at 0."""
    peak, largest = 0.751827, 0.580689 / 0.751827
    knee = 1.5 * largest - 0.5
    ratio = np.minimum(pq_signal(light) / peak, 1)
    t = (ratio - knee) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * largest
    return pq_light(np.where(ratio < knee, ratio, bent) * peak)


def sdr(light_HWC: Floats) -> Floats:
    """Light on an HDR display, as the 8-bit signal of an SDR display."""
    brightest_HW1 = light_HWC.max(axis=-1, keepdims=True)
    factor_HW1 = compressed(brightest_HW1) / np.maximum(brightest_HW1, 1e-9)
    return np.asarray(255 * np.clip(light_HWC * factor_HW1 / 203 @ TO_BT709.T, 0, 1) ** (1 / 2.4))


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        (PQ, lambda signal: sdr(pq_light(signal))),
        (HLG, lambda signal: sdr(hlg_light(signal))),
        (SDR, lambda signal: 255 * np.clip(signal**2.4 @ TO_BT709.T, 0, 1) ** (1 / 2.4)),
    ],
)
def test_tables_give_what_the_formulas_give(transfer: str, expected: object) -> None:
    codes_HWC = np.random.default_rng(0).integers(0, SIGNAL_MAX + 1, (200, 200, 3)).astype(np.uint16)
    codes_HWC[:50] = codes_HWC[:50, :, :1]  # greys
    codes_HWC[25:75] //= 4  # dark colours
    planes = [np.ascontiguousarray(codes_HWC[:, :, channel]) for channel in range(3)]
    converted = SdrConversion(transfer, "bt2020")(planes)
    assert callable(expected)
    errors = np.abs(converted - expected(codes_HWC / SIGNAL_MAX))
    # Near black, 16 bits of light are coarser than 8 bits of signal.
    assert errors.max() < 6
    assert (errors > 1.5).mean() < 0.002
    assert errors.mean() < 0.3  # rounding to whole levels alone makes 0.25


def test_light_below_88_is_kept_and_the_peak_becomes_white() -> None:
    light = np.array([0.0, 1.0, 26.0, 88.0, 203.0, 500.0, 1000.0, 4000.0])
    compressed_light = tone_mapping.compressed_light(light)
    assert compressed_light == pytest.approx([0, 1, 26, 88, 159.04, 198.86, 203, 203], abs=0.01)


def test_pq_has_the_values_of_bt2408() -> None:
    # BT.2408, table 1: 203 cd/m² are 58 % of the PQ signal, 26 are 38 %, 1,000 are 75 %.
    assert tone_mapping.pq_signal(np.array([26.0, 203.0, 1000.0])).round(2).tolist() == [0.38, 0.58, 0.75]
    assert tone_mapping.pq_light(np.array([0.0, 1.0])) == pytest.approx([0, 10_000])


def test_hlg_has_the_values_of_bt2408() -> None:
    # BT.2408, table 1: 75 % of the HLG signal are 203 cd/m² on a display of 1,000.
    scene = tone_mapping.hlg_scene_light(np.array([0.0, 0.5, 0.75, 1.0]))
    assert scene == pytest.approx([0, 1 / 12, 0.2650, 1], abs=1e-4)
    assert 1000 * scene[2] ** 1.2 == pytest.approx(203, abs=0.5)


def test_the_matrix_is_that_of_bt2087() -> None:
    assert np.abs(tone_mapping.primaries_matrix("bt2020") - TO_BT709).max() < 1e-4
    assert np.abs(tone_mapping.primaries_matrix("bt709") - np.eye(3)).max() < 1e-9
