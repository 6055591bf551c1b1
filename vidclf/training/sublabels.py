"""Sublabels (finer classes below a class) in training: which ones are learnt, and their loss.

Shape suffixes: B videos, L sublabels of all classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from vidclf.ensemble.sublabels import log_conditional
from vidclf.features.feature_set import FeatureSet
from vidclf.uncertainty.hierarchy import UNKNOWN, Hierarchy

MIN_SOURCES = 2
"""Smallest number of sources (recordings) in the train split with which a sublabel is learnt. From a single source, a
model learns that source."""

MIN_SUBLABELS = 2
"""Smallest number of such sublabels with which a class has sublabels."""


LOSS_WEIGHT = 0.3
"""Weight of the loss of the sublabels beside that of the classes. With a higher one the classes suffer."""


def taxonomy_of(features: FeatureSet, classes: Sequence[str] | None = None) -> dict[str, list[str]]:
    """The sublabels that are learnt, by class, from the train split of a labelled feature set; in the order of
    `classes` or, if it is None, in alphabetical order. All members of an ensemble must have the same ones."""
    classes = classes if classes is not None else sorted({label for label in features.labels if label is not None})
    sources: dict[str, dict[str, set[str]]] = {name: defaultdict(set) for name in classes}
    rows = zip(features.labels, features.sublabels, features.groups, features.splits, strict=True)
    for label, sublabel, group, split in rows:
        if split == "train" and label in sources and sublabel is not None:
            sources[label][sublabel].add(group)
    learnt = {
        name: sorted(sublabel for sublabel, groups in found.items() if len(groups) >= MIN_SOURCES)
        for name, found in sources.items()
    }
    return {name: sublabels for name, sublabels in learnt.items() if len(sublabels) >= MIN_SUBLABELS}


def taxonomy_line(features: FeatureSet, hierarchy: Hierarchy) -> str | None:
    """A line for the log about the sublabels that are learnt, and the rule; None if no video has a sublabel."""
    pairs = zip(features.labels, features.sublabels, strict=True)
    found = {(label, sublabel) for label, sublabel in pairs if label is not None and sublabel is not None}
    if not found:
        return None
    rule = f"a sublabel needs {MIN_SOURCES} sources in train, a class {MIN_SUBLABELS} such sublabels"
    if not hierarchy.names:
        return f"sublabels: none is predicted; {rule}"
    learnt = ", ".join(f"{name} ({len(sublabels)})" for name, sublabels in hierarchy.sublabels.items())
    left_out = sorted(f"{label}/{sublabel}" for label, sublabel in found - set(hierarchy.names))
    return f"sublabels: predicted below {learnt}; {rule}{f'; not predicted: {_listed(left_out)}' if left_out else ''}"


def sublabel_loss(logits_BL: Tensor, sublabels_B: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Cross-entropy of the true sublabels within their classes, a scalar tensor.

    The sum over the videos with a known sublabel is divided by the number of all videos of the batch, so that a video
    has the same influence whatever the others of its batch are. Videos with an `UNKNOWN` sublabel add nothing.
    """
    log_p_BL = log_conditional(logits_BL, hierarchy)
    true_B = log_p_BL.gather(1, sublabels_B.clamp(min=0)[:, None])[:, 0]
    return -torch.where(sublabels_B == UNKNOWN, torch.zeros_like(true_B), true_B).sum() / len(sublabels_B)


def _listed(names: Sequence[str], most: int = 8) -> str:
    """The names as text, at most `most` of them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
