"""Files of a hyperparameter search: progress and state of each trial (one training), table of trials, best settings.

    trials/<id>/state.pt         everything that the next epoch depends on (`MemberFit.snapshot`); some epochs old
    trials/<id>/progress.json    settings, curve and error, after each epoch
    trials.parquet               all trials; columns are `schema.trials`
    best.yaml                    settings of the best trial, for `jobs/train.py --config`

These files replace Ray's own record of a trial, which lags behind by some seconds.
"""

from __future__ import annotations

import io
import json
import re
import traceback
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import pyarrow as pa
import torch
import yaml
from torch import Tensor

from vidclf import arrow, installation, schema, storage
from vidclf.config import FitConfig
from vidclf.config.fields import base_kind
from vidclf.credentials import is_masked, masked_text
from vidclf.json_text import json_text
from vidclf.schema import TrialStatus
from vidclf.training.member_fit import write_snapshot
from vidclf.training.member_state import Snapshot
from vidclf.tuning.settings_schedule import Schedule, continued, described
from vidclf.tuning.space import FEATURES, KINDS

TRIALS_DIR = "trials"

TRIALS_FILE = "trials.parquet"

BEST_FILE = "best.yaml"

_OUT_OF_MEMORY = re.compile(r"MemoryError|out of memory|not enough memory|can't allocate memory|running low on memory")

_LISTS = ("epoch_macro_f1", "epoch_val_loss", "epoch_train_loss", "ended_s")

_ARROW = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}


@dataclass(kw_only=True)
class TrialRecord:
    """Content of `progress.json`: settings, epochs so far and error of one trial (one training of a hyperparameter
    search)."""

    trial_id: str
    features: str
    """location of the features that the trial is trained on"""
    settings: dict[str, Any]
    """settings in force in the best epoch so far, or at the start of the training: fields of FitConfig"""
    started_s: float
    """start of the trial in Unix time"""
    history: list[dict[str, Any]] = field(default_factory=list)
    """the epochs so far, each as the fields of `Epoch`"""
    ended_s: list[float] = field(default_factory=list)
    """end of each epoch in the history, in Unix time"""
    schedule: Schedule = field(default_factory=list)
    """settings by the epoch from which they were in force; several only in population-based training"""
    best_epoch: int | None = None
    """number of the epoch with the best weights so far, counted from 1 in the history"""
    is_done: bool = False
    """whether training has ended, because its epochs or its patience are used up"""
    error: str | None = None
    """the error that ended the trial, with the traceback; it would occur again"""

    def __post_init__(self) -> None:
        # A record of an earlier version has no schedule.
        self.schedule = self.schedule or continued([], 0, self.settings)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch so far, as the fields of `Epoch`; None before the first epoch has ended."""
        return self.history[self.best_epoch - 1] if self.best_epoch is not None else None


def progress_of(output: str, trial_id: str) -> TrialRecord | None:
    """The progress of a trial, read from its `progress.json`; None if the trial has not begun."""
    path = storage.join(output, TRIALS_DIR, trial_id, "progress.json")
    return TrialRecord(**storage.read_json(path)) if storage.exists(path) else None


def publish_progress(output: str, progress: TrialRecord) -> None:
    """Write the progress of a trial to its `progress.json`."""
    storage.publish_json(storage.join(output, TRIALS_DIR, progress.trial_id, "progress.json"), asdict(progress))


def state_of(output: str, trial_id: str) -> bytes | None:
    """The bytes of a trial's `state.pt`, from which its training continues; None if there is no such file."""
    path = storage.join(output, TRIALS_DIR, trial_id, "state.pt")
    return storage.read_bytes(path) if storage.exists(path) else None


def publish_state(output: str, trial_id: str, snapshot: Snapshot) -> None:
    """Write the state of a trial's training to its `state.pt`."""
    storage.publish(storage.join(output, TRIALS_DIR, trial_id, "state.pt"), partial(write_snapshot, snapshot))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The best weights and the epochs of a trial, as saved in its `state.pt`.

    A trial that the time budget stopped may have had a better epoch after its last saved state.
    """

    weights: dict[str, Tensor]
    """weights of the best epoch, on the CPU"""
    best: dict[str, Any]
    """the best epoch, as the fields of `Epoch`"""
    history: list[dict[str, Any]]
    """all epochs, each as the fields of `Epoch`"""


def trained(output: str, trial_id: str) -> Trained | None:
    """The best weights and the epochs of a trial; None if the trial was stopped before it saved its first state."""
    state = state_of(output, trial_id)
    if state is None:
        return None
    # To the CPU: the trial may have been trained on a GPU, and this process may have none.
    values: dict[str, Any] = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
    return Trained(weights=values["best_state"], best=values["best"], history=values["history"])


def is_out_of_memory(error: str) -> bool:
    """Whether the text of an error says that memory ran out: of a GPU, of the host, or of the node as monitored by
    Ray."""
    return bool(_OUT_OF_MEMORY.search(error))


def error_text(error: BaseException) -> str:
    """The error as text: its message in the first line, then the traceback."""
    message = "".join(traceback.format_exception_only(error)).strip()
    return masked_text(f"{message}\n{''.join(traceback.format_exception(error))}")


def first_line(text: str) -> str:
    """The first line of a text that is not blank; an empty text if there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def row(output: str, trial_id: str, error: str | None, searched: Sequence[str]) -> dict[str, Any]:
    """The row of `schema.trials` for a trial that has ended. `error` is the text of Ray's error, if the trial
    failed."""
    progress = progress_of(output, trial_id)
    error = (progress.error if progress is not None else None) or error
    columns: dict[str, Any] = {"trial_id": trial_id, "error": error, "status": _status(progress, error)}
    if progress is None:  # its worker died before it wrote any progress
        absent = (
            "macro_f1",
            "accuracy",
            "val_loss",
            "best_epoch",
            "started_s",
            "features",
            "settings",
            "schedule",
            *searched,
        )
        return {**dict.fromkeys(absent), **columns, "num_epochs": 0, "duration_s": 0.0, **{name: [] for name in _LISTS}}
    best = progress.best or {}
    history = progress.history
    return {
        **columns,
        "macro_f1": best.get("val_macro_f1"),
        "accuracy": best.get("val_accuracy"),
        "val_loss": best.get("val_loss"),
        "best_epoch": progress.best_epoch,
        "num_epochs": len(history),
        "started_s": progress.started_s,
        "duration_s": float(sum(epoch["duration_s"] for epoch in history)),
        **{name: progress.settings[name] for name in searched if name != FEATURES},
        "features": progress.features,
        "settings": json_text(progress.settings),
        "schedule": json_text(progress.schedule),
        "epoch_macro_f1": [epoch["val_macro_f1"] for epoch in history],
        "epoch_val_loss": [epoch["val_loss"] for epoch in history],
        "epoch_train_loss": [epoch["train_loss"] for epoch in history],
        "ended_s": progress.ended_s,
    }


def _status(progress: TrialRecord | None, error: str | None) -> TrialStatus:
    """The status of a trial that has ended: out of memory, failed, finished, or stopped before its end."""
    if error is not None:
        return TrialStatus.OUT_OF_MEMORY if is_out_of_memory(error) else TrialStatus.FAILED
    assert progress is not None, "a trial that did not fail has run an epoch"
    return TrialStatus.FINISHED if progress.is_done else TrialStatus.STOPPED


def table(rows: Sequence[Mapping[str, Any]], searched: Sequence[str]) -> pa.Table:
    """The rows as a table with the columns `schema.trials`, the best trial first."""
    parameters = {name: _arrow_type(name) for name in searched if name != FEATURES}
    columns = schema.trials(parameters)
    ordered = sorted(rows, key=_rank)
    return arrow.conform(pa.Table.from_pylist([dict(entry) for entry in ordered], columns), columns, TRIALS_FILE)


def _rank(entry: Mapping[str, Any]) -> tuple[bool, float, float, float]:
    """Sort key of trials, with the best trial first and failed ones last: macro F1, then accuracy, then start time.

    Losses are no criterion, because they do not compare across values of focal_gamma or label_smoothing.
    """
    has_failed = entry["error"] is not None or entry["macro_f1"] is None
    return has_failed, -(entry["macro_f1"] or 0.0), -(entry["accuracy"] or 0.0), entry["started_s"] or 0.0


def _arrow_type(name: str) -> pa.DataType:
    """The Arrow type of the column for the setting `name`."""
    kind = base_kind(KINDS[name])
    if kind is tuple:
        return pa.list_(_ARROW[next(arg for arg in typing.get_args(KINDS[name]) if arg is not Ellipsis)])
    return _ARROW[kind]


def fit_config(entry: Mapping[str, Any]) -> FitConfig:
    """The training configuration of a trial, from its row of `schema.trials`."""
    settings: dict[str, Any] = json.loads(entry["settings"])
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return FitConfig(**values)


def settings_of(config: FitConfig) -> dict[str, Any]:
    """The fields of FitConfig in a configuration, as plain values for JSON and YAML. Fields of its subclasses are left
    out."""
    values = {entry.name: getattr(config, entry.name) for entry in fields(FitConfig)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def best_yaml(entry: Mapping[str, Any], split: str, note: str) -> bytes:
    """The content of a file for `jobs/train.py --config`: the features and settings of the trial in `entry`, and
    `split`, below a comment.

    The settings are those of the trial's best epoch. If they changed during the training, the comment has all of them.
    """
    values = {"features": [entry["features"]], "split": split, **json.loads(entry["settings"])}
    head = f"# {note}\n# trial {entry['trial_id']}: macro F1 {entry['macro_f1']:.4f} on validation, epoch "
    head += f"{entry['best_epoch']} of {entry['num_epochs']} run\n"
    changes = described(json.loads(entry.get("schedule") or "[]"))
    if changes:
        head += (
            f"# The settings changed during this training. Those below were in force in epoch {entry['best_epoch']}:\n"
        )
        head += "# a training with them from its start on is another one and may score differently.\n"
        head += "".join(f"#   {change}\n" for change in changes)
    head += f"# {train_command(entry, BEST_FILE)}\n"
    if is_masked(entry["features"]):
        head += "# --features must be given again, because the credentials of its location are not stored\n"
    return (head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)).encode()


def train_command(entry: Mapping[str, Any], best_file: str) -> str:
    """The command that trains a row's settings from `best_file`; masked features must be given again."""
    again = " --features …" if is_masked(entry["features"]) else ""
    return f"{installation.program('train')} --config {best_file}{again} --output …"
