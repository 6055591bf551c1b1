"""Comparison of two classifications, with literal rates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.diff import main
from tests.support.lost_lease import lost_lease
from tests.support.predictions import Predicted, manifest, table, write_run
from tests.support.split_records import recorded, write_ensemble
from tests.support.split_records import table as split_table
from vidclf import schema, storage
from vidclf.config import DiffConfig
from vidclf.ensemble import split_record
from vidclf.errors import ConfigError
from vidclf.reports import diff
from vidclf.runs import output_allowlist, outputs
from vidclf.runs.layout import Run
from vidclf.runs.lease import LeaseLost

BEFORE = [
    Predicted("1", "A", 0.9),
    Predicted("2", "A", 0.8),
    Predicted("3", "B", 0.7, codec="vp9"),
    Predicted("4", "B", 0.6),
    Predicted("only-before", "A", 0.9),
    Predicted("q", "A", 0.9),
]
AFTER = [
    Predicted("1", "A", 0.95),
    Predicted("2", "B", 0.55),
    Predicted("3", "A", 0.75, codec="vp9"),
    Predicted("4", "B", 0.99, is_accepted=False),
    Predicted("only-after", "B", 0.9),
]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    before = write_run(tmp_path / "before", BEFORE, rejected=False)
    after = write_run(tmp_path / "after", AFTER)
    return {"before": before, "after": after, "output": str(tmp_path / "diff")}


def test_flips_are_counted_by_class_codec_and_resolution(runs: dict[str, str]) -> None:
    result = diff.diff(DiffConfig(**runs))
    assert result is not None
    assert (result.overall.num_videos, result.overall.num_flipped, result.overall.rate) == (4, 2, 0.5)
    # Four sources are too few for an interval.
    assert result.overall.interval_95 is None
    assert {
        kind: [(row.name, row.num_videos, row.num_flipped) for row in rows] for kind, rows in result.by.items()
    } == {
        "class": [("A", 2, 1), ("B", 2, 1)],
        "codec": [("h264", 3, 1), ("vp9", 1, 1)],
        "resolution": [("360p", 4, 2)],
        # Neither run records where its ensemble is.
        "training": [("unknown", 4, 2)],
    }
    assert result.transitions == [
        {"before": "A", "after": "B", "num_videos": 1},
        {"before": "B", "after": "A", "num_videos": 1},
    ]
    assert json.loads((Path(runs["output"]) / "diff.json").read_text())["overall"]["rate"] == 0.5


def test_videos_that_an_ensemble_was_trained_on_are_counted_apart(runs: dict[str, str], tmp_path: Path) -> None:
    records = {
        "before": [recorded("1", "train"), recorded("2", "test"), recorded("x", "val", source="4")],
        # Video 3 is known under another name.
        "after": [recorded("1", "test"), recorded("y", "train", content_digest="digest of 3")],
    }
    for side, rows in records.items():
        directory = write_ensemble(tmp_path / f"ensemble-{side}", *rows)
        storage.publish_bytes(f"{runs[side]}/run_config.yaml", f"ensemble: {directory}\n".encode())
        sources = {**dict.fromkeys("1234", ("A", "test")), "q": ("A", "test")}
        storage.publish_table(Run(runs[side]).manifest_file, manifest(sources))
    result = diff.diff(DiffConfig(**runs))
    assert result is not None
    assert [(row.name, row.num_videos, row.num_flipped) for row in result.by["training"]] == [
        ("trained on", 2, 1),
        ("validated on", 1, 0),
        ("held out", 1, 1),
    ]
    assert diff.table(result, "out").splitlines()[2:5] == [
        "flipped, trained on            1 of 2 (0.5000)",
        "flipped, validated on          0 of 1 (0.0000)",
        "flipped, held out              1 of 1 (1.0000)",
    ]


def test_the_record_of_a_pair_of_ensembles_is_that_of_the_second(runs: dict[str, str], tmp_path: Path) -> None:
    # Ensemble e1 took the first look of `before`, and decided video 1. Ensemble e0 decided the others.
    (path,) = Run(runs["before"]).shards()
    rows = storage.read_table(path)
    place, names = rows.column_names.index("ensemble_id"), ["e1", *["e0"] * (rows.num_rows - 1)]
    storage.publish_table(path, rows.set_column(place, rows.schema.field(place), pa.array(names)))
    identity = Run(runs["before"]).identity()
    storage.publish_json(Run(runs["before"]).identity_file, {**identity, "settings": {"first_ensemble_id": "e1"}})
    for side in ("before", "after"):
        directory = write_ensemble(tmp_path / f"ensemble-{side}", recorded("1", "train"))
        storage.publish_bytes(f"{runs[side]}/run_config.yaml", f"ensemble: {directory}\n".encode())
        manifest_rows = manifest(dict.fromkeys("1234", ("A", "test")))
        storage.publish_table(Run(runs[side]).manifest_file, manifest_rows)
    result = diff.diff(DiffConfig(**runs))
    assert result is not None
    assert [(row.name, row.num_videos) for row in result.by["training"]] == [("trained on", 1), ("held out", 3)]


def test_videos_whose_ensemble_is_not_known_are_not_called_held_out(runs: dict[str, str], tmp_path: Path) -> None:
    directory = write_ensemble(tmp_path / "ensemble", recorded("1", "train"))
    storage.publish_bytes(f"{runs['before']}/run_config.yaml", f"ensemble: {directory}\n".encode())
    result = diff.diff(DiffConfig(**runs))
    assert result is not None
    assert [(row.name, row.num_videos) for row in result.by["training"]] == [("trained on", 1), ("unknown", 3)]
    doubt = "not known: the predictions do not record where their ensemble is"
    assert {name: text for name, text in result.provenance.items() if "held out" in name} == {"held out after": doubt}
    page = (Path(runs["output"]) / "index.html").read_text()
    assert doubt in page


def test_an_edited_record_of_splits_is_refused(runs: dict[str, str], tmp_path: Path) -> None:
    directory = write_ensemble(tmp_path / "ensemble", recorded("1", "train"))
    split_record.write(directory, split_table(recorded("1", "test")))
    storage.publish_bytes(f"{runs['after']}/run_config.yaml", f"ensemble: {directory}\n".encode())
    with pytest.raises(ConfigError, match=r"^--after .*/splits\.parquet: is not the file that ensemble\.json lists"):
        diff.diff(DiffConfig(**runs))


def test_a_comparison_holds_only_files_of_its_closed_list(runs: dict[str, str]) -> None:
    assert main(DiffConfig(**runs)) == 0
    written = outputs.contents(output_allowlist.COMPARISON, runs["output"])
    assert sorted(written.job_files) == [
        "_vidclf.json",
        "diff.json",
        "flipped.parquet",
        "index.html",
        "run_config.yaml",
    ]
    assert written.foreign == []


def test_a_comparison_shows_no_credentials(runs: dict[str, str]) -> None:
    signed = "https://user:pass@media.example/archive/{}.mp4?X-Amz-Signature=0a1b"
    for side in ("before", "after"):
        for path in Run(runs[side]).shards():
            rows = storage.read_table(path)
            uris = [signed.format(video_id) for video_id in rows["video_id"].to_pylist()]
            storage.publish_table(path, rows.set_column(rows.column_names.index("video_uri"), "video_uri", [uris]))
    assert main(DiffConfig(**runs)) == 0
    written = [path for path in Path(runs["output"]).iterdir() if path.suffix != ".parquet"]
    texts = [path.read_text() for path in written]
    texts.append(str(pq.read_table(f"{runs['output']}/flipped.parquet").to_pylist()))
    assert not any(secret in text for secret in ("user:pass", "0a1b") for text in texts)
    assert "only-before.mp4?X-Amz-Signature=***" in "".join(texts)


def test_a_change_of_verdict_is_no_flip(runs: dict[str, str]) -> None:
    result = diff.diff(DiffConfig(**runs))
    assert result is not None
    assert result.verdicts == {
        "accepted → accepted": 3,
        "accepted → abstained": 1,
        "abstained → accepted": 0,
        "abstained → abstained": 0,
    }


def test_videos_in_one_only_say_why(runs: dict[str, str]) -> None:
    result = diff.diff(DiffConfig(**runs))
    assert result is not None
    assert (result.num_only_before, result.num_only_after) == (2, 1)
    # `write_run` puts `q` into the quarantine of both runs.
    assert [(video.video_uri, video.only_in, video.reason) for video in result.lonely] == [
        ("only-before", "before", "not in its input"),
        ("q", "before", "quarantined: truncated"),
        ("only-after", "after", "not in its input"),
    ]


def test_changed_videos_are_listed_flips_first_and_by_confidence(runs: dict[str, str]) -> None:
    diff.diff(DiffConfig(**runs))
    rows = pq.read_table(f"{runs['output']}/flipped.parquet").to_pylist()
    assert [(row["video_id"], row["label_before"], row["label_after"], row["verdict_after"]) for row in rows] == [
        ("3", "B", "A", "accepted"),
        ("2", "A", "B", "accepted"),
        ("4", "B", "B", "abstained"),
    ]
    assert rows[0]["codec"] == "vp9"
    page = (Path(runs["output"]) / "index.html").read_text()
    assert page.index('"uri">3<') < page.index('"uri">2<') < page.index('"uri">4<')


@pytest.mark.parametrize(("max_flip_rate", "code"), [(None, 0), (0.5, 0), (0.49, 1)])
def test_the_exit_code_is_the_gate(
    runs: dict[str, str], max_flip_rate: float | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(DiffConfig(**runs, max_flip_rate=max_flip_rate)) == code
    assert capsys.readouterr().out.splitlines()[1] == (
        "flipped                        2 (0.5000, no interval: fewer than 5 effective sources"
        + {None: ")", 0.5: "; within --max-flip-rate 0.5)", 0.49: "; ABOVE --max-flip-rate 0.49)"}[max_flip_rate]
    )


def test_a_reports_predictions_can_be_compared_with_a_run(runs: dict[str, str], tmp_path: Path) -> None:
    # Predictions from HDF5 features know nothing about the videos but their location.
    unknown = [Predicted(video.video, video.top_label, video.confidence, codec=None) for video in BEFORE]
    storage.publish_table(f"{tmp_path}/report/predictions.parquet", table(unknown))
    result = diff.diff(DiffConfig(**{**runs, "before": f"{tmp_path}/report/predictions.parquet"}))
    assert result is not None
    assert (result.overall.num_flipped, [row.name for row in result.by["codec"]]) == (2, ["unknown"])


def test_importing_the_comparison_loads_no_heavy_library() -> None:
    heavy = ("torch", "ray", "sklearn")
    code = f"import sys, vidclf.reports.diff; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_cannot_be_compared_is_refused(runs: dict[str, str], tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", [Predicted("x", "A", 0.9)])
    one_of_each = "shares none; one holds /none/x, the other /none/1; videos are matched by video_id"
    with pytest.raises(ConfigError, match=one_of_each):
        diff.diff(DiffConfig(**{**runs, "after": other}))
    with pytest.raises(ConfigError, match="--after must be a directory that jobs/classify"):
        diff.diff(DiffConfig(**{**runs, "after": f"{tmp_path}/none"}))


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("repeated", ["1", "q"])
def test_a_classification_with_a_video_twice_is_refused(
    runs: dict[str, str], tmp_path: Path, side: str, repeated: str
) -> None:
    # `write_run` rejects the video q, so that it is classified and rejected here.
    videos = ["1", "1"] if repeated == "1" else ["1", "q"]
    twice = write_run(tmp_path / "twice", [Predicted(video, "A", 0.9) for video in videos])
    with pytest.raises(ConfigError) as error:
        diff.diff(DiffConfig(**{**runs, side: twice}))
    assert str(error.value) == (
        f"--{side} {twice}: every video must have one row, 1 have several (for example {repeated}); `jobs/audit.py "
        f"--run {twice}` names them. Submit the job that wrote the run again: it removes the additional rows"
    )


def test_predictions_of_a_report_with_a_video_twice_are_refused(runs: dict[str, str], tmp_path: Path) -> None:
    file = str(tmp_path / "predictions.parquet")
    storage.publish_table(file, table([BEFORE[0], BEFORE[0]]))
    with pytest.raises(ConfigError) as error:
        diff.diff(DiffConfig(**{**runs, "after": file}))
    assert str(error.value) == f"--after {file}: every video must have one row, some have several; evaluate again"


def test_intervals_of_flips_count_the_sources_of_the_runs_manifest(tmp_path: Path) -> None:
    before = [Predicted(str(i), "A", 0.9) for i in range(60)]
    after = [Predicted(str(i), "B" if i < 10 else "A", 0.9) for i in range(60)]
    runs = {"before": write_run(tmp_path / "before", before), "after": write_run(tmp_path / "after", after)}
    config = DiffConfig(**runs, output=str(tmp_path / "diff"))
    single = diff.diff(config)
    # Ten videos per source: one source of six has flipped.
    rows = manifest({str(i): ("A", "test") for i in range(60)}).to_pylist()
    sources = pa.Table.from_pylist(
        [{**row, "group": f"s{int(row['video_id']) // 10}"} for row in rows], schema.MANIFEST
    )
    storage.publish_table(Run(runs["after"]).manifest_file, sources)
    grouped = diff.diff(config)
    assert single is not None
    assert grouped is not None
    (low, high), (low_grouped, high_grouped) = (
        single.overall.interval_95 or (0, 0),
        grouped.overall.interval_95 or (0, 0),
    )
    assert high - low < 0.25 < 0.5 < high_grouped - low_grouped


def test_a_relative_base_uri_is_that_of_the_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = (write_run(tmp_path / side, [Predicted(side, "A", 0.9), BEFORE[0]]) for side in ("before", "after"))
    monkeypatch.chdir("/")
    result = diff.diff(DiffConfig(before=before, after=after, output=str(tmp_path / "diff"), base_uri="./"))
    assert result is not None
    assert [video.video_uri for video in result.lonely] == ["none/before", "none/after"]


def test_a_job_that_has_lost_its_lease_writes_no_comparison(runs: dict[str, str]) -> None:
    with pytest.raises(LeaseLost), lost_lease(runs["output"]):
        diff.diff(DiffConfig(**runs))
    assert storage.list_files(runs["output"]) == []


def test_changes_of_sublabels_and_of_the_level_of_the_answer_are_counted(tmp_path: Path) -> None:
    def one(video: str, label: str, sublabel: str | None, level: str | None) -> Predicted:
        return Predicted(video, label, 0.9, top_sublabel=sublabel, answer_level=level)

    before = [
        one("1", "A", "a1", "sublabel"),
        one("2", "A", "a1", "sublabel"),
        one("3", "A", "a1", "class"),
        one("4", "B", None, "class"),
        one("5", "B", None, None),
    ]
    after = [
        one("1", "A", "a2", "class"),
        one("2", "A", "a1", "sublabel"),
        one("3", "B", None, "class"),
        one("4", "A", "a1", "sublabel"),
        one("5", "B", None, "class"),
    ]
    config = DiffConfig(
        before=write_run(tmp_path / "b", before, rejected=False),
        after=write_run(tmp_path / "a", after, rejected=False),
        output=str(tmp_path / "diff"),
    )
    result = diff.diff(config)
    assert result is not None
    # Video 3 and 4 have another class. Video 5 was classified by an earlier version before.
    assert (result.sublabels.num_videos, result.sublabels.num_changed) == (2, 1)
    assert result.sublabels.levels == {"sublabel → class": 1, "class → sublabel": 1}
    assert "1 of 2 with the same class" in diff.table(result, "d")
    page = (tmp_path / "diff" / diff.PAGE_FILE).read_text()
    assert "Sublabels and levels of the answers" in page
    assert "sublabel → class" in page


def test_a_classification_of_an_earlier_version_without_sublabels_is_compared(runs: dict[str, str]) -> None:
    path = f"{runs['before']}/part-0.parquet"
    rows = storage.read_table(path)
    storage.publish_table(path, rows.drop_columns(["top_sublabel", "answer_level"]))
    result = diff.diff(DiffConfig(**runs))
    assert result is not None
    assert (result.overall.num_flipped, result.sublabels.num_videos, result.sublabels.levels) == (2, 0, {})
