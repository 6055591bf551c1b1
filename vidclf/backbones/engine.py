"""The interface of an inference engine: images in, feature vectors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidclf.backbones.agreement import Features, Frames
from vidclf.backbones.repeated_frames import distinct


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A backbone that is ready to run: frames [T, H, W, 3] in, pooled features [T, D] out; frames of a video
    that are the same to the last bit are computed once."""

    name: str
    """runtime and precision, as `openvino bf16`"""
    run: Callable[[Frames], Features]

    def __call__(
        self, frames_THWC: Frames, num_frames_B: Sequence[int] | None = None, repeat_tolerance: float = 0.0
    ) -> Features:
        """`num_frames_B` tells where the frames are of several videos, one after the other. With a tolerance
        (`repeats.distinct`) frames that are nearly the same are computed once too."""
        num_frames_B = [len(frames_THWC)] if num_frames_B is None else num_frames_B
        firsts_U, place_T = distinct(frames_THWC, num_frames_B, repeat_tolerance)
        if len(firsts_U) == len(frames_THWC):
            return self.run(frames_THWC)
        return self.run(frames_THWC[firsts_U])[place_T]
