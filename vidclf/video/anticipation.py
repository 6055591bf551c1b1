"""Choice of frames while a whole video is decoded, before the times of all its frames are known.

The packets tell beforehand how many frames there will be, and mostly at which times. The frames that the plan picks
from these expected times are kept as they come. If the video turns out otherwise, another pass gets the other frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf.video import sampling
from vidclf.video.sampling import SamplingPlan


@dataclass(frozen=True, kw_only=True)
class ExpectedFrame:
    """A frame that is expected to be picked, and those that may replace it if it is black."""

    ticks: int
    """expected presentation time"""
    alternatives: frozenset[int] = field(default_factory=frozenset)
    """expected times of the frames that may replace it"""


def expected_frames(
    times_ticks: npt.NDArray[np.int64],
    is_keyframe: npt.NDArray[np.bool_],
    chosen: npt.NDArray[np.intp],
    plan: SamplingPlan,
) -> list[ExpectedFrame]:
    """Return the frames that are expected to be picked: those with the indices `chosen`, in order of presentation.

    `times_ticks` [N] are the expected times of all frames.
    """
    is_eligible = is_keyframe if plan.mode == "keyframes" else np.ones(len(times_ticks), np.bool_)
    frames = []
    for index in chosen.tolist():
        alternatives = sampling.alternatives(times_ticks, chosen, is_eligible, index) if plan.avoid_black else []
        frames.append(
            ExpectedFrame(ticks=int(times_ticks[index]), alternatives=frozenset(times_ticks[alternatives].tolist()))
        )
    return frames


class Anticipation:
    """Keeper of the expected frames among all frames of a video, which are offered in order of presentation.

    At most the alternatives of one frame are held in memory besides the frames that are kept.
    """

    def __init__(
        self, expected: list[ExpectedFrame], collect: Callable[[int, Any], None], is_black: Callable[[int], bool]
    ) -> None:
        """`collect(index, frame)` keeps a frame; `is_black(index)` says whether a kept one is black."""
        self._expected = deque(expected)
        self._collect = collect
        self._is_black = is_black
        self._previous: tuple[int, Any] | None = None
        self._kept: set[int] = set()
        self._held: list[tuple[int, Any]] = []
        self._alternatives_after: frozenset[int] = frozenset()

    def offer(self, index: int, ticks: int, frame: Any) -> None:
        """Take notice of the frame number `index`, which is shown from the time `ticks` on; keep it if it is needed."""
        while self._expected and self._expected[0].ticks < ticks:
            self._take_previous()
        if self._expected and self._expected[0].ticks == ticks:
            self._take(index, frame)
        elif ticks in self._alternatives_after:
            self._keep(index, frame)
        elif self._expected and ticks in self._expected[0].alternatives:
            self._held.append((index, frame))
        self._previous = (index, frame)

    def finish(self) -> None:
        """Take notice that no frame follows: the last one stays on screen."""
        while self._expected:
            self._take_previous()

    def _take_previous(self) -> None:
        """Take the frame that is on screen at the time of an expected frame that did not come."""
        if self._previous is None:
            self._expected.popleft()
        else:
            self._take(*self._previous)

    def _take(self, index: int, frame: Any) -> None:
        """Keep the frame in place of the next expected one, and its alternatives if it is black."""
        expected = self._expected.popleft()
        self._keep(index, frame)
        is_black = self._is_black(index)
        if is_black:
            for held in self._held:
                self._keep(*held)
        self._held.clear()
        self._alternatives_after = expected.alternatives if is_black else frozenset()

    def _keep(self, index: int, frame: Any) -> None:
        if index not in self._kept:
            self._kept.add(index)
            self._collect(index, frame)
