"""The epochs of a member in training, and the part of its checkpoints that is not weights or optimizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

Snapshot = dict[str, Any]
"""State of a member in training, as returned by `MemberFit.snapshot`: tensors on the CPU and plain values."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Figures of one pass over the train split, and of the validation that follows it."""

    attempt: int
    """1, and 1 more after each collapse"""
    number: int
    """counted from 1 in each attempt"""
    lr: float
    train_loss: float
    train_accuracy: float
    """accuracy on the augmented draws, while the weights change"""
    train_recall: list[float | None]
    """recall per class on the same draws; None for a class that was not drawn"""
    val_loss: float
    """loss of the averaged weights; all scores below are scores of the averaged weights too"""
    val_accuracy: float
    val_macro_f1: float
    val_weighted_f1: float
    val_f1: list[float]
    """per class"""
    duration_s: float


@dataclass(kw_only=True)
class MemberState:
    """Progress of a member in training, beside its weights and its optimizer."""

    attempt: int = 1
    number: int = 0
    """of the last epoch of this attempt, counted from 1"""
    history: list[Epoch] = field(default_factory=list)
    """every epoch of every attempt"""
    best: Epoch | None = None
    """of all attempts"""
    attempt_best: Epoch | None = None
    """of this attempt"""
    best_state: dict[str, Tensor] = field(default_factory=dict)
    """weights of the best epoch, on the CPU; replaced by better ones, never written to"""

    def snapshot(self) -> Snapshot:
        """The fields as plain values, without a copy of the weights."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            **values,
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best and asdict(self.best),
            "attempt_best": self.attempt_best and asdict(self.attempt_best),
        }

    @classmethod
    def of(cls, snapshot: Snapshot) -> MemberState:
        """Inverse of `snapshot`; other entries are left out."""
        values = {entry.name: snapshot[entry.name] for entry in fields(cls)}
        epochs = {name: Epoch(**values[name]) if values[name] else None for name in ("best", "attempt_best")}
        return cls(**{**values, "history": [Epoch(**epoch) for epoch in values["history"]], **epochs})
