"""Label Studio: tasks with predictions (pre-annotations), as its import takes them.

The format is that of https://labelstud.io/guide/predictions. The answers, as Label Studio exports them in JSON, are
read by `vidclf/archive/label_studio.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from vidclf.errors import ConfigError
from vidclf.export import json_entries
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.rows import RunRows
from vidclf.export.target import Existing
from vidclf.runs import outputs

FROM_NAME, TO_NAME = "label", "video"
"""Names of the choices and of the video in the labelling interface, to which predictions refer."""

_DATA = (*KEYS, "video_uri", "verdict", "trust_score", "ood_score", "true_label", "group", "split")
"""Columns of a row that a task carries. Label Studio returns them with the answers."""


class LabelStudioTasks:
    """A JSON file with one task per video."""

    def __init__(self, location: str) -> None:
        self._location = outputs.real(location)
        self._tasks: list[dict[str, Any]] = []

    def read(self) -> Existing | None:
        """Keys of the tasks of the file; None if there is no file."""
        tasks = json_entries.load(self._location)
        if tasks is None:
            return None
        present = Present()
        for task in tasks:
            data = task.get("data") if isinstance(task, dict) else None
            if not isinstance(data, dict) or not set(KEYS) <= data.keys():
                raise ConfigError(f"--output {self._location}: has tasks of other programs; choose another name")
            present.add(*(data[name] for name in KEYS))
        self._tasks = tasks
        return Existing(present)

    def write(self, rows: RunRows, change: Change) -> None:
        """Write the tasks that stay, then the new ones."""
        kept = [] if change.removes_all else self._tasks
        json_entries.publish(self._location, "[", _tasks(kept, rows, change), "\n]\n")


def _tasks(kept: Sequence[dict[str, Any]], rows: RunRows, change: Change) -> Iterator[str]:
    """The lines of the file."""
    for entry in kept:
        if entry["data"]["video_id"] not in change.removed:
            yield json_entries.text(entry)
    new: Iterable[dict[str, Any]] = json_entries.values(rows, change)
    if rows.ranks:
        # A labelling tool shows tasks in the order of the file. Others than those of the list come last.
        new = sorted(new, key=lambda row: rows.ranks.get(row["video_id"], len(rows.ranks) + 1))
    for row in new:
        yield json_entries.text(task(row))


def task(row: dict[str, Any]) -> dict[str, Any]:
    """The task of one video, with its most probable class as prediction. Null values are left out."""
    choice = {
        "id": row["video_id"],
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "type": "choices",
        "value": {"choices": [row["top_label"]]},
    }
    data = {name: row[name] for name in _DATA if row[name] is not None}
    prediction = {"model_version": row["ensemble_id"], "score": row["confidence"], "result": [choice]}
    return {"data": {**data, "video": row["video_uri"]}, "predictions": [prediction]}


def interface(classes: Sequence[str]) -> str:
    """The labelling interface of a project for these tasks, as Label Studio's settings take it."""
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    return (
        f'<View><Video name="{TO_NAME}" value="${TO_NAME}"/>'
        f'<Choices name="{FROM_NAME}" toName="{TO_NAME}" choice="single" required="true">{choices}</Choices></View>'
    )
