"""bfloat16 ensemble members, which are faster on some CPUs, and the test that allows them.

They are faster on a CPU with bfloat16 instructions.

Each worker tests whether bfloat16 changes the probabilities. It classifies eight validation videos, those with the
smallest margin between the two top classes, in every view (test-time variant of a video), and compares with the stored
float32 result. Videos with a larger margin change less. The shorter sequences of early looks, which use few frames,
were found to change about as much (`benchmarks/classify.py`).

Shape suffixes: B videos, T frames, D features, C classes, M members, V views, S backbones.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from vidclf.ensemble.temporal_model import TemporalModel

NUM_PROBED = 8
"""Number of validation videos on which a worker tests bfloat16."""

LARGEST_DRIFT = 0.01
"""Largest change of any class probability that bfloat16 may cause on the test videos, in any view (test-time variant of
a video). If it causes more, the members run in float32."""


@dataclass(frozen=True, kw_only=True)
class PrecisionProbe:
    """A few validation videos with the ensemble's float32 probabilities, with which a worker tests whether bfloat16 is
    accurate enough."""

    sequences_S: list[list[npt.NDArray[np.float16]]]
    """per backbone of the ensemble: the features of each video, [frames, features]"""
    probabilities_VBC: npt.NDArray[np.float32]
    """calibrated probabilities, averaged over the members: [views, videos, classes]; a view is a test-time variant of a
    video"""

    @classmethod
    def of_least_sure(
        cls, sequences_S: Sequence[Sequence[npt.NDArray[np.float16]]], probabilities_VBC: npt.NDArray[np.float32]
    ) -> PrecisionProbe:
        """Choose the `NUM_PROBED` videos with the smallest margin between the two top classes, and keep their features
        and probabilities.

        The margin is that of the unchanged video, the first of the views (test-time variants).
        """
        sorted_BC = np.sort(probabilities_VBC[0], axis=1)
        indices = np.argsort(sorted_BC[:, -1] - sorted_BC[:, -2], kind="stable")[:NUM_PROBED]
        return cls(
            sequences_S=[[sequences[index] for index in indices] for sequences in sequences_S],
            probabilities_VBC=probabilities_VBC[:, indices],
        )

    def agrees(self, probabilities_VBC: npt.NDArray[np.float32]) -> bool:
        """Whether `probabilities_VBC` of the same videos differ from the stored float32 ones by at most
        `LARGEST_DRIFT`.

        The most probable class may differ if two classes are nearly equal, which happens among enough videos.
        """
        return bool(np.abs(probabilities_VBC - self.probabilities_VBC).max() <= LARGEST_DRIFT)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The content as named arrays for a file. Inverse of `read`."""
        features = {f"{index}.probe_TD": np.concatenate(sequences) for index, sequences in enumerate(self.sequences_S)}
        lengths_B = np.array([len(sequence) for sequence in self.sequences_S[0]], np.int64)
        return {**features, "probe.num_frames_B": lengths_B, "probe.probabilities_VBC": self.probabilities_VBC}

    @staticmethod
    def first_invalid(arrays: dict[str, npt.NDArray[Any]]) -> str | None:
        """Message about numbers of frames in the named arrays of a file that do not fit its features; None if all
        fit."""
        if "probe.probabilities_VBC" not in arrays:
            return None
        lengths_B, num_frames = arrays["probe.num_frames_B"], len(arrays["0.probe_TD"])
        if len(lengths_B) and lengths_B.min() >= 1 and int(lengths_B.sum()) == num_frames:
            return None
        return f"probe.num_frames_B must be at least 1 each and {num_frames} in all, got {lengths_B.tolist()}"

    @classmethod
    def read(cls, arrays: dict[str, npt.NDArray[Any]], num_backbones: int) -> PrecisionProbe | None:
        """The probe (bfloat16 test data) in the named arrays of a file; None if the file has none."""
        if "probe.probabilities_VBC" not in arrays:
            return None
        ends = np.cumsum(arrays["probe.num_frames_B"])[:-1]
        return cls(
            sequences_S=[np.split(arrays[f"{index}.probe_TD"], ends) for index in range(num_backbones)],
            probabilities_VBC=arrays["probe.probabilities_VBC"],
        )


def to_bf16(member: TemporalModel) -> TemporalModel:
    """A copy of the ensemble member with bfloat16 weights."""
    import torch  # imported here, because a job without torch reads the probe

    return copy.deepcopy(member).to(torch.bfloat16)
