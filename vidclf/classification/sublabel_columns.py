"""The columns of sublabels (finer classes below a class) in a table of predictions.

Shape suffixes: B videos, C classes, L sublabels of all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf.schema import Verdict
from vidclf.uncertainty.hierarchy import UNKNOWN, Hierarchy, SublabelAnswers, answer_levels
from vidclf.uncertainty.prediction_sets import names_in_sets
from vidclf.uncertainty.sublabel_sets import leaf_names, leaf_probabilities

if TYPE_CHECKING:
    from vidclf.ensemble.inference import EnsembleOutput


def no_sublabels(is_accepted_B: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    """The columns of sublabels of videos for which none is predicted: all but `answer_level` are null.

    `is_accepted_B` says which videos' classes are accepted.
    """
    num_videos, text, number = len(is_accepted_B), pa.string(), pa.float32()
    return {
        "sublabel": pa.nulls(num_videos, text),
        "top_sublabel": pa.nulls(num_videos, text),
        "sublabel_confidence": pa.nulls(num_videos, number),
        "sublabel_trust": pa.nulls(num_videos, number),
        "sublabel_probabilities": pa.nulls(num_videos, pa.list_(number)),
        "answer_level": pa.array(answer_levels(is_accepted_B, np.zeros(num_videos, bool)), text),
        "sublabel_set": pa.nulls(num_videos, pa.list_(text)),
    }


def sublabel_columns(
    output: EnsembleOutput, hierarchy: Hierarchy, verdicts: pa.Array, threshold: float | None
) -> dict[str, pa.Array]:
    """The columns of sublabels of `schema.predictions`, as arrow arrays by name; all but `answer_level` are null if the
    ensemble predicts no sublabels.

    `verdicts`: the decisions about the classes. `threshold`: smallest trust with which a sublabel is answered.
    """
    is_accepted_B = np.array([verdict == Verdict.ACCEPTED for verdict in verdicts.to_pylist()], bool)
    if output.conditional_BL is None:
        return no_sublabels(is_accepted_B)
    text, number = pa.string(), pa.float32()
    answers = SublabelAnswers.of(hierarchy, output.probabilities_BC, output.conditional_BL, output.trust_score_B)
    has_none_B = answers.top_B == UNKNOWN
    names = [None if index == UNKNOWN else hierarchy.names[index][1] for index in answers.top_B.tolist()]
    is_answered_B = answers.accepts(is_accepted_B, threshold)
    answered = [name if is_answered else None for name, is_answered in zip(names, is_answered_B, strict=True)]
    return {
        "sublabel": pa.array(answered, text),
        "top_sublabel": pa.array(names, text),
        "sublabel_confidence": pa.array(answers.confidence_B, number, mask=has_none_B),
        "sublabel_trust": pa.array(answers.trust_B, number, mask=has_none_B),
        "sublabel_probabilities": pa.array(output.conditional_BL.tolist(), pa.list_(number)),
        "answer_level": pa.array(answer_levels(is_accepted_B, is_answered_B), text),
    }


def sublabel_sets_column(output: EnsembleOutput, hierarchy: Hierarchy, lowest_N: Sequence[float] | None) -> pa.Array:
    """The column `sublabel_set` of `schema.predictions`; null without sublabels or thresholds.

    `lowest_N`: lowest probability of each leaf (`sublabel_sets.leaf_names`) in a set.
    """
    kind = pa.list_(pa.string())
    if output.conditional_BL is None or lowest_N is None:
        return pa.nulls(len(output.probabilities_BC), kind)
    leaves_BN = leaf_probabilities(hierarchy, output.probabilities_BC, output.conditional_BL)
    return pa.array(names_in_sets(leaves_BN, lowest_N, leaf_names(hierarchy)), kind)
