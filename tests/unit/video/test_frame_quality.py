"""Literal quality measures of frames with known pixels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vidclf.video import frame_quality
from vidclf.video.frame_quality import FrameQuality


def grey(level: int, size: int = 8) -> npt.NDArray[np.uint8]:
    return np.full((size, size, 3), level, dtype=np.uint8)


def checkerboard(size: int = 8) -> npt.NDArray[np.uint8]:
    """Return a frame of alternating black and white pixels."""
    rows, columns = np.indices((size, size))
    luma = np.where((rows + columns) % 2 == 1, 255, 0).astype(np.uint8)
    return np.repeat(luma[:, :, None], 3, axis=2)


def test_a_black_frame_is_black_and_flat() -> None:
    measured = frame_quality.measure(grey(0)[None])
    assert measured.luma_mean.tolist() == [0.0]
    assert measured.sharpness.tolist() == [0.0]


def test_a_white_frame_is_bright_and_flat() -> None:
    measured = frame_quality.measure(grey(255)[None])
    assert measured.luma_mean.tolist() == [255.0]
    assert measured.sharpness.tolist() == [0.0]


def test_a_checkerboard_is_half_bright_and_as_sharp_as_can_be() -> None:
    measured = frame_quality.measure(checkerboard()[None])
    # The Laplacian is 4 × 255 on black and -4 × 255 on white, so its variance is 1020².
    assert measured.luma_mean.tolist() == [127.5]
    assert measured.sharpness.tolist() == [1_040_400.0]


def test_a_pixel_is_dark_up_to_a_tenth_of_the_range() -> None:
    assert frame_quality.is_black(grey(25))
    assert not frame_quality.is_black(grey(26))


def test_a_frame_is_black_if_98_of_100_pixels_are_dark() -> None:
    # 12 by 12 pixels of 100 by 72 are 0.02 of them: what ffmpeg's blackdetect calls black at 0.98, and not one more.
    frame = np.zeros((72, 100, 3), np.uint8)
    frame[:12, :12] = 255
    assert frame_quality.is_black(frame)
    frame[12, 0] = 26
    assert not frame_quality.is_black(frame)


def test_a_bright_ship_and_score_on_a_black_ground_are_no_black_frame() -> None:
    frame = np.zeros((210, 160, 3), np.uint8)
    frame[4:12, 20:120] = (200, 72, 72)  # the score
    frame[180:190, 70:90] = 236  # the ship
    assert frame.mean() < 6
    assert not frame_quality.is_black(frame)


def test_pixels_between_those_of_the_grid_count_in_a_doubtful_frame() -> None:
    frame = grey(0, size=800)
    frame[1::20] = 255  # 0.05 of the rows, and none of every eighth
    assert not frame_quality.is_black(frame)
    assert frame_quality.is_black(grey(0, size=800))
    # A wide letterbox, of which the picture fills 60 of 360 rows.
    letterbox = np.zeros((360, 640, 3), np.uint8)
    letterbox[150:210] = 120
    assert not frame_quality.is_black(letterbox)


def test_luma_weighs_red_green_and_blue_in_that_channel_order() -> None:
    frames = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    for channel in range(3):
        frames[channel, :, :, channel] = 255
    # ITU-R BT.601: 0.299, 0.587 and 0.114 of 255, rounded.
    assert frame_quality.measure(frames).luma_mean.tolist() == [76.0, 150.0, 29.0]


def test_each_frame_has_its_own_entry_in_the_order_given() -> None:
    measured = frame_quality.measure(np.stack([grey(255), checkerboard(), grey(0)]))
    assert measured.luma_mean.tolist() == [255.0, 127.5, 0.0]
    assert measured.sharpness.tolist() == [0.0, 1_040_400.0, 0.0]
    assert measured.luma_mean.dtype == np.float32
    assert measured.sharpness.dtype == np.float32


def test_a_frame_that_shows_the_same_as_the_one_before_is_a_near_duplicate() -> None:
    dotted = grey(100)
    dotted[0, :7] = 109  # 7 of 64 pixels by 9 grey levels: 0.98 on average
    more = grey(100)
    more[0] = 108  # 8 of 64 by 8: 1.0
    measured = frame_quality.measure(np.stack([grey(100), dotted, grey(100), more]))
    assert measured.is_near_duplicate.tolist() == [False, True, True, False]


def test_a_video_is_blurry_below_a_mean_sharpness_of_100_over_its_frames_that_are_not_black() -> None:
    sharpness = np.array([0.0, 90.0, 110.0], np.float32)
    first, none, all_ = np.array([True, False, False]), np.zeros(3, np.bool_), np.ones(3, np.bool_)
    measured = FrameQuality(luma_mean=sharpness, sharpness=sharpness, is_near_duplicate=none)
    assert not measured.is_blurry(first)  # (90 + 110) / 2
    assert measured.is_blurry(none)  # 200 / 3
    assert measured.is_blurry(all_)


def test_sharpening_overshoots_at_an_edge_and_leaves_plains_alone() -> None:
    frame = np.full((32, 32, 3), 100, np.uint8)
    frame[:, 16:] = 140
    (sharp,) = frame_quality.sharpened(frame[None])
    assert sharp[16, [0, 31], 0].tolist() == [100, 140]
    assert sharp[16, 15, 0] < 90
    assert sharp[16, 16, 0] > 150


def test_sharpness_is_the_variance_of_the_laplacian_in_floats() -> None:
    frames_THWC = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    frames_THWC[1] = cv2.GaussianBlur(frames_THWC[1], (0, 0), 2.0)
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    expected = [cv2.Laplacian(luma, cv2.CV_64F).var() for luma in lumas]
    np.testing.assert_allclose(frame_quality.measure(frames_THWC).sharpness, expected, rtol=1e-6)
