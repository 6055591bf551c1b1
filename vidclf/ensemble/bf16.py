"""Members in bfloat16, which is faster on a CPU that has instructions for it.

What that may do to probabilities is found out on a probe, where the members run: validation's videos of which
the ensemble was least sure, since a surer one's probabilities move less, whole and in every view. Those of the
shorter sequences that early stages see were found to move about as much (`benchmarks/classify.py`).

Shape suffixes: B videos, T frames, D features, C classes, M members, V views.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidclf.ensemble.temporal_model import TemporalClassifier

NUM_PROBED = 8
"""Videos of the probe."""

LARGEST_DRIFT = 0.01
"""Of a probability of the whole ensemble on the probe, in any view, for bfloat16 to be taken."""


@dataclass(frozen=True, kw_only=True)
class PrecisionProbe:
    """A few videos, and what the members say of them in float32."""

    sequences_S: list[list[npt.NDArray[np.float16]]]
    """for each of the ensemble's backbones the videos' features [T, D]"""
    probabilities_VBC: npt.NDArray[np.float32]
    """the members' average of each view, calibrated"""

    @classmethod
    def of_least_sure(
        cls, sequences_S: Sequence[Sequence[npt.NDArray[np.float16]]], probabilities_VBC: npt.NDArray[np.float32]
    ) -> PrecisionProbe:
        """By the first view, which is the original."""
        sorted_BC = np.sort(probabilities_VBC[0], axis=1)
        chosen = np.argsort(sorted_BC[:, -1] - sorted_BC[:, -2], kind="stable")[:NUM_PROBED]
        return cls(
            sequences_S=[[own[index] for index in chosen] for own in sequences_S],
            probabilities_VBC=probabilities_VBC[:, chosen],
        )

    def agrees(self, probabilities_VBC: npt.NDArray[np.float32]) -> bool:
        """Whether other members' are nearly the same. Classes may differ where two are as good as equal, as
        among enough videos some always are."""
        return bool(np.abs(probabilities_VBC - self.probabilities_VBC).max() <= LARGEST_DRIFT)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """For a file; `read` takes them back."""
        features = {f"{index}.probe_TD": np.concatenate(own) for index, own in enumerate(self.sequences_S)}
        lengths_B = np.array([len(sequence) for sequence in self.sequences_S[0]], np.int64)
        return {**features, "probe.num_frames_B": lengths_B, "probe.probabilities_VBC": self.probabilities_VBC}

    @classmethod
    def read(cls, arrays: dict[str, npt.NDArray[Any]], num_backbones: int) -> PrecisionProbe | None:
        """None where there is none among the arrays."""
        if "probe.probabilities_VBC" not in arrays:
            return None
        ends = np.cumsum(arrays["probe.num_frames_B"])[:-1]
        return cls(
            sequences_S=[np.split(arrays[f"{index}.probe_TD"], ends) for index in range(num_backbones)],
            probabilities_VBC=arrays["probe.probabilities_VBC"],
        )


def to_bf16(member: TemporalClassifier) -> TemporalClassifier:
    """A copy with bfloat16 weights."""
    return copy.deepcopy(member).to(torch.bfloat16)
