"""Exports of runs written by hand: each output is read back by its own engine, after a second export and after a
kill."""

from __future__ import annotations

import csv
import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.audited_runs import LABELS, VIDEOS, write_audited_run
from tests.support.jobs import refuse, succeed
from tests.support.predictions import Predicted
from vidclf import storage
from vidclf.export.rows import RunRows

Rows = list[tuple[str, str, float]]
"""Video, ensemble and confidence of each row, sorted."""


def of_table(table: pa.Table) -> Rows:
    """The rows of an Arrow table."""
    return sorted(
        (row["video_id"], row["ensemble_id"], round(row["confidence"], 6))
        for row in table.select(["video_id", "ensemble_id", "confidence"]).to_pylist()
    )


def read_csv(path: Path) -> Rows:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return sorted((row["video_id"], row["ensemble_id"], float(row["confidence"])) for row in csv.DictReader(file))


def read_tasks(path: Path) -> Rows:
    tasks = json.loads(path.read_text()) if path.exists() else []
    return sorted((t["data"]["video_id"], t["data"]["ensemble_id"], t["predictions"][0]["score"]) for t in tasks)


def read_activitynet(path: Path) -> Rows:
    content = json.loads(path.read_text()) if path.exists() else {"results": {}}
    return sorted(
        (video, content["external_data"]["videos"][video]["ensemble_id"], results[0]["score"])
        for video, results in content["results"].items()
    )


def read_fiftyone(path: Path) -> Rows:
    samples = json.loads((path / "samples.json").read_text())["samples"] if (path / "samples.json").exists() else []
    return sorted((s["video_id"], s["ensemble_id"], s["prediction"]["confidence"]) for s in samples)


def read_delta(path: Path) -> Rows:
    from deltalake import DeltaTable

    return of_table(DeltaTable(path).to_pyarrow_table()) if DeltaTable.is_deltatable(str(path)) else []


def iceberg_table(path: Path) -> Any:
    """The table; None if there is none."""
    from pyiceberg.catalog.sql import SqlCatalog

    if not (path / "catalog.db").exists():
        return None
    catalog = SqlCatalog("vidclf", uri=f"sqlite:///{path}/catalog.db", warehouse=f"file://{path}")
    try:
        return catalog.load_table("vidclf.predictions") if catalog.table_exists("vidclf.predictions") else None
    finally:
        catalog.close()


def read_iceberg(path: Path) -> Rows:
    table = iceberg_table(path)
    return of_table(table.scan().to_arrow()) if table is not None else []


def read_lance(path: Path) -> Rows:
    import lance

    return of_table(lance.dataset(str(path)).to_table()) if (path / "_versions").exists() else []


READERS: dict[str, tuple[str, Callable[[Path], Rows]]] = {
    "csv": ("out.csv", read_csv),
    "label-studio": ("out.json", read_tasks),
    "activitynet": ("out.json", read_activitynet),
    "fiftyone": ("out", read_fiftyone),
    "delta": ("out", read_delta),
    "iceberg": ("out", read_iceberg),
    "lance": ("out", read_lance),
}
MODULES = {"delta": "deltalake", "iceberg": "pyiceberg", "lance": "lance"}
TABLES = ("csv", "delta", "iceberg", "lance")

ALL = [("v0", "e0", 0.9), ("v1", "e0", 0.6), ("v2", "e0", 0.8)]


def place(to: str, tmp_path: Path) -> tuple[Path, Callable[[Path], Rows]]:
    """Output and reader of a format; the test is skipped if its library is not installed."""
    if to in MODULES:
        pytest.importorskip(MODULES[to], reason=f"the extra {to} is not installed")
    name, read = READERS[to]
    return tmp_path / name, read


@pytest.mark.parametrize("to", READERS)
def test_every_row_is_there_once_after_two_exports(to: str, tmp_path: Path) -> None:
    output, read = place(to, tmp_path)
    run = write_audited_run(tmp_path / "run", labels=LABELS)
    assert ": would write 3\n" in succeed("export", "--run", run, "--to", to, "--output", output, "--dry-run")
    assert not output.exists()
    assert ": 3 written\n" in succeed("export", "--run", run, "--to", to, "--output", output)
    assert read(output) == ALL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert succeed("export", "--run", run, "--to", to, "--output", output).endswith(
        ": unchanged, they are there already\n"
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert read(output) == ALL


@pytest.mark.parametrize("to", READERS)
def test_rows_are_replaced_by_video_and_by_a_new_snapshot(to: str, tmp_path: Path) -> None:
    output, read = place(to, tmp_path)
    first = write_audited_run(tmp_path / "first")
    newer = [Predicted("v2", "A", 0.7), Predicted("v3", "A", 0.95)]
    second = write_audited_run(tmp_path / "second", newer, ensemble_id="e1")
    export = ("--to", to, "--output", output)
    succeed("export", "--run", first, *export)
    replacing = ("--run", second, *export, "--mode", "replace-by-video")
    assert succeed("export", *replacing).splitlines()[0].endswith(": 2 written, the earlier rows of 1 replaced")
    assert read(output) == [*ALL[:2], ("v2", "e1", 0.7), ("v3", "e1", 0.95)]
    assert "unchanged" in succeed("export", *replacing)
    assert ": 3 written, all earlier rows replaced" in succeed(
        "export", "--run", first, *export, "--mode", "new-snapshot"
    )
    assert read(output) == ALL
    assert "unchanged" in succeed("export", "--run", first, *export, "--mode", "new-snapshot")


@pytest.mark.parametrize("to", ["label-studio", "fiftyone", "activitynet"])
def test_a_json_file_may_be_larger_than_other_files_of_json(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, read = place(to, tmp_path)
    run = write_audited_run(tmp_path / "run", [Predicted(f"v{number}", "A", 0.9) for number in range(100)])
    export = ("export", "--run", run, "--to", to, "--output", output)
    succeed(*export)
    monkeypatch.setattr("vidclf.storage.MOST_TEXT_BYTES", 16_000)
    assert max(path.stat().st_size for path in (output, *output.glob("*")) if path.is_file()) > 16_000
    assert "unchanged" in succeed(*export)
    assert len(read(output)) == 100


@pytest.mark.parametrize("to", ["label-studio", "fiftyone", *TABLES])
def test_another_ensemble_is_appended_and_other_rows_of_the_same_one_are_refused(to: str, tmp_path: Path) -> None:
    output, read = place(to, tmp_path)
    export = ("--to", to, "--output", output)
    succeed("export", "--run", write_audited_run(tmp_path / "first"), *export)
    succeed("export", "--run", write_audited_run(tmp_path / "second", VIDEOS[:1], ensemble_id="e1"), *export)
    assert read(output) == sorted([*ALL, ("v0", "e1", 0.9)])
    changed = write_audited_run(tmp_path / "third", VIDEOS, labels=LABELS)
    assert "has other rows of 3 of these videos by the same ensemble (for one v0)" in refuse(
        "export", "--run", changed, *export
    )
    assert read(output) == sorted([*ALL, ("v0", "e1", 0.9)])


@pytest.mark.parametrize("to", TABLES)
def test_a_table_gets_columns_that_it_lacks(to: str, tmp_path: Path) -> None:
    output, read = place(to, tmp_path)
    export = ("--to", to, "--output", output)
    succeed("export", "--run", write_audited_run(tmp_path / "first"), *export)
    second = write_audited_run(tmp_path / "second", VIDEOS[:1], ensemble_id="e1")
    succeed("export", "--run", second, *export, "--columns", "attention")
    third = write_audited_run(tmp_path / "third", VIDEOS[1:2], ensemble_id="e2")
    succeed("export", "--run", third, *export)
    assert read(output) == sorted([*ALL, ("v0", "e1", 0.9), ("v1", "e2", 0.6)])
    if to == "csv":
        with output.open(newline="") as file:
            values = {(row["video_id"], row["ensemble_id"]): row["attention"] for row in csv.DictReader(file)}
        assert values == {**{(v, e): "" for v, e, _ in read(output)}, ("v0", "e1"): "[0.25, 0.75]"}
        return
    if to == "delta":
        table = importlib.import_module("deltalake").DeltaTable(output).to_pyarrow_table()
    elif to == "iceberg":
        table = iceberg_table(output).scan().to_arrow()
    else:
        table = importlib.import_module("lance").dataset(str(output)).to_table()
    rows = {(row["video_id"], row["ensemble_id"]): row["attention"] for row in table.to_pylist()}
    assert rows == {**{(v, e): None for v, e, _ in read(output)}, ("v0", "e1"): [0.25, 0.75]}


KILLED = """
import os, runpy, signal, sys
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
target, *sys.argv = sys.argv[1:]
if target == "iceberg":
    from pyiceberg.catalog.sql import SqlCatalog
    SqlCatalog.commit_table = die
elif target in ("csv", "label-studio", "activitynet"):
    real = os.replace
    os.replace = lambda source, place: die() if "out." in place and "lease" not in place else real(source, place)
elif target == "fiftyone":
    real = os.replace
    os.replace = lambda source, place: die() if place.endswith("samples.json") else real(source, place)
else:
    from vidclf.export.rows import RunRows
    real = RunRows.batches
    def batches(self, videos):
        yield from real(self, videos)
        die()
    RunRows.batches = batches
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A job that is killed when all rows are staged and the commit is about to be made. The libraries of Delta and Lance
commit in native code, right after the last row."""


@pytest.mark.system
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("to", READERS)
def test_a_killed_export_leaves_nothing_visible(to: str, is_first: bool, tmp_path: Path) -> None:
    output, read = place(to, tmp_path)
    first = write_audited_run(tmp_path / "first")
    second = write_audited_run(tmp_path / "second", [Predicted("v2", "A", 0.7)], ensemble_id="e1")
    if not is_first:
        succeed("export", "--run", first, "--to", to, "--output", output)
    before = read(output)
    root = Path(__file__).resolve().parents[3]
    arguments = ("--run", second, "--to", to, "--output", str(output), "--mode", "replace-by-video")
    command = [sys.executable, "-c", KILLED, to, str(root / "jobs/export.py"), *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert read(output) == before
    # The job that was killed still has a lease; its process is gone, so the next job takes it over.
    succeed("export", *arguments)
    assert read(output) == [*before[:2], ("v2", "e1", 0.7)]
    assert "unchanged" in succeed("export", *arguments)


@pytest.mark.parametrize("to", TABLES)
def test_segments_have_a_row_each(to: str, tmp_path: Path) -> None:
    output, read = place(to, tmp_path)
    run = write_audited_run(tmp_path / "run", with_segments=True)
    export = ("--run", run, "--to", to, "--output", output, "--rows", "segments")
    succeed("export", *export)
    assert read(output) == [(video, "e0", 0.75) for video in ("v0", "v0", "v1", "v1", "v2", "v2")]
    assert "unchanged" in succeed("export", *export)
    without = write_audited_run(tmp_path / "without")
    message = refuse("export", "--run", without, *export[2:])
    assert message == f"export.py: error: --rows segments: {without} has none; classify the videos with --segments\n"


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("abstained", ["v1"]),
        ("drifted", ["v0"]),
        ("misclassified", ["v2"]),
        ("abstained,misclassified", ["v1", "v2"]),
    ],
)
def test_only_some_sorts_of_videos_are_exported(only: str, expected: list[str], tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", labels=LABELS, changes={"v0": {"ood_score": 1.25}})
    succeed("export", "--run", run, "--to", "csv", "--output", tmp_path / "out.csv", "--only", only)
    assert [row[0] for row in read_csv(tmp_path / "out.csv")] == expected


def test_a_subset_is_completed_by_an_export_of_the_whole_run(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run")
    export = ("--run", run, "--to", "csv", "--output", tmp_path / "out.csv")
    succeed("export", *export, "--only", "abstained")
    assert ": 2 written\n" in succeed("export", *export)
    assert read_csv(tmp_path / "out.csv") == ALL


def test_a_run_without_labels_has_no_misclassified_videos(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run")
    message = refuse("export", "--run", run, "--to", "csv", "--output", tmp_path / "o.csv", "--only", "misclassified")
    assert "--only misclassified: the manifest of" in message


def test_a_run_that_the_audit_refuses_is_not_exported(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", changes={"v1": {"probabilities": [float("nan"), 0.4]}})
    message = refuse("export", "--run", run, "--to", "csv", "--output", tmp_path / "out.csv")
    assert message == (
        f"export.py: error: --run {run}: must pass its audit, which finds: 1 video(s) with a prediction that is NaN or "
        f"infinite: /none/v1; `jobs/audit.py --run {run}` names all. Submit the job that wrote the run again\n"
    )
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("to", READERS)
def test_a_place_with_files_of_others_is_refused(to: str, tmp_path: Path) -> None:
    output, _ = place(to, tmp_path)
    run = write_audited_run(tmp_path / "run")
    mine = output / "mine.txt" if output.suffix == "" else output
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    assert f"--output {output}: " in refuse("export", "--run", run, "--to", to, "--output", output)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("to", ["delta", "iceberg", "lance"])
def test_a_column_of_another_type_is_refused(to: str, tmp_path: Path) -> None:
    output, read = place(to, tmp_path)
    from vidclf.export.target import check_columns

    run = write_audited_run(tmp_path / "run")
    succeed("export", "--run", run, "--to", to, "--output", output)
    there = pa.schema([(name, pa.string()) for name in ("run_id", "video_id", "ensemble_id", "confidence")])
    with pytest.raises(Exception, match="the column confidence is string there and float in this run"):
        check_columns("out", there, pa.schema([("confidence", pa.float32())]))
    assert read(output) == ALL


def test_credentials_are_not_exported(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run")
    manifest = storage.read_table(f"{run}/manifest.parquet")
    uris = pa.array([f"https://user:secret@host/{video}.mp4?token=abc" for video in manifest["video_id"].to_pylist()])
    storage.publish_table(f"{run}/manifest.parquet", manifest.set_column(1, "video_uri", uris))
    succeed("export", "--run", run, "--to", "csv", "--output", tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    assert "https://***@host/v0.mp4?token=***" in text
    assert "secret" not in text
    assert "abc" not in text


def test_a_csv_file_has_short_numbers_and_no_formulas(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", VIDEOS[:1], labels={"v0": "=1+1"})
    succeed("export", "--run", run, "--to", "csv", "--output", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["confidence"] == "0.9"
    assert row["probabilities"] == "[0.9, 0.1]"
    assert row["classes"] == '["A", "B"]'
    assert row["true_label"] == "'=1+1"
    assert row["modified"] == ""


SUBLABELS = [
    ("v0", "A", "A", "a1", "from the archive"),
    ("v1", None, "A", None, None),
    ("v2", "B", "B", None, "from the archive"),
]
"""Video, `label`, `true_label`, `sublabel` and `true_sublabel`."""


def run_with_sublabels(run: Path) -> str:
    """A run whose manifest has sublabels of `v0` and `v2`, of which the ensemble answers that of `v0` with another."""
    videos = [
        Predicted("v0", "A", 0.9, top_sublabel="a1", answer_level="sublabel"),
        Predicted("v1", "A", 0.6, is_accepted=False, top_sublabel="a2", answer_level="abstained"),
        Predicted("v2", "B", 0.8, top_sublabel="b1", answer_level="class"),
    ]
    write_audited_run(run, videos, labels={"v0": "A", "v1": "A", "v2": "B"}, with_segments=True)
    manifest = storage.read_table(f"{run}/manifest.parquet")
    place = manifest.column_names.index("sublabel")
    values = pa.array([None if video == "v1" else "from the archive" for video in manifest["video_id"].to_pylist()])
    storage.publish_table(f"{run}/manifest.parquet", manifest.set_column(place, "sublabel", values))
    return str(run)


def rows_of(to: str, output: Path) -> list[dict[str, Any]]:
    """The rows of a table; texts of a CSV file that are empty are None."""
    if to == "csv":
        with output.open(newline="") as file:
            return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    if to == "delta":
        from deltalake import DeltaTable

        rows: list[dict[str, Any]] = DeltaTable(output).to_pyarrow_table().to_pylist()
        return rows
    if to == "iceberg":
        found: list[dict[str, Any]] = iceberg_table(output).scan().to_arrow().to_pylist()
        return found
    import lance

    values: list[dict[str, Any]] = lance.dataset(str(output)).to_table().to_pylist()
    return values


@pytest.mark.parametrize("to", TABLES)
def test_sublabel_is_the_predicted_one_and_true_sublabel_that_of_the_manifest(to: str, tmp_path: Path) -> None:
    output, _ = place(to, tmp_path)
    run = run_with_sublabels(tmp_path / "run")
    succeed("export", "--run", run, "--to", to, "--output", output)
    names = ("video_id", "label", "true_label", "sublabel", "true_sublabel")
    assert sorted(tuple(row[name] for name in names) for row in rows_of(to, output)) == SUBLABELS


def test_segments_have_the_sublabel_of_the_manifest_only(tmp_path: Path) -> None:
    run, output = run_with_sublabels(tmp_path / "run"), tmp_path / "out.csv"
    succeed("export", "--run", run, "--to", "csv", "--output", output, "--rows", "segments")
    rows = rows_of("csv", output)
    assert [(row["video_id"], row["true_sublabel"]) for row in rows if row["video_id"] != "v2"] == [
        *[("v0", "from the archive")] * 2,
        *[("v1", None)] * 2,
    ]
    assert "sublabel" not in rows[0]


def test_a_run_of_a_version_without_sublabels_has_none(tmp_path: Path) -> None:
    run = run_with_sublabels(tmp_path / "run")
    for path in Path(run).glob("part-*.parquet"):
        storage.publish_table(str(path), storage.read_table(str(path)).drop_columns(["sublabel"]))
    rows = RunRows.read(run)
    assert [value for batch in rows.batches(rows.videos) for value in batch["sublabel"].to_pylist()] == [None] * 3


def test_activitynet_has_the_segments(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", with_segments=True)
    succeed("export", "--run", run, "--to", "activitynet", "--output", tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["version"] == "vidclf 1"
    assert content["results"]["v0"] == [
        {"label": "A", "score": 0.75, "segment": [0.0, 5.0]},
        {"label": "B", "score": 0.75, "segment": [5.0, 10.0]},
    ]
    without = write_audited_run(tmp_path / "without", VIDEOS[:1])
    succeed("export", "--run", without, "--to", "activitynet", "--output", tmp_path / "whole.json")
    content = json.loads((tmp_path / "whole.json").read_text())
    assert content["results"] == {"v0": [{"label": "A", "score": 0.9, "segment": [0.0, 10.0]}]}
    assert content["external_data"]["used"] is True


def test_a_sample_of_fiftyone_has_classification_detections_and_metadata(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run", VIDEOS[2:], labels=LABELS, with_segments=True)
    succeed("export", "--run", run, "--to", "fiftyone", "--output", tmp_path / "out")
    (sample,) = json.loads((tmp_path / "out/samples.json").read_text())["samples"]
    run_id = sample.pop("run_id")
    assert len(run_id) == 32
    assert sample == {
        "filepath": "/none/v2",
        "tags": ["accepted"],
        "metadata": {
            "_cls": "VideoMetadata",
            "frame_width": 640,
            "frame_height": 360,
            "frame_rate": 25.0,
            "duration": 10.0,
            "encoding_str": "h264",
            "size_bytes": 1,
        },
        "frames": "frames/none.json",
        "video_id": "v2",
        "ensemble_id": "e0",
        "verdict": "accepted",
        "trust_score": 0.4,
        "ood_score": 0.5,
        "member_disagreement": 0.0,
        "split": "test",
        "group": "source of v2",
        "prediction": {"_cls": "Classification", "tags": [], "label": "B", "confidence": 0.8},
        "ground_truth": {"_cls": "Classification", "tags": [], "label": "A"},
        "segments": {
            "_cls": "TemporalDetections",
            "detections": [
                {"_cls": "TemporalDetection", "tags": [], "label": "B", "confidence": 0.75, "support": [1, 125]},
                {"_cls": "TemporalDetection", "tags": [], "label": "A", "confidence": 0.75, "support": [126, 250]},
            ],
        },
        "segment_seconds": [[0.0, 5.0], [5.0, 10.0]],
    }
    assert json.loads((tmp_path / "out/frames/none.json").read_text()) == {"frames": {}}
    metadata = json.loads((tmp_path / "out/metadata.json").read_text())
    # Without `version` FiftyOne takes the directory as one of the oldest form, and migrates it.
    assert metadata == {"media_type": "video", "info": {"classes": ["A", "B"]}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "csv", "--output", "out"), "--output must be a .csv file with --to csv, got 'out'"),
        (
            ("--to", "delta", "--output", "out", "--only", "blurry"),
            "--only must be one or several of abstained, drifted",
        ),
        (("--to", "delta", "--output", "out", "--table", "a.b"), "--table must be left out unless --to is iceberg"),
        (
            ("--to", "fiftyone", "--output", "out", "--rows", "segments"),
            "--rows must be 'videos' unless --to is a table or csv",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[str, ...], message: str) -> None:
    assert message in refuse("export", "--run", "nowhere", *arguments)


def test_features_are_no_classification(tmp_path: Path) -> None:
    run = write_audited_run(tmp_path / "run")
    identity = json.loads((tmp_path / "run/run_identity.json").read_text())
    (tmp_path / "run/run_identity.json").write_text(json.dumps({**identity, "ensemble_id": None, "classes": []}))
    message = refuse("export", "--run", run, "--to", "csv", "--output", tmp_path / "out.csv")
    assert "must pass its audit" in message or "must be a classification" in message
