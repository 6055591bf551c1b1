"""Sublabels (finer classes below a class) in an ensemble: the logits of its members, and their calibration.

The last layer of a member has one output per class and, after these, one per sublabel. Both share all layers before
it. So every kind of temporal model can predict sublabels, and without sublabels it is the same as ever.

Shape suffixes: C classes, L sublabels of all classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vidclf.uncertainty.hierarchy import Hierarchy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SublabelInfo:
    """Calibration of the sublabels, in `ensemble.json`."""

    temperatures: dict[str, float]
    """temperature of the conditional probabilities: without test-time augmentation (`plain`), with it (`tta`), and of
    each early look (classification from few frames)"""
    num_videos: int
    """number of validation videos with a known sublabel"""
    val_accuracy: float | None
    """share of these whose most probable sublabel is right, class included; None if there is none"""


def log_conditional(logits_L: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Logarithms of the conditional probabilities of the sublabels [..., L], which sum to 1 within each class."""
    import torch  # imported here, because a job without torch reads `SublabelInfo`

    parts = torch.split(logits_L, hierarchy.sizes, dim=-1)
    return torch.cat([part.log_softmax(dim=-1) for part in parts], dim=-1)


def split_probabilities(
    logits: Tensor, hierarchy: Hierarchy
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Probabilities from the outputs [..., C + L] of members: of the classes [..., C], and the conditional ones of the
    sublabels [..., L]; None without sublabels."""
    num_classes = len(hierarchy.classes)
    classes = logits[..., :num_classes].softmax(dim=-1).numpy()
    if not hierarchy.names:
        return classes, None
    return classes, log_conditional(logits[..., num_classes:], hierarchy).exp().numpy()


def average(conditional_VMBL: npt.NDArray[np.float32], weights_V: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average conditional probabilities over the views with `weights_V`, and over the members equally. The linear
    member has none."""
    averaged_BL: npt.NDArray[np.float32] = np.tensordot(weights_V, conditional_VMBL.mean(axis=1), axes=1)
    return averaged_BL
