"""Label Studio: the format of its tasks, and the circle from abstained videos to features with new labels."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa

from tests.support.audited_runs import LABELS, VIDEOS, write_audited_run
from tests.support.jobs import job, succeed
from tests.support.predictions import SPEC, Predicted
from vidclf import storage
from vidclf.archive.manifest import read_manifest, video_id
from vidclf.export.label_studio import interface
from vidclf.features.columns import features_column
from vidclf.features.feature_set import read_features
from vidclf.runs import reconcile, relocated
from vidclf.runs.layout import Run

TASKS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {"type": "object", "required": ["video"], "properties": {"video": {"type": "string"}}},
            "predictions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["result"],
                    "properties": {
                        "model_version": {"type": "string"},
                        "score": {"type": "number", "minimum": 0, "maximum": 1},
                        "result": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["from_name", "to_name", "type", "value"],
                                "properties": {
                                    "id": {"type": "string"},
                                    "from_name": {"const": "label"},
                                    "to_name": {"const": "video"},
                                    "type": {"const": "choices"},
                                    "value": {
                                        "type": "object",
                                        "required": ["choices"],
                                        "properties": {"choices": {"type": "array", "items": {"type": "string"}}},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
        "additionalProperties": False,
    },
}
"""The format of tasks with predictions, from https://labelstud.io/guide/tasks and https://labelstud.io/guide/predictions.
The names are those of the labelling interface."""


def test_the_tasks_have_the_documented_format(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", labels=LABELS)
    output = succeed("export", "--run", run, "--to", "label-studio", "--output", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    jsonschema.validate(tasks, TASKS)
    run_id = tasks[0]["data"].pop("run_id")
    assert len(run_id) == 32
    assert tasks[0] == {
        "data": {
            "video_id": "v0",
            "ensemble_id": "e0",
            "video_uri": "/none/v0",
            "verdict": "accepted",
            "trust_score": 0.45,
            "ood_score": 0.5,
            "true_label": "A",
            "group": "source of v0",
            "split": "test",
            "video": "/none/v0",
        },
        "predictions": [
            {
                "model_version": "e0",
                "score": 0.9,
                "result": [
                    {
                        "id": "v0",
                        "from_name": "label",
                        "to_name": "video",
                        "type": "choices",
                        "value": {"choices": ["A"]},
                    }
                ],
            }
        ],
    }
    assert output.endswith(f"  labelling interface: {interface(['A', 'B'])}\n")


def test_the_interface_names_the_classes() -> None:
    assert interface(["A & B", 'say "C"']) == (
        '<View><Video name="video" value="$video"/><Choices name="label" toName="video" choice="single" '
        'required="true"><Choice value="A &amp; B"/><Choice value=\'say "C"\'/></Choices></View>'
    )


def test_answers_become_labels_of_features_and_nothing_is_decoded(tmp_path: Path) -> None:
    """The videos do not exist, so any attempt to decode one would fail."""
    uris = [f"/none/{name}.mp4" for name in "abc"]
    ids = [video_id(uri) for uri in uris]
    videos = [
        Predicted(ids[0], "A", 0.9),
        Predicted(ids[1], "A", 0.6, is_accepted=False),
        Predicted(ids[2], "B", 0.55, is_accepted=False),
    ]
    run = write_audited_run(tmp_path / "run", videos, uris=dict(zip(ids, uris, strict=True)))
    features = write_features(tmp_path / "features", ids, uris)

    tasks_file, answers_file = tmp_path / "tasks.json", tmp_path / "answers.json"
    succeed("export", "--run", run, "--to", "label-studio", "--only", "abstained", "--output", tasks_file)
    tasks = json.loads(tasks_file.read_text())
    assert sorted(task["data"]["video"] for task in tasks) == uris[1:]
    answer = {uris[1]: "B", uris[2]: "B"}
    answers_file.write_text(
        json.dumps([annotated(number, task, answer[task["data"]["video"]]) for number, task in enumerate(tasks)])
    )

    manifest_file = tmp_path / "answers.parquet"
    succeed("index", "--input", answers_file, "--output", manifest_file, "--split", "none")
    manifest = read_manifest(str(manifest_file))
    assert manifest["video_id"].to_pylist() == ids[1:]
    assert manifest["label"].to_pylist() == ["B", "B"]
    assert manifest["group"].to_pylist() == [f"source of {video}" for video in ids[1:]]

    continue_with(features, manifest)
    labelled = read_features(features)
    assert labelled.video_ids == ids[1:]
    assert labelled.labels == ["B", "B"]
    assert [float(rows_TD[0, 0]) for rows_TD in labelled.features] == [1.0, 2.0]


def test_answers_laid_over_the_manifest_change_labels_and_no_file_of_features(tmp_path: Path) -> None:
    """The videos do not exist, so any attempt to decode one would fail."""
    uris = [f"/none/{name}.mp4" for name in "abc"]
    ids = [video_id(uri) for uri in uris]
    videos = [Predicted(ids[0], "A", 0.9), *(Predicted(video, "A", 0.6, is_accepted=False) for video in ids[1:])]
    run = write_audited_run(tmp_path / "run", videos, uris=dict(zip(ids, uris, strict=True)))
    features = write_features(tmp_path / "features", ids, uris)
    shard = (tmp_path / "features/part-0.parquet").read_bytes()
    keys = read_features(features).spec.key

    tasks_file, answers_file = tmp_path / "tasks.json", tmp_path / "answers.json"
    succeed("export", "--run", run, "--to", "label-studio", "--only", "abstained", "--output", tasks_file)
    tasks = json.loads(tasks_file.read_text())
    answers_file.write_text(json.dumps([annotated(number, task, "B") for number, task in enumerate(tasks)]))
    laid_over = ("--labels", answers_file, "--continue-from", f"{run}/manifest.parquet", "--split", "none")
    assert "  without a label: 1 video; `train` leaves these out\n" in succeed(
        "index", *laid_over, "--output", tmp_path / "labelled.parquet"
    )

    continue_with(features, read_manifest(f"{tmp_path}/labelled.parquet"))
    labelled = read_features(features)
    assert labelled.video_ids == ids
    assert labelled.labels == [None, "B", "B"]
    assert [float(rows_TD[0, 0]) for rows_TD in labelled.features] == [0.0, 1.0, 2.0]
    assert labelled.spec.key == keys
    assert (tmp_path / "features/part-0.parquet").read_bytes() == shard


def annotated(number: int, task: dict[str, Any], label: str) -> dict[str, Any]:
    """A task as Label Studio exports it in JSON after one person chose `label`."""
    result = {**task["predictions"][0]["result"][0], "value": {"choices": [label]}, "origin": "manual"}
    annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "result": [result]}
    return {"id": number, "annotations": [annotation], "data": task["data"], "predictions": [], "project": 1}


def continue_with(features: str, manifest: pa.Table) -> None:
    """What `extract --manifest … --drop-removed` does with a finished run before it looks for videos to decode."""
    assert relocated.replaced_videos(features, manifest) == []
    reconcile.let_go(features, relocated.removed_videos(features, manifest)["video_id"].combine_chunks())
    storage.publish_table(Run(features).manifest_file, manifest)


def write_features(run: Path, ids: list[str], uris: list[str]) -> str:
    """A finished extraction without labels, whose features are the number of the video."""
    storage.publish_json(str(run / "run_identity.json"), {"feature_specs": [asdict(SPEC)]})
    nothing = pa.nulls(len(ids), pa.string())
    texts = {"video_id": ids, "video_uri": uris, "label": nothing, "sublabel": nothing, "group": uris, "split": nothing}
    storage.publish_table(Run(str(run)).manifest_file, pa.table(texts))
    arrays = [np.full((2, 1280), number, np.float16) for number in range(len(ids))]
    columns = {**texts, "content_digest": uris, "feature_key": [SPEC.key] * len(ids)}
    table = pa.table({**columns, "features": features_column(arrays, 1280)})
    storage.publish_table(str(run / "part-0.parquet"), table)
    return str(run)


def test_the_sorts_of_a_video_are_in_its_task(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", VIDEOS, labels=LABELS)
    selected = ("--only", "misclassified")
    succeed("export", "--run", run, "--to", "label-studio", *selected, "--output", tmp_path / "tasks.json")
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert (task["data"]["true_label"], task["predictions"][0]["result"][0]["value"]) == ("A", {"choices": ["B"]})


def test_tasks_of_the_list_to_label_next_are_in_its_order(tmp_path: Path) -> None:
    run, output = write_audited_run(tmp_path / "run"), tmp_path / "tasks.json"
    arguments = ("--run", run, "--to", "label-studio", "--only", "label-next", "--output", output)
    refused = job("export", *arguments)
    assert refused.returncode == 2
    assert f"--only label-next: {run} has no label_next.csv; run jobs/classify.py again" in refused.stderr
    # v0 is in the first shard; the list has it last.
    Path(run, "label_next.csv").write_text("rank,video_id,label\n1,v1,\n2,v0,\n")
    succeed("export", *arguments)
    assert [entry["data"]["video_id"] for entry in json.loads(output.read_text())] == ["v1", "v0"]
