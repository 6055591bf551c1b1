"""The progress of a member (model of an ensemble) in training: its epochs so far, as kept in its checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

Snapshot = dict[str, Any]
"""State of a training, as returned by `MemberFit.snapshot`: tensors on the CPU and plain values, by name."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Figures of one training epoch and of the validation after it."""

    attempt: int
    """1 at first, and 1 more after each new start from other random weights"""
    number: int
    """number of the epoch, counted from 1 in each attempt"""
    lr: float
    train_loss: float
    train_accuracy: float
    """accuracy on the augmented draws, while the weights change"""
    train_recall: list[float | None]
    """recall per class on the same draws; None for a class that was not drawn"""
    train_draws: list[int] = field(default_factory=list)
    """number of draws per class; empty in a checkpoint of an earlier version"""
    val_loss: float
    """validation loss of the averaged weights; the scores below are also those of the averaged weights"""
    val_accuracy: float
    val_macro_f1: float
    val_weighted_f1: float
    val_f1: list[float]
    """F1 score per class"""
    duration_s: float


@dataclass(kw_only=True)
class MemberState:
    """Progress of a training, beside its weights and its optimizer."""

    attempt: int = 1
    """1 at first, and 1 more after each new start from other random weights"""
    number: int = 0
    """number of the last epoch, counted from 1 in each attempt"""
    history: list[Epoch] = field(default_factory=list)
    """figures of every epoch of every attempt"""
    best: Epoch | None = None
    """best epoch of all attempts"""
    attempt_best: Epoch | None = None
    """best epoch of the present attempt"""
    best_state: dict[str, Tensor] = field(default_factory=dict)
    """weights of the best epoch, on the CPU; replaced as a whole when an epoch is better, never changed in place"""

    def snapshot(self) -> Snapshot:
        """The progress as a dictionary of plain values for a checkpoint; weights in it are not copied."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            **values,
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best and asdict(self.best),
            "attempt_best": self.attempt_best and asdict(self.attempt_best),
        }

    @classmethod
    def of(cls, snapshot: Snapshot) -> MemberState:
        """The progress read back from a dictionary that `snapshot` returned; other entries of a checkpoint are
        ignored."""
        values = {entry.name: snapshot[entry.name] for entry in fields(cls)}
        epochs = {name: Epoch(**values[name]) if values[name] else None for name in ("best", "attempt_best")}
        return cls(**{**values, "history": [Epoch(**epoch) for epoch in values["history"]], **epochs})
