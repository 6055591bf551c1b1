"""Answers of Label Studio (its export in JSON) as entries of a list of videos, each with the label that was chosen.

The format is that of https://labelstud.io/guide/export: a list of tasks, each with its `data` and its `annotations`.
`jobs/export.py --to label-studio` writes tasks whose data name the video, its source and its split.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from vidclf.archive.list_values import LOCATION_COLUMNS
from vidclf.schema import VIDEO_ID

_CARRIED = (VIDEO_ID, "group", "split")
"""Columns of a list that the data of a task may hold. The label is the answer, so an earlier sublabel may be wrong."""


@dataclass
class Answers:
    """Content of an export of Label Studio."""

    records: list[dict[str, Any]] = field(default_factory=list)
    """one entry per video with an answer: its location and label, and its id, group and split if known"""
    unanswered: list[str] = field(default_factory=list)
    """locations of the other videos"""


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

    An annotation that is marked as ground truth decides; otherwise all annotations of a video must agree. Cancelled
    annotations and those without a choice do not count. A video has several tasks if the results of several ensembles
    were exported. Raises ValueError if a task names no video, or if a video has several answers.
    """
    tasks_of: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for number, task in enumerate(tasks, 1):
        name = f"task {task.get('id', number)}"
        data = task["data"]
        uri = next((data[column] for column in (*LOCATION_COLUMNS, "video") if data.get(column)), None)
        if uri is None:
            raise ValueError(f"{name} names no video in any of {', '.join(LOCATION_COLUMNS)}, video of its data")
        # Locations without their credentials may be equal, ids are not.
        tasks_of[str(data.get(VIDEO_ID) or uri)].append((name, {**task, "uri": str(uri)}))
    answers = Answers()
    for named_tasks in tasks_of.values():
        uri, data = named_tasks[0][1]["uri"], named_tasks[0][1]["data"]
        label = _answer(named_tasks)
        if label is None:
            answers.unanswered.append(uri)
            continue
        carried = {column: data[column] for column in _CARRIED if data.get(column) is not None}
        answers.records.append({"video_uri": uri, "label": label, **carried})
    return answers


def _answer(named_tasks: list[tuple[str, dict[str, Any]]]) -> str | None:
    """The label that the tasks of one video give it; None if none of them has an answer."""
    valid = [
        (name, annotation)
        for name, task in named_tasks
        for annotation in task["annotations"]
        if not annotation.get("was_cancelled") and _choices(annotation)
    ]
    chosen = [(name, annotation) for name, annotation in valid if annotation.get("ground_truth")] or valid
    labels = sorted({label for _, annotation in chosen for label in _choices(annotation)})
    if len(labels) > 1:
        names = list(dict.fromkeys(name for name, _ in chosen))
        subject = f"{names[0]} has" if len(names) == 1 else f"{', '.join(names)}, which are of one video, have"
        raise ValueError(
            f"{subject} several answers ({', '.join(map(repr, labels))}); mark one annotation as ground truth in "
            "Label Studio"
        )
    return labels[0] if labels else None


def _choices(annotation: dict[str, Any]) -> list[str]:
    """The classes that an annotation chooses."""
    results = [result for result in annotation.get("result", ()) if result.get("type") == "choices"]
    return [str(choice) for result in results for choice in result["value"]["choices"]]
