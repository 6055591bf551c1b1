"""Answers of Label Studio as entries of a list of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidclf.archive.label_studio import is_export, read_answers
from vidclf.archive.manifest import list_archive
from vidclf.errors import ConfigError


def choice(*labels: str, **other: Any) -> dict[str, Any]:
    """An annotation that chooses `labels`."""
    result = {"from_name": "label", "to_name": "video", "type": "choices", "value": {"choices": list(labels)}}
    return {"id": 1, "was_cancelled": False, "ground_truth": False, "result": [result], **other}


def task(number: int, *annotations: dict[str, Any], **data: str) -> dict[str, Any]:
    """Task number `number` as Label Studio exports it."""
    return {"id": number, "data": {"video": f"http://media/{number}", **data}, "annotations": list(annotations)}


def test_the_chosen_class_is_the_label() -> None:
    tasks = [
        task(1, choice("A"), video_uri="/v/1.mp4", group="g", split="test", true_label="B", sublabel="old"),
        task(2, choice("B"), choice("B"), choice("A", was_cancelled=True)),
        task(3, choice("A"), choice("B", ground_truth=True)),
    ]
    answers = read_answers(tasks)
    assert answers.records == [
        {"video_uri": "/v/1.mp4", "label": "A", "group": "g", "split": "test"},
        {"video_uri": "http://media/2", "label": "B"},
        {"video_uri": "http://media/3", "label": "B"},
    ]
    assert answers.unanswered == []


def test_the_tasks_of_one_video_give_one_answer() -> None:
    """Results of two ensembles are two tasks; one of them may be left without an answer."""
    same = {"video_uri": "/v/1.mp4", "video_id": "v1"}
    assert read_answers([task(1, **same), task(2, choice("A"), **same)]).records == [
        {"video_uri": "/v/1.mp4", "label": "A", "video_id": "v1"}
    ]
    assert read_answers([task(1, choice("B"), **same), task(2, choice("A", ground_truth=True), **same)]).records == [
        {"video_uri": "/v/1.mp4", "label": "A", "video_id": "v1"}
    ]
    with pytest.raises(ValueError, match=r"^task 1, task 2, which are of one video, have several answers \('A', 'B'\)"):
        read_answers([task(1, choice("B"), **same), task(2, choice("A"), **same)])


def test_a_task_without_an_answer_gives_no_row() -> None:
    answers = read_answers([task(1), task(2, choice("A", was_cancelled=True)), task(3, choice())])
    assert answers.records == []
    assert answers.unanswered == ["http://media/1", "http://media/2", "http://media/3"]


def test_answers_that_differ_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^task 7 has several answers \('A', 'B'\); mark one annotation as ground tru"
    ):
        read_answers([task(7, choice("A"), choice("B"))])


def test_a_task_without_a_video_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^task 7 names no video in any of video_uri, uri, path, filepath, url, video"
    ):
        read_answers([{"id": 7, "data": {"text": "x"}, "annotations": []}])


def test_other_lists_are_no_answers() -> None:
    assert not is_export([])
    assert not is_export([{"path": "a.mp4", "label": "A"}])
    assert not is_export([{"data": "a.mp4", "annotations": "none"}])


def test_index_lists_the_answers_and_names_what_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text(json.dumps([task(1, choice("A"), video_uri="/v/1.mp4"), task(2, video_uri="/v/2.mp4")]))
    listing = list_archive(str(file))
    assert listing.manifest.select(["video_uri", "label"]).to_pylist() == [{"video_uri": "/v/1.mp4", "label": "A"}]
    assert listing.left_out() == ["passed over: 1 video without an answer ('/v/2.mp4')"]
    file.write_text(json.dumps([task(1)]))
    with pytest.raises(ConfigError) as refused:
        list_archive(str(file))
    assert str(refused.value) == f"--input {file}: none of its 1 video has an answer"
