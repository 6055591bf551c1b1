"""The spatial transform gives the pixels of torchvision, and those of PIL to within one grey level."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from vidclf.video.frame_transform import FrameTransform, FrameTransforms

SIZES = [(64, 64), (240, 320), (320, 240), (97, 131), (360, 202), (40, 57), (33, 500)]
"""Heights and widths; of the last two, one is scaled up and one is very wide."""
PIL_MODES = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.fixture(scope="module")
def functional() -> Any:
    """The functions of torchvision. Processes that run none of these tests do not import it, which costs 2 s."""
    from torchvision.transforms.v2 import functional

    return functional


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize_size", "crop_size"), [(64, 56), (73, 64), (64, 64)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_equal_torchvisions_resize_and_center_crop(
    functional: Any, height: int, width: int, resize_size: int, crop_size: int, interpolation: str
) -> None:
    frame = noise(height, width)
    image = torch.from_numpy(frame).permute(2, 0, 1)
    mode = functional.InterpolationMode(interpolation)
    resized = functional.resize(image, [resize_size], interpolation=mode, antialias=True)
    expected = functional.center_crop(resized, [crop_size, crop_size]).permute(1, 2, 0).numpy()

    transform = FrameTransform(resize_size=resize_size, crop_size=crop_size, interpolation=interpolation)
    assert np.array_equal(transform(frame), expected)


def test_a_crop_whose_corner_lies_at_the_frames_size_is_scaled_all_the_same(functional: Any) -> None:
    # 55 × 187 becomes 64 × 217. The crop's corner is then at (55, 131), and the operator would not scale a
    # height of 55 to 55.
    frame = noise(55, 187)
    image = torch.from_numpy(frame).permute(2, 0, 1)
    expected = functional.center_crop(functional.resize(image, [64], antialias=True), [46, 46])
    transform = FrameTransform(resize_size=64, crop_size=46, interpolation="bilinear")
    assert np.array_equal(transform(frame), expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_are_within_one_grey_level_of_pil(height: int, width: int, interpolation: str) -> None:
    frame = noise(height, width)
    short = min(height, width)
    size = (int(64 * width / short), int(64 * height / short))
    resized = Image.fromarray(frame).resize(size, PIL_MODES[interpolation])
    left, top = round((size[0] - 56) / 2), round((size[1] - 56) / 2)
    expected = np.asarray(resized.crop((left, top, left + 56, top + 56)))

    cropped = FrameTransform(resize_size=64, crop_size=56, interpolation=interpolation)(frame)
    assert cropped.shape == (56, 56, 3)
    assert np.abs(cropped.astype(int) - expected.astype(int)).max() <= 1


def test_a_frame_of_the_wanted_size_is_returned_as_it_is() -> None:
    frame = noise(64, 64)
    assert np.array_equal(FrameTransform(resize_size=64, crop_size=64, interpolation="bilinear")(frame), frame)


def test_the_crop_is_the_centre() -> None:
    frame = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None], 4, axis=0).repeat(3, axis=2)
    cropped = FrameTransform(resize_size=4, crop_size=2, interpolation="bilinear")(frame)
    assert cropped[:, :, 0].tolist() == [[3, 4], [3, 4]]


def test_a_uniform_frame_keeps_its_colour_in_rgb_order() -> None:
    frame = np.zeros((48, 90, 3), dtype=np.uint8)
    frame[:] = (200, 100, 7)
    cropped = FrameTransform(resize_size=40, crop_size=32, interpolation="bicubic")(frame)
    assert np.unique(cropped.reshape(-1, 3), axis=0).tolist() == [[200, 100, 7]]


def test_the_result_is_packed_uint8_and_the_input_is_untouched() -> None:
    frame = noise(97, 131)
    before = frame.copy()
    cropped = FrameTransform(resize_size=64, crop_size=56, interpolation="bilinear")(frame)
    assert cropped.dtype == np.uint8
    assert cropped.flags.c_contiguous
    assert np.array_equal(frame, before)


def test_several_transforms_share_a_frame_and_part_again() -> None:
    frames = [np.full((8, 12, 3), level, np.uint8) for level in (10, 20)]
    small = FrameTransform(resize_size=4, crop_size=2, interpolation="bilinear")
    large = FrameTransform(resize_size=8, crop_size=8, interpolation="bilinear")
    both = FrameTransforms((small, large))
    assert both.frame_bytes == 2 * 2 * 3 + 8 * 8 * 3
    views = both.views(np.stack([both(frame) for frame in frames]))
    assert [view.shape for view in views] == [(2, 2, 2, 3), (2, 8, 8, 3)]
    for view, transform in zip(views, (small, large), strict=True):
        assert np.array_equal(view, np.stack([transform(frame) for frame in frames]))
