"""Greedy forward selection of ensemble members (Caruana et al. 2004, Ensemble Selection from Libraries of Models).

Candidate models are selected by the score of their averaged probabilities on the validation split. No candidate is
selected twice, because all members of an ensemble have equal votes. The selection starts with the best candidate and
ends at the requested number, even if another member no longer improves the score: the validation split says little
about the last members.

Shape suffixes: N candidates, B videos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidclf.metrics import scores


def select(
    probabilities_NBC: npt.NDArray[np.floating], labels: Sequence[int], classes: Sequence[str], num_members: int
) -> list[int]:
    """Indices of at most `num_members` candidates, in the order of their selection. Of identical ones one is taken.

    Candidate 0 must be the best single model; it is selected first. Each further one is the candidate that makes the
    macro F1 of the averaged probabilities highest, or at equal macro F1 the log-likelihood.
    """
    selected = [0]
    while len(selected) < num_members:
        remaining = [
            index
            for index, probabilities_BC in enumerate(probabilities_NBC)
            if not any(np.array_equal(probabilities_BC, probabilities_NBC[one]) for one in selected)
        ]
        if not remaining:
            break
        selected.append(max(remaining, key=lambda index: vote(probabilities_NBC[[*selected, index]], labels, classes)))
    return selected


def vote(
    probabilities_NBC: npt.NDArray[np.floating], labels: Sequence[int], classes: Sequence[str]
) -> tuple[float, float]:
    """Two numbers that rate a group of N models: macro F1 and mean log-likelihood of their averaged probabilities."""
    mean_BC = probabilities_NBC.mean(axis=0)
    label_probability_B = mean_BC[np.arange(len(labels)), labels]
    score = scores.evaluate(labels, mean_BC.argmax(axis=1).tolist(), classes).macro_f1
    return score, float(np.log(np.maximum(label_probability_B, 1e-12)).mean())
