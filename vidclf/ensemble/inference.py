"""An ensemble on disk and in memory: members, calibration, and how its inputs were made.

An ensemble directory holds `ensemble.json`, `member_<i>.safetensors` and `trust.safetensors` (where
training's videos lie in feature space, and validation's trust scores); nothing in it is pickled.

Members may see features of different backbones; what an ensemble classifies comes as one list of
sequences for each of them, in the order of `EnsembleInfo.backbones`, of the same frames.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views, S backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidclf import torch_gpu
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.info import EnsembleInfo
from vidclf.ensemble.temporal_model import TemporalClassifier, pad
from vidclf.ensemble.views import PLAIN, VIEWS
from vidclf.schema import Look
from vidclf.uncertainty.frame_agreement import frame_agreement
from vidclf.uncertainty.ood import OodLine
from vidclf.uncertainty.temperature import tempered
from vidclf.uncertainty.trust_score import TrustScore, signs

MAX_SEQUENCES = 64
"""Sequences that a member sees at a time: larger batches gain nothing and take memory."""

BySpace = Sequence[Sequence[npt.NDArray[np.float16]]]
"""For each backbone the videos' features [T, D]; a video has as many frames in all of them."""


@dataclass(frozen=True, kw_only=True)
class EnsembleOutput:
    """What an ensemble says of B videos; probabilities are calibrated."""

    probabilities_BC: npt.NDArray[np.float32]
    member_probabilities_MBC: npt.NDArray[np.float32]
    """averaged over the views, by their weights"""
    view_probabilities_VBC: npt.NDArray[np.float32]
    """averaged over the members; one view without test-time augmentation"""
    trust_score_B: npt.NDArray[np.float32]
    ood_score_B: npt.NDArray[np.float32]
    attention: list[npt.NDArray[np.float32]]
    """[T] per video: the members' mean pooling weights, of the original view"""
    signs_BK: npt.NDArray[np.floating[Any]]
    """what the trust score is made of beside the confidence, in the order of `trust.SIGNS`"""


@dataclass(frozen=True, kw_only=True)
class FittedCalibration:
    """What makes predictions of the members' votes."""

    weights_V: npt.NDArray[np.float32]
    temperature: float
    ood: OodLine
    trust_score: TrustScore


class Ensemble:
    """Members, and with `tta` views, that vote by averaging their probabilities."""

    def __init__(
        self, info: EnsembleInfo, members: Sequence[TemporalClassifier], trust: TrustData, device: torch.device
    ) -> None:
        self.info = info
        self.trust = trust
        self._members = [member.eval().to(device) for member in members]
        self._device = device
        if device.type == "cuda":
            torch_gpu.use_tf32()

    @property
    def dtype(self) -> torch.dtype:
        """Of the members' weights."""
        return self._members[0].dtype

    @property
    def precision(self) -> str:
        """What the members compute in."""
        if self.dtype == torch.bfloat16:
            return "bf16"
        return "tf32" if self._device.type == "cuda" else "fp32"

    def __call__(self, sequences_S: BySpace, *, tta: bool = False, stage: str = Look.FULL) -> EnsembleOutput:
        """Classify feature sequences of any lengths, as what they are of the video at `stage`."""
        names = list(VIEWS) if tta else list(PLAIN)
        fitted = self.fitted(tta, stage)
        logits_VMBC, attention = run_members(self._members, self.info.spaces_M, sequences_S, names, self._device)
        votes = vote(logits_VMBC.softmax(dim=3).numpy(), fitted.weights_V, fitted.temperature)
        probabilities_BC = votes.probabilities_BC
        spaces = self.trust.spaces[stage]
        distances_SB = [space.distances(seen) for space, seen in zip(spaces, sequences_S, strict=True)]
        ood_B = fitted.ood.score(distances_SB).astype(np.float32)
        agreement_B = frame_agreement(self.trust.discriminants, sequences_S, probabilities_BC.argmax(axis=1))
        signs_BK = signs(probabilities_BC, votes.member_MBC, votes.view_VBC, agreement_B, ood_B)
        return EnsembleOutput(
            probabilities_BC=probabilities_BC,
            member_probabilities_MBC=votes.member_MBC,
            view_probabilities_VBC=votes.view_VBC,
            trust_score_B=fitted.trust_score(probabilities_BC.max(axis=1), signs_BK),
            ood_score_B=ood_B,
            attention=attention,
            signs_BK=signs_BK,
        )

    def probabilities(self, sequences_S: BySpace) -> npt.NDArray[np.float32]:
        """Calibrated probabilities [B, C] of the original view and nothing else: for parts of videos."""
        logits_VMBC, _ = run_members(self._members, self.info.spaces_M, sequences_S, PLAIN, self._device)
        return tempered(logits_VMBC[0].softmax(dim=2).mean(0).numpy(), self.fitted(False).temperature)

    def fitted(self, tta: bool, stage: str = Look.FULL) -> FittedCalibration:
        """What is fitted for the full look in one mode, or for an early stage, which has one view."""
        info = self.info
        if stage != Look.FULL:
            early = info.stages[stage]
            return FittedCalibration(
                weights_V=np.ones(1, np.float32),
                temperature=float(early.calibration.temperature),
                ood=early.ood,
                trust_score=early.trust,
            )
        return FittedCalibration(
            weights_V=np.array([view.weight for view in info.views] if tta else [1.0], np.float32),
            temperature=float(info.calibration.of_mode(tta).temperature),
            ood=info.trust.ood,
            trust_score=info.trust.score(tta),
        )


@dataclass(frozen=True, kw_only=True)
class Votes:
    """The average of members and views, and what each of them says, all at the ensemble's temperature."""

    probabilities_BC: npt.NDArray[np.float32]
    member_MBC: npt.NDArray[np.float32]
    view_VBC: npt.NDArray[np.float32]


def vote(
    probabilities_VMBC: npt.NDArray[np.float32],
    weights_V: npt.NDArray[np.float32],
    temperature: float | npt.NDArray[np.floating[Any]],
) -> Votes:
    """Average first, then temper: over the views by their weights, over the members evenly. One temperature,
    or [B, 1], one for each video."""
    member_MBC = np.tensordot(weights_V, probabilities_VMBC, axes=1)
    return Votes(
        probabilities_BC=tempered(member_MBC.mean(axis=0), temperature),
        member_MBC=tempered(member_MBC, temperature),
        view_VBC=tempered(probabilities_VMBC.mean(axis=1), temperature),
    )


@torch.inference_mode()
def run_members(
    members: Sequence[TemporalClassifier],
    spaces_M: Sequence[int],
    sequences_S: BySpace,
    view_names: Sequence[str],
    device: torch.device,
) -> tuple[Tensor, list[npt.NDArray[np.float32]]]:
    """Logits [V, M, B, C] float32 of every view and member, and the members' mean pooling weights [T] of
    each sequence in the first view. Each member sees the sequences of its backbone, by `spaces_M`.

    Sequences of one length, of whatever video and view, make a batch, so that none is padded or packed:
    both cost more than the smaller batches do.
    """
    of_length: dict[int, list[tuple[int, int, list[npt.NDArray[np.float16]]]]] = {}
    for view, name in enumerate(view_names):
        for video, of_video in enumerate(zip(*sequences_S, strict=True)):
            seen_S = [VIEWS[name](sequence) for sequence in of_video]
            of_length.setdefault(len(seen_S[0]), []).append((view, video, seen_S))
    num_videos = len(sequences_S[0])
    logits_VMBC: Tensor | None = None
    attention: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * num_videos
    for alike in of_length.values():
        for start in range(0, len(alike), MAX_SEQUENCES):
            batch = alike[start : start + MAX_SEQUENCES]
            padded_S = [pad([seen_S[space] for _, _, seen_S in batch]) for space in range(len(sequences_S))]
            inputs_S = [(features_BTD.to(device), lengths_B) for features_BTD, lengths_B in padded_S]
            outputs = []
            for member, space in zip(members, spaces_M, strict=True):
                features_BTD, lengths_B = inputs_S[space]
                outputs.append(member(features_BTD.to(member.dtype), lengths_B))
            logits_MBC = torch.stack([output.logits_BC for output in outputs]).float().cpu()
            mean_BT = torch.stack([output.attention_BT for output in outputs]).mean(0).float().cpu().numpy()
            if logits_VMBC is None:
                logits_VMBC = torch.empty(len(view_names), len(members), num_videos, logits_MBC.shape[2])
            for row, (view, video, _) in enumerate(batch):
                logits_VMBC[view, :, video] = logits_MBC[:, row]
                if view == 0:
                    attention[video] = mean_BT[row]
    if logits_VMBC is None:
        raise ValueError("an ensemble classifies at least one sequence, got none")
    return logits_VMBC, attention
