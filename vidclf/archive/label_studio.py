"""Answers of Label Studio (its export in JSON) as entries of a list of videos, each with the label that was chosen.

The format is that of https://labelstud.io/guide/export: a list of tasks, each with its `data` and its `annotations`.
`jobs/export.py --to label-studio` writes tasks whose data name the video, its source and its split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vidclf.archive.list_values import LOCATION_COLUMNS

_CARRIED = ("group", "split")
"""Columns of a list that the data of a task may hold. The label is the answer, so an earlier sublabel may be wrong."""


@dataclass
class Answers:
    """Content of an export of Label Studio."""

    records: list[dict[str, Any]] = field(default_factory=list)
    """one entry per task with an answer: the location of its video, its label, its group and split if known"""
    unanswered: list[str] = field(default_factory=list)
    """locations of the videos of the other tasks"""


def is_export(records: list[Any]) -> bool:
    """Whether the entries of a JSON list are tasks of Label Studio."""
    return bool(records) and all(
        isinstance(record, dict)
        and isinstance(record.get("data"), dict)
        and isinstance(record.get("annotations"), list)
        for record in records
    )


def read_answers(tasks: list[dict[str, Any]]) -> Answers:
    """The answers of the tasks.

    An annotation that is marked as ground truth decides; otherwise all annotations of a task must agree. Cancelled
    annotations and those without a choice do not count. Raises ValueError if a task names no video, or has several
    answers.
    """
    answers = Answers()
    for number, task in enumerate(tasks, 1):
        name = f"task {task.get('id', number)}"
        data = task["data"]
        uri = next((data[column] for column in (*LOCATION_COLUMNS, "video") if data.get(column)), None)
        if uri is None:
            raise ValueError(f"{name} names no video in any of {', '.join(LOCATION_COLUMNS)}, video of its data")
        valid = [each for each in task["annotations"] if not each.get("was_cancelled") and _choices(each)]
        chosen = [each for each in valid if each.get("ground_truth")] or valid
        labels = sorted({label for annotation in chosen for label in _choices(annotation)})
        if len(labels) > 1:
            raise ValueError(
                f"{name} has several answers ({', '.join(map(repr, labels))}); mark one annotation as ground truth in "
                "Label Studio"
            )
        if not labels:
            answers.unanswered.append(str(uri))
            continue
        carried = {column: data[column] for column in _CARRIED if data.get(column) is not None}
        answers.records.append({"video_uri": uri, "label": labels[0], **carried})
    return answers


def _choices(annotation: dict[str, Any]) -> list[str]:
    """The classes that an annotation chooses."""
    results = [result for result in annotation.get("result", ()) if result.get("type") == "choices"]
    return [str(choice) for result in results for choice in result["value"]["choices"]]
