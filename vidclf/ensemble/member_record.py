"""The record of one ensemble member: its weights file, its origin and its validation scores.

The same record is an entry of `members` in `ensemble.json` and `member` in `member_<i>.json`. Training, the import of
reference checkpoints and tuning each fill in the facts that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

TRAINING_RUN_FACTS = ("precision", "placement", "peak_gpu_memory_bytes")


@dataclass(frozen=True, kw_only=True)
class MemberRecord:
    """One member. A field is None if it does not apply to the member's origin."""

    file: str
    """name of its weights file in the ensemble's directory"""
    backbone: str
    """name of the backbone whose features it takes"""
    num_parameters: int | None = None
    seed: int | None = None
    digest: str
    """SHA-256 of the weights file"""
    recipe: str | None = None
    """digest of the settings and the data, or `trial <id>` for a member from tuning"""
    imported_from: str | None = None
    """file name of the reference checkpoint"""
    trial: dict[str, Any] | None = None
    """settings of the tuning trial"""
    attempts: int | None = None
    """trainings until one did not collapse"""
    epochs: int | None = None
    """epochs run, of all attempts together"""
    duration_s: float | None = None
    precision: str | None = None
    """number formats of training, from `torch_gpu.precision`"""
    placement: dict[str, Any] | None = None
    """fields of `training.gpu_memory.Placement`: the data held in GPU memory; None on a CPU"""
    peak_gpu_memory_bytes: int | None = None
    """None on a CPU"""
    best: dict[str, Any] | None = None
    """scores on the validation split of the epoch whose weights were kept, `val_f1` per class"""

    def as_json(self) -> dict[str, Any]:
        """The record as files hold it, in the order of the fields. Facts that do not apply are left out; those of a
        training run (`TRAINING_RUN_FACTS`) are there together, with null for a member trained on a CPU."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        has_run = self.precision is not None
        return {
            name: value
            for name, value in values.items()
            if value is not None or (has_run and name in TRAINING_RUN_FACTS)
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> MemberRecord:
        """Inverse of `as_json`. Facts that this version does not know are dropped; TypeError if one that every member
        must have is missing."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})
