"""The interface of an inference engine, a backbone that is ready to run: frames in, feature vectors out.

Shape suffixes: B videos, T frames, H W pixels, C channels, D features, U distinct frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidclf.backbones.agreement import Features, Frames
from vidclf.backbones.repeated_frames import distinct


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A backbone (pretrained CNN) that is ready to run: frames [T, H, W, 3] uint8 in, features [T, D] float32 out.

    Frames of one video that are equal bit for bit are computed only once.
    """

    name: str
    """runtime, device and precision as text, such as `openvino bf16` or `torch cuda bf16`"""
    run: Callable[[Frames], Features]
    """function from frames to features; it computes every frame that it receives, repeated ones too"""

    def __call__(
        self, frames_THWC: Frames, num_frames_B: Sequence[int] | None = None, repeat_tolerance: float = 0.0
    ) -> Features:
        """Return the features [T, D] of the frames of one video, or of several videos one after the other.

        `num_frames_B`: number of frames of each video; None for one video. `repeat_tolerance`: grey levels by which a
        frame may differ from the last frame that was computed and still get its features
        (`repeated_frames.distinct`).
        """
        num_frames_B = [len(frames_THWC)] if num_frames_B is None else num_frames_B
        firsts_U, source_T = distinct(frames_THWC, num_frames_B, repeat_tolerance)
        if len(firsts_U) == len(frames_THWC):
            return self.run(frames_THWC)
        return self.run(frames_THWC[firsts_U])[source_T]
