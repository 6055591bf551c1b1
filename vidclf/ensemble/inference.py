"""Classification by an ensemble: members vote, calibration turns the average into predictions.

With test-time augmentation each member votes on several views (variants of a video, such as reversed in time).

An ensemble directory holds `ensemble.json` (`info.py`), `member_<i>.safetensors` (`files.py`) and `trust.safetensors`
(`calibration_file.py`). None of them is pickled.

Members may take features of different backbones. The input is one list of sequences per backbone, in the order of
`EnsembleInfo.backbones`, computed from the same frames.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views, S backbones, K inputs of the trust score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidclf import torch_gpu
from vidclf.ensemble.calibration_file import TrustData
from vidclf.ensemble.info import EnsembleInfo, mode
from vidclf.ensemble.linear_member import LinearMember, member_weights
from vidclf.ensemble.segment_temperature import segment_linear_weights, segment_temperatures
from vidclf.ensemble.sublabels import average, split_probabilities
from vidclf.ensemble.temporal_model import TemporalModel, pad
from vidclf.ensemble.views import PLAIN, VIEWS
from vidclf.features.computed_frames import ComputedFrames
from vidclf.schema import Look
from vidclf.uncertainty.frame_agreement import frame_agreement
from vidclf.uncertainty.ood import OodLine
from vidclf.uncertainty.temperature import tempered
from vidclf.uncertainty.trust_score import TrustScore, signs

MAX_SEQUENCES = 64
"""Largest number of sequences in one batch. Larger batches are no faster and take memory."""

MAX_ATTENTION_BYTES = 256 << 20
"""Largest attention weights of a batch (T² × heads × 4 bytes per sequence), so that long videos do not fill the memory.
A single sequence may have larger ones."""

BySpace = Sequence[Sequence[npt.NDArray[np.float16]]]
"""Input of an ensemble: for each backbone a list with one feature array [frames, features] per video.

A video has the same number of frames for all backbones.
"""


@dataclass(frozen=True, kw_only=True)
class EnsembleOutput:
    """Predictions of an ensemble for several videos; all probabilities are calibrated."""

    probabilities_BC: npt.NDArray[np.float32]
    """class probabilities of each video"""
    member_probabilities_MBC: npt.NDArray[np.float32]
    """probabilities by each member alone: the weighted average over the views (test-time variants of the video). The
    linear member, if there is one, comes last"""
    member_weights_M: npt.NDArray[np.float64]
    """weight of each member in the average"""
    view_probabilities_VBC: npt.NDArray[np.float32]
    """probabilities from each view (test-time variant of the video) alone: the average over the members; a single view
    without test-time augmentation"""
    trust_score_B: npt.NDArray[np.float32]
    """estimated probability that the most probable class is right"""
    ood_score_B: npt.NDArray[np.float32]
    """distance from the training videos; above 1 the video is out of distribution"""
    attention: list[npt.NDArray[np.float32]]
    """per video one weight per frame of the unchanged video: the members' mean attention when they pool frames"""
    signs_BK: npt.NDArray[np.floating[Any]]
    """inputs of the trust score besides the confidence (measures of agreement), in the order of `trust_score.SIGNS`"""
    conditional_BL: npt.NDArray[np.float32] | None
    """conditional probabilities of the sublabels within their classes; None if the ensemble predicts no sublabels"""


@dataclass(frozen=True, kw_only=True)
class FittedCalibration:
    """The fitted values that turn the members' votes into predictions, for one selection of frames (look) with or
    without test-time augmentation."""

    weights_V: npt.NDArray[np.float32]
    """weights with which the views (test-time variants of a video) are averaged"""
    linear_weight: float | None
    """weight of the linear member in the average of the members; None if there is no linear member"""
    temperature: float
    ood: OodLine
    trust_score: TrustScore


class Ensemble:
    """Loaded members that classify together by averaging their probabilities.

    With test-time augmentation (`tta`) the average also covers several views (variants of each video).
    """

    def __init__(
        self,
        info: EnsembleInfo,
        members: Sequence[TemporalModel],
        trust: TrustData,
        device: torch.device,
        linear: LinearMember | None = None,
    ) -> None:
        """`linear` is the linear member; it is there if, and only if, `info` describes one."""
        self.info = info
        self._linear = linear
        self.trust = trust
        self._members = [member.eval().to(device) for member in members]
        self._device = device
        if device.type == "cuda":
            torch_gpu.use_tf32()

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the members' weights."""
        return self._members[0].dtype

    @property
    def precision(self) -> str:
        """Number format of the members' computation: bf16, tf32 or fp32."""
        if self.dtype == torch.bfloat16:
            return "bf16"
        return "tf32" if self._device.type == "cuda" else "fp32"

    def __call__(self, sequences_S: BySpace, *, tta: bool = False, stage: str = Look.FULL) -> EnsembleOutput:
        """Classify videos from their feature sequences, which may have any lengths.

        `stage` names the look (partial or full selection of a video's frames) for which the frames were sampled. With
        `tta` all views (test-time variants of a video) vote.
        """
        names = list(VIEWS) if tta else list(PLAIN)
        fitted = self.fitted(tta, stage)
        logits_VMBC, attention = run_members(self._members, self.info.spaces_M, sequences_S, names, self._device)
        probabilities_VMBC, conditional_VMBL = split_probabilities(logits_VMBC, self.info.hierarchy)
        weights_M = member_weights(len(self._members), fitted.linear_weight)
        if self._linear is not None:
            linear_V1BC = self._linear.in_views(sequences_S, names)
            probabilities_VMBC = np.concatenate([probabilities_VMBC, linear_V1BC], axis=1)
        votes = vote(probabilities_VMBC, fitted.weights_V, fitted.temperature, weights_M)
        probabilities_BC = votes.probabilities_BC
        spaces = self.trust.spaces[stage]
        distances_SB = [space.distances(sequences) for space, sequences in zip(spaces, sequences_S, strict=True)]
        ood_B = fitted.ood.score(distances_SB).astype(np.float32)
        agreement_B = frame_agreement(self.trust.discriminants, sequences_S, probabilities_BC.argmax(axis=1))
        signs_BK = signs(probabilities_BC, votes.member_MBC, votes.view_VBC, agreement_B, ood_B, weights_M)
        return EnsembleOutput(
            probabilities_BC=probabilities_BC,
            member_probabilities_MBC=votes.member_MBC,
            member_weights_M=weights_M,
            view_probabilities_VBC=votes.view_VBC,
            trust_score_B=fitted.trust_score(probabilities_BC.max(axis=1), signs_BK),
            ood_score_B=ood_B,
            attention=attention,
            signs_BK=signs_BK,
            conditional_BL=self._conditional(conditional_VMBL, fitted.weights_V, tta, stage),
        )

    def _conditional(
        self,
        conditional_VMBL: npt.NDArray[np.float32] | None,
        weights_V: npt.NDArray[np.float32],
        tta: bool,
        stage: str,
    ) -> npt.NDArray[np.float32] | None:
        """Calibrated conditional probabilities of the sublabels, averaged over the views and the temporal members."""
        if conditional_VMBL is None or self.info.sublabels is None:
            return None
        temperature = self.info.sublabels.temperatures[mode(tta) if stage == Look.FULL else stage]
        return self.info.hierarchy.tempered(average(conditional_VMBL, weights_V), temperature)

    def segment_probabilities(self, sequences_S: BySpace) -> npt.NDArray[np.float32]:
        """Calibrated class probabilities [segments, classes] of segments (parts of videos), without test-time
        augmentation. The temperature of a segment and the weight of the linear member depend on its number of
        frames."""
        logits_VMBC, _ = run_members(self._members, self.info.spaces_M, sequences_S, PLAIN, self._device)
        pooled_BC = split_probabilities(logits_VMBC[0], self.info.hierarchy)[0].mean(axis=0)
        info, lengths_B = self.info, [len(sequence) for sequence in sequences_S[0]]
        num_frames = info.backbones[0].feature_spec.plan.num_frames
        if self._linear is not None and info.linear is not None:
            weight = info.linear.looks[Look.FULL].weight
            weight_B1 = segment_linear_weights(info.segments, info.linear.segments, num_frames, weight, lengths_B)[
                :, None
            ]
            pooled_BC = (1 - weight_B1) * pooled_BC + weight_B1 * self._linear(sequences_S)
        temperature_B = segment_temperatures(info.segments, num_frames, info.calibration.temperature, lengths_B)
        return tempered(pooled_BC, temperature_B[:, None])

    def fitted(self, tta: bool, stage: str = Look.FULL) -> FittedCalibration:
        """The fitted calibration values for the look `stage` (partial or full selection of a video's frames).

        For the full look `tta` chooses the values with or without test-time augmentation. Early looks never use it.
        """
        info = self.info
        linear_weight = info.linear.looks[stage].weight if info.linear is not None else None
        if stage != Look.FULL:
            early = info.stages[stage]
            return FittedCalibration(
                weights_V=np.ones(1, np.float32),
                linear_weight=linear_weight,
                temperature=float(early.calibration.temperature),
                ood=early.ood,
                trust_score=early.trust,
            )
        return FittedCalibration(
            weights_V=np.array([view.weight for view in info.views] if tta else [1.0], np.float32),
            linear_weight=linear_weight,
            temperature=float(info.calibration.of_mode(tta).temperature),
            ood=info.trust.ood,
            trust_score=info.trust.score(tta),
        )


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Class probabilities from the average of all votes, from each member and from each view (test-time variant), all
    at the same temperature."""

    probabilities_BC: npt.NDArray[np.float32]
    member_MBC: npt.NDArray[np.float32]
    view_VBC: npt.NDArray[np.float32]


def vote(
    probabilities_VMBC: npt.NDArray[np.float32],
    weights_V: npt.NDArray[np.float32],
    temperature: float | npt.NDArray[np.floating[Any]],
    weights_M: npt.NDArray[np.float64],
) -> Votes:
    """Average probabilities over the views (with `weights_V`) and the members (with `weights_M`), then apply the
    calibration temperature.

    `temperature` is one number, or an array [videos, 1] with one per video.
    """
    member_MBC = np.tensordot(weights_V, probabilities_VMBC, axes=1)
    return Votes(
        probabilities_BC=tempered(np.tensordot(weights_M, member_MBC, axes=1), temperature),
        member_MBC=tempered(member_MBC, temperature),
        view_VBC=tempered(np.tensordot(weights_M, probabilities_VMBC, axes=(0, 1)), temperature),
    )


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Sequences of equal length, one per row, from any videos and views (test-time variants of a video)."""

    views: list[int]
    """index of the view (test-time variant of a video) that each row shows"""
    videos: list[int]
    """index of the video to which each row belongs"""
    sequences_S: list[list[npt.NDArray[np.float16]]]
    """for each backbone the feature arrays [frames, features] of the rows"""


@torch.inference_mode()
def run_members(
    members: Sequence[TemporalModel],
    spaces_M: Sequence[int],
    sequences_S: BySpace,
    view_names: Sequence[str],
    device: torch.device,
) -> tuple[Tensor, list[npt.NDArray[np.float32]]]:
    """Run every member on every view (test-time variant) of the videos.

    Each member takes the features of one backbone, `spaces_M[member]`. Returns the logits as a float32 tensor [views,
    members, videos, classes], and per video an array with one weight per frame: the members' mean attention in the
    first view. Raises ValueError if there is no video.
    """
    num_videos = len(sequences_S[0])
    logits_VMBC: Tensor | None = None
    attention: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * num_videos
    num_heads = max(member.num_heads for member in members)
    for batch in _batches_by_length(sequences_S, view_names, num_heads):
        logits_MBC, attention_BT = _run_batch(members, spaces_M, batch, device)
        if logits_VMBC is None:
            logits_VMBC = torch.empty(len(view_names), len(members), num_videos, logits_MBC.shape[2])
        for row, (view, video) in enumerate(zip(batch.views, batch.videos, strict=True)):
            logits_VMBC[view, :, video] = logits_MBC[:, row]
            if view == 0:
                attention[video] = attention_BT[row]
    if logits_VMBC is None:
        raise ValueError("an ensemble classifies at least one sequence, got none")
    return logits_VMBC, attention


def _batch_size(num_frames: int, num_heads: int) -> int:
    """Number of sequences of `num_frames` frames within `MAX_SEQUENCES` and `MAX_ATTENTION_BYTES`, at least 1."""
    return max(1, min(MAX_SEQUENCES, MAX_ATTENTION_BYTES // (4 * num_heads * max(num_frames, 1) ** 2)))


def _batches_by_length(sequences_S: BySpace, view_names: Sequence[str], num_heads: int) -> Iterator[_Batch]:
    """All views of all videos in batches of at most `_batch_size` sequences of equal length.

    With equal lengths no sequence is padded or packed, which would cost more than the smaller batches do.
    """
    views_SV = [[ComputedFrames(sequences, VIEWS[name]) for name in view_names] for sequences in sequences_S]
    rows_of_length: dict[int, list[tuple[int, int]]] = {}
    for view, sequences in enumerate(views_SV[0]):
        for video, length in enumerate(sequences.lengths):
            rows_of_length.setdefault(length, []).append((view, video))
    for length, rows in rows_of_length.items():
        size = _batch_size(length, num_heads)
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            # Computed here, because the views of all videos together may be larger than the memory.
            by_backbone = [[views_V[view][video] for view, video in batch] for views_V in views_SV]
            yield _Batch(
                views=[view for view, _ in batch], videos=[video for _, video in batch], sequences_S=by_backbone
            )


def _run_batch(
    members: Sequence[TemporalModel], spaces_M: Sequence[int], batch: _Batch, device: torch.device
) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """Run all members on one batch.

    Returns the logits as a float32 tensor [members, rows, classes] on the CPU, and the members' mean attention weights
    as an array [rows, frames].
    """
    inputs_S = []
    for sequences in batch.sequences_S:
        features_BTD, lengths_B = pad(sequences)
        inputs_S.append((features_BTD.to(device), lengths_B))
    outputs = []
    for member, space in zip(members, spaces_M, strict=True):
        features_BTD, lengths_B = inputs_S[space]
        outputs.append(member(features_BTD.to(member.dtype), lengths_B))
    logits_MBC = torch.stack([output.logits_BC for output in outputs]).float().cpu()
    attention_BT: npt.NDArray[np.float32] = (
        torch.stack([output.attention_BT for output in outputs]).mean(0).float().cpu().numpy()
    )
    return logits_MBC, attention_BT
