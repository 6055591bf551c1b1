"""The record of one ensemble member: its weights file, how it was made, and its validation scores.

The same record is an entry of `members` in `ensemble.json` and `member` in `member_<i>.json`. Training, tuning
(hyperparameter search) and the import of checkpoints from an older system each fill in the facts that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

TRAINING_RUN_FACTS = ("precision", "placement", "peak_gpu_memory_bytes")
"""Names of the fields that describe the training itself; null in JSON, not left out, if they do not apply on a CPU."""


@dataclass(frozen=True, kw_only=True)
class MemberRecord:
    """Facts about one ensemble member. A fact that does not apply to the way in which the member was made is None."""

    file: str
    """name of the member's weights file in the ensemble's directory"""
    backbone: str
    """name of the backbone (image network) whose features the member takes"""
    num_parameters: int | None = None
    seed: int | None = None
    """seed of the random numbers of training"""
    digest: str
    """SHA-256 of the weights file"""
    recipe: str | None = None
    """digest of the training settings and the data, or `trial <id>` for a member from tuning (hyperparameter search)"""
    imported_from: str | None = None
    """file name of the checkpoint, for a member imported from the older system whose checkpoints vidclf reads"""
    trial: dict[str, Any] | None = None
    """settings that were tried, for a member from tuning"""
    attempts: int | None = None
    """number of times that training was started, up to the one that did not collapse"""
    epochs: int | None = None
    """number of epochs, all attempts together"""
    duration_s: float | None = None
    """seconds that training took"""
    precision: str | None = None
    """number formats of training, from `torch_gpu.precision`"""
    placement: dict[str, Any] | None = None
    """how training divided its data between GPU and host memory, as fields of `training.gpu_memory.Placement`; None on
    a CPU"""
    peak_gpu_memory_bytes: int | None = None
    """most GPU memory that training used; None on a CPU"""
    best: dict[str, Any] | None = None
    """scores on the validation split after the epoch whose weights were kept; `val_f1` per class"""

    def as_json(self) -> dict[str, Any]:
        """The record as a dictionary for JSON files, in the order of the fields.

        Facts that do not apply are left out. Those in `TRAINING_RUN_FACTS` are either all present or all left out; on a
        CPU some of them are null.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        has_run = self.precision is not None
        return {
            name: value
            for name, value in values.items()
            if value is not None or (has_run and name in TRAINING_RUN_FACTS)
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> MemberRecord:
        """Build a record from its JSON values. Inverse of `as_json`.

        Names that this version does not know are dropped. Raises TypeError if a fact that every member must have is
        missing.
        """
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})
