"""Which trials make an ensemble: greedy forward selection (Caruana et al. 2004, Ensemble Selection from
Libraries of Models), by the votes' average on validation.

Without replacement, since an ensemble's members vote alike. It starts from the best trial and goes on to the
number asked for, also where another member no longer helps: what validation tells of the last ones is little.

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
    """Indices of at most `num_members` candidates, the first of them (the best alone) first, then in the order
    in which each adds most: to macro F1, then to the log-likelihood."""
    chosen = [0]
    while len(chosen) < min(num_members, len(probabilities_NBC)):
        left = [index for index in range(len(probabilities_NBC)) if index not in chosen]
        chosen.append(max(left, key=lambda index: vote(probabilities_NBC[[*chosen, index]], labels, classes)))
    return chosen


def vote(
    probabilities_NBC: npt.NDArray[np.floating], labels: Sequence[int], classes: Sequence[str]
) -> tuple[float, float]:
    """Macro F1 and mean log-likelihood of the average of N votes."""
    mean_BC = probabilities_NBC.mean(axis=0)
    of_label_B = mean_BC[np.arange(len(labels)), labels]
    score = scores.evaluate(labels, mean_BC.argmax(axis=1).tolist(), classes).macro_f1
    return score, float(np.log(np.maximum(of_label_B, 1e-12)).mean())
