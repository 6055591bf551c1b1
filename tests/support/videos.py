"""Synthetic videos whose frames show their own index.

A frame is a 4 × 4 board of black and white squares. Each square shows one bit of the index, so that the
index survives lossy codecs, chroma subsampling and scaling.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

GRID = 4
TIME_BASE = Fraction(1, 1000)

# Options of `write_video`, by what they encode: H.264, H.265, AV1, VP9, and MP4 in fragments.
B_FRAMES: dict[str, Any] = {"b_frames": 3}
OPEN_GOP: dict[str, Any] = {"b_frames": 3, "codec_options": {"x264-params": "open-gop=1:bframes=3"}}
X265 = {"codec_options": {"x265-params": "log-level=none:keyint=12:bframes=3:open-gop=1"}}
X265_CLOSED = {"codec_options": {"x265-params": "log-level=none:keyint=12:bframes=3:open-gop=0"}}
SVT = {"codec_options": {"preset": "12", "svtav1-params": "keyint=12"}}
VP9 = {"codec_options": {"deadline": "realtime", "cpu-used": "8"}}
FRAGMENTED = {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}


def write_video(
    path: Path,
    num_frames: int = 12,
    *,
    fps: int = 10,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 64),
    pts_ms: Sequence[int] | None = None,
    gop: int = 12,
    b_frames: int = 0,
    pix_fmt: str = "yuv420p",
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    noise: bool = False,
    black: Collection[int] = (),
) -> Path:
    """Write a video of `num_frames` frames of `size` (width, height), at the times `pts_ms` or evenly at `fps`.

    With `noise` every frame also has seeded noise, so that a frame that is decoded without its reference
    frames has other pixels. The frames whose indices are in `black` are black.
    """
    width, height = size
    generator = np.random.default_rng(0)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.gop_size = gop
        stream.max_b_frames = b_frames
        if codec == "libx264":
            stream.options = {"preset": "veryfast", "crf": "18", "bf": str(b_frames)}
        stream.options = {**stream.options, **(codec_options or {})}
        if pts_ms is not None:
            stream.codec_context.time_base = TIME_BASE
        for index in range(num_frames):
            image = draw_index(index, width, height) if index not in black else np.zeros((height, width, 3), np.uint8)
            if noise:
                image = np.clip(image + generator.integers(-15, 16, image.shape), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index if pts_ms is None else pts_ms[index]
            frame.time_base = Fraction(1, fps) if pts_ms is None else TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def draw_index(index: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return an RGB frame [height, width, 3] that shows `index` (0 to 65535)."""
    bits = np.array([(index >> bit) & 1 for bit in range(GRID * GRID)], dtype=np.uint8).reshape(GRID, GRID)
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    luma = np.where(bits[rows][:, columns] == 1, 235, 20).astype(np.uint8)
    return np.repeat(luma[:, :, None], 3, axis=2)


def read_index(frame_HWC: npt.NDArray[np.uint8]) -> int:
    """Return the index that a frame shows."""
    height, width, _ = frame_HWC.shape
    centres_y = (np.arange(GRID) * 2 + 1) * height // (2 * GRID)
    centres_x = (np.arange(GRID) * 2 + 1) * width // (2 * GRID)
    bits = frame_HWC[centres_y][:, centres_x].mean(axis=2).reshape(-1) > 127
    return int(sum(int(bit) << position for position, bit in enumerate(bits)))


def as_it_is(frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A transform that changes nothing."""
    return frame_HWC


def write_keyframe_archive(root: Path, num_videos: int) -> Path:
    """Videos of 60 different frames with a keyframe every 12 frames, each of another width, and a text file."""
    for number in range(num_videos):
        write_video(root / f"v{number}.mp4", 60, size=(64 + 16 * number, 64), noise=number % 2 == 0)
    (root / "x.mp4").write_text("not a video\n")
    return root
