"""Probabilities that the members (models) of an ensemble give to videos, on the CPU or on a share of a GPU.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views (test-time variants of a video), S
backbones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidclf import torch_gpu
from vidclf.ensemble import files, inference
from vidclf.ensemble.info import MembersInfo
from vidclf.ensemble.sublabels import split_probabilities


@dataclass(frozen=True, kw_only=True)
class VoteRequest:
    """Videos that the members classify, and the views (test-time variants of each video) in which they see them."""

    sequences_S: Sequence[Sequence[npt.NDArray[np.float16]]]
    """per backbone, a list with the features [T, D] of each video"""
    views: tuple[str, ...]
    """names of the views"""


RunVotes = Callable[[str, MembersInfo, Sequence[VoteRequest]], list[npt.NDArray[np.float32]]]
"""Function that computes probabilities: takes the members' directory, their description and requests; returns an array
[V, M, B, C] per request. With sublabels, their conditional probabilities follow: [V, M, B, C + L]."""


class Voting:
    """Function object that computes the probabilities of all members (models of the ensemble), one member after the
    other, on the CPU or on the fraction `gpus` of a GPU.

    The conditional probabilities of sublabels, if the members predict some, follow those of the classes.
    """

    def __init__(self, gpus: float) -> None:
        self._device = torch_gpu.take_share(gpus)

    def __call__(
        self, directory: str, info: MembersInfo, requests: Sequence[VoteRequest]
    ) -> list[npt.NDArray[np.float32]]:
        """Probabilities as one array [V views, M members, B videos, C classes and L sublabels] per request."""
        votes: list[list[npt.NDArray[np.float32]]] = [[] for _ in requests]
        for index, space in enumerate(info.spaces_M):
            # Only one member is in memory at a time: a share of a GPU has room for one.
            member = files.load_member(directory, info, index).eval().to(self._device)
            for request_votes, request in zip(votes, requests, strict=True):
                logits_V1BC, _ = inference.run_members(
                    [member], [space], request.sequences_S, request.views, self._device
                )
                classes, sublabels = split_probabilities(logits_V1BC, info.hierarchy)
                request_votes.append(classes if sublabels is None else np.concatenate([classes, sublabels], axis=3))
        return [np.concatenate(request_votes, axis=1) for request_votes in votes]
