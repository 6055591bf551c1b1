"""Probabilities of sublabels (finer classes below a class), and the level at which a video is answered.

A taxonomy of two levels gives a class its sublabels. The probability of a sublabel is that of its class times its
conditional probability within the class: P(sublabel) = P(class) · P(sublabel | class). The conditional probabilities
of one class sum to 1, so the sublabels of a class share exactly its probability.

A video is answered at the deepest level that keeps the risk: with a sublabel, else with a class, else not at all
(Deng et al. 2012, Hedging Your Bets, doi:10.1109/CVPR.2012.6248086; Goren, Galil & El-Yaniv 2024, Hierarchical
Selective Classification, arXiv:2405.11533).

Shape suffixes: B videos, C classes, L sublabels of all classes, in the order of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

from vidclf.schema import AnswerLevel
from vidclf.uncertainty.temperature import LEAST_PROBABILITY, LOG_RANGE, PRIOR_SD

Floats = npt.NDArray[np.floating[Any]]

Ints = npt.NDArray[np.int64]

UNKNOWN = -1
"""Index of a sublabel that is not known, or not in the taxonomy."""


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """The classes of an ensemble and their sublabels. A class without an entry has no sublabels."""

    classes: Sequence[str]
    sublabels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """sublabels by class"""

    @cached_property
    def parent_L(self) -> Ints:
        """Index of the class of each sublabel."""
        sizes = [len(self.sublabels.get(name, ())) for name in self.classes]
        return np.repeat(np.arange(len(sizes)), sizes)

    @cached_property
    def names(self) -> list[tuple[str, str]]:
        """Class and sublabel of each sublabel."""
        return [(name, sublabel) for name in self.classes for sublabel in self.sublabels.get(name, ())]

    @property
    def sizes(self) -> list[int]:
        """Numbers of sublabels of the classes that have some, in the order of the classes."""
        return [len(self.sublabels[name]) for name in self.classes if name in self.sublabels]

    @property
    def num_outputs(self) -> int:
        """Number of classes and sublabels together: the number of logits of a temporal model."""
        return len(self.classes) + len(self.names)

    def index(self, label: str | None, sublabel: str | None) -> int:
        """Index of a sublabel of a class; `UNKNOWN` if the taxonomy lacks it."""
        pair = (label, sublabel)
        return self._index_of.get(pair, UNKNOWN)

    @cached_property
    def _index_of(self) -> dict[tuple[str | None, str | None], int]:
        return {pair: index for index, pair in enumerate(self.names)}

    def tempered(self, conditional_BL: Floats, temperature: float | Floats) -> npt.NDArray[np.float32]:
        """Apply a temperature to conditional probabilities, class by class. It is one number, or an array [B, 1]."""
        return self._by_class(_logarithms(conditional_BL) / temperature, softmax).astype(np.float32)

    def joint(self, probabilities_BC: Floats, conditional_BL: Floats) -> Floats:
        """Probability of each sublabel, as an array [B, L]: that of its class times its conditional probability."""
        return probabilities_BC[:, self.parent_L] * conditional_BL

    def top_sublabels(self, conditional_BL: Floats, class_B: npt.NDArray[np.integer[Any]]) -> Ints:
        """Index of the most probable sublabel of a given class of each video; `UNKNOWN` if the class has none."""
        inside_BL = self.parent_L == np.asarray(class_B)[:, None]
        if not inside_BL.size:
            return np.full(len(class_B), UNKNOWN)
        top_B = np.where(inside_BL, conditional_BL, -1.0).argmax(axis=1)
        return np.where(inside_BL.any(axis=1), top_B, UNKNOWN)

    def fit_temperature(self, conditional_BL: Floats, sublabel_B: Ints) -> float:
        """Fit the temperature of conditional probabilities to the true sublabels of videos.

        Videos with an `UNKNOWN` sublabel have no influence. Maximum a posteriori, as in `temperature.fit_temperature`,
        with the prior around 1: the conditional loss of training needs no correction. Without a known sublabel it is 1.
        """
        # Imported here, because jobs that apply what was fitted need no optimizer; it takes 0.2 CPU seconds to load.
        from scipy.optimize import minimize_scalar

        known_B = sublabel_B != UNKNOWN
        logarithms_BL, true_B = _logarithms(conditional_BL[known_B]), sublabel_B[known_B][:, None]

        def loss(log_temperature: float) -> float:
            log_p_BL = self._by_class(logarithms_BL / np.exp(log_temperature), log_softmax)
            true_log_p_B = np.take_along_axis(log_p_BL, true_B, axis=1)
            return float(-true_log_p_B.sum() + 0.5 * (log_temperature / PRIOR_SD) ** 2)

        return round(float(np.exp(minimize_scalar(loss, bounds=(-LOG_RANGE, LOG_RANGE), method="bounded").x)), 4)

    def _by_class(self, values_BL: Floats, function: Callable[..., Any]) -> Floats:
        """Apply a function such as softmax to the values of each class's sublabels."""
        parts = np.split(values_BL, np.cumsum(self.sizes)[:-1], axis=-1)
        joined: Floats = np.concatenate([function(part, axis=-1) for part in parts], axis=-1)
        return joined


@dataclass(frozen=True, kw_only=True)
class SublabelAnswers:
    """The most probable sublabel of each video's most probable class, with its probability and its trust."""

    top_B: Ints
    """index of the sublabel; `UNKNOWN` if the class has none"""
    conditional_B: Floats
    """its probability within the class; 0 if there is none"""
    confidence_B: Floats
    """its probability: that of the class times `conditional_B`"""
    trust_B: Floats
    """estimated probability that it is right: the trust score of the class times `conditional_B`"""

    @classmethod
    def of(
        cls, hierarchy: Hierarchy, probabilities_BC: Floats, conditional_BL: Floats, trust_B: Floats
    ) -> SublabelAnswers:
        """The answers from calibrated probabilities and the trust scores of the most probable classes."""
        class_B = probabilities_BC.argmax(axis=1)
        top_B = hierarchy.top_sublabels(conditional_BL, class_B)
        found_B = np.take_along_axis(conditional_BL, np.maximum(top_B, 0)[:, None], axis=1)[:, 0]
        within_B = np.where(top_B == UNKNOWN, 0.0, found_B).astype(np.float32)
        return cls(
            top_B=top_B,
            conditional_B=within_B,
            confidence_B=probabilities_BC.max(axis=1) * within_B,
            trust_B=trust_B * within_B,
        )

    def levels(self, is_accepted_B: npt.NDArray[np.bool_], threshold: float | None) -> list[AnswerLevel]:
        """The deepest level of each video that keeps the risk.

        `is_accepted_B`: whether the class is accepted. `threshold`: lowest trust with which a sublabel is accepted;
        None for no sublabels.
        """
        return answer_levels(is_accepted_B, self.accepts(is_accepted_B, threshold))

    def accepts(self, is_accepted_B: npt.NDArray[np.bool_], threshold: float | None) -> npt.NDArray[np.bool_]:
        """Whether each video is answered with its sublabel: only where its class is accepted too."""
        if threshold is None:
            return np.zeros(len(self.top_B), bool)
        # As float32, like the trust threshold of the class.
        is_fine_B: npt.NDArray[np.bool_] = (
            is_accepted_B & (self.top_B != UNKNOWN) & (self.trust_B >= np.float32(threshold))
        )
        return is_fine_B


def answer_levels(
    is_class_accepted_B: npt.NDArray[np.bool_], is_sublabel_accepted_B: npt.NDArray[np.bool_]
) -> list[AnswerLevel]:
    """The level at which each video is answered."""
    return [
        AnswerLevel.SUBLABEL if has_sublabel else AnswerLevel.CLASS if has_class else AnswerLevel.ABSTAINED
        for has_class, has_sublabel in zip(is_class_accepted_B, is_sublabel_accepted_B, strict=True)
    ]


def _logarithms(probabilities: Floats) -> npt.NDArray[np.float64]:
    """Logarithms of probabilities in float64; probabilities below `LEAST_PROBABILITY` count as that."""
    return np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY))
