"""Labels from a list laid over a manifest: only labels change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.jobs import refuse, succeed
from tests.unit.archive.test_label_studio import choice
from vidclf.archive.label_overlay import relabelled
from vidclf.archive.manifest import read_manifest
from vidclf.errors import ConfigError
from vidclf.schema import MANIFEST, VIDEO_ID


def manifest(*rows: tuple[str, str | None, str | None]) -> pa.Table:
    """A manifest; each row is the location, the label and the split of a video."""
    return pa.Table.from_pylist(
        [
            {
                **{VIDEO_ID: f"id of {uri}", "video_uri": uri, "label": label, "sublabel": label and "s"},
                **{"group": f"source of {uri}", "split": split, "size_bytes": 7},
            }
            for uri, label, split in rows
        ],
        schema=MANIFEST,
    )


LABELLED = manifest(("/v/1.mp4", "A", "train"), ("/v/2.mp4", "A", "val"), ("/v/3.mp4", "B", "test"))
UNLABELLED = manifest(*((f"/v/{number}.mp4", None, None) for number in range(8)))


def answers(path: Path, *records: dict[str, Any]) -> str:
    path.write_text(json.dumps(list(records)))
    return str(path)


def answered(number: int, *labels: str, **data: str) -> dict[str, Any]:
    """Task `number` of Label Studio with an annotation per label; its data name the video of this number."""
    values = {"video": f"http://media/{number}", "video_uri": f"/v/{number}.mp4", **data}
    return {"id": number, "data": values, "annotations": [choice(label) for label in labels]}


def test_only_labels_change_and_every_answer_is_counted(tmp_path: Path) -> None:
    file = answers(
        tmp_path / "answers.json",
        answered(1, "B"),
        answered(2, "A"),
        answered(3, "owl", video_id="id of /v/3.mp4", video_uri="/moved/3.mp4"),
        answered(4, "A"),
        answered(5),
    )
    changed = relabelled(LABELLED, file)
    assert changed.manifest["label"].to_pylist() == ["B", "A", "owl"]
    assert changed.manifest["sublabel"].to_pylist() == [None, "s", None]
    assert changed.manifest.drop_columns(["label", "sublabel"]).equals(LABELLED.drop_columns(["label", "sublabel"]))
    assert changed.lines == (
        f"labels of {file}: 3 videos, of which 2 had another label, 0 had none, 1 had the same",
        "lost sublabels: 2 videos, because the label changed and the list gives no sublabel",
        "classes that no video had before: 'owl' (1 video)",
        "passed over: 1 video without an answer ('/v/5.mp4')",
        "passed over: 1 label of a video that the manifest lacks ('/v/4.mp4')",
    )


def test_videos_without_an_answer_stay_without_a_label(tmp_path: Path) -> None:
    changed = relabelled(UNLABELLED, answers(tmp_path / "answers.json", answered(1, "A"), answered(6, "B")))
    assert changed.manifest["label"].to_pylist() == [None, "A", None, None, None, None, "B", None]
    assert changed.lines == (
        f"labels of {tmp_path}/answers.json: 2 videos, of which 0 had another label, 2 had none, 0 had the same",
        "without a label: 6 videos; `train` leaves these out",
    )


def test_a_list_of_labels_may_name_a_video_twice_with_one_label(tmp_path: Path) -> None:
    """The form JSON-MIN of Label Studio has an entry per annotation, with the answer under the name `label`."""
    entry = {"video": "http://media/1", "video_uri": "/v/1.mp4", "label": "B", "annotator": 1, "lead_time": 2.5}
    file = answers(tmp_path / "min.json", {**entry, "id": 1}, {**entry, "id": 1, "annotator": 2})
    assert relabelled(LABELLED, file).manifest["label"].to_pylist() == ["B", "A", "B"]
    (tmp_path / "labels.csv").write_text("path,label,sublabel\n/v/1.mp4,B,other\n/v/2.mp4,,\n")
    changed = relabelled(LABELLED, str(tmp_path / "labels.csv"))
    assert changed.manifest["label"].to_pylist() == ["B", "A", "B"]
    assert changed.manifest["sublabel"].to_pylist() == ["other", "s", "s"]
    assert changed.lines[-1] == "passed over: 1 video without an answer ('/v/2.mp4')"
    pq.write_table(pa.table({VIDEO_ID: ["id of /v/2.mp4"], "url": ["/x"], "label": ["B"]}), tmp_path / "labels.parquet")
    assert relabelled(LABELLED, f"{tmp_path}/labels.parquet").manifest["label"].to_pylist() == ["A", "B", "B"]


def test_a_list_gives_sublabels_and_those_that_are_lost_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label,sublabel\n/v/1.mp4,B,new\n/v/2.mp4,A,finer\n/v/2.mp4,A,\n/v/3.mp4,A,\n")
    changed = relabelled(LABELLED, str(file))
    assert changed.manifest["label"].to_pylist() == ["B", "A", "A"]
    assert changed.manifest["sublabel"].to_pylist() == ["new", "finer", None]
    assert changed.lines == (
        f"labels of {file}: 3 videos, of which 2 had another label, 0 had none, 1 had the same",
        "new sublabels: 2 videos",
        "lost sublabels: 1 video, because the label changed and the list gives no sublabel",
    )


def test_a_list_may_name_its_videos_by_id_alone(tmp_path: Path) -> None:
    lines = [("id of /v/1.mp4", "B"), ("id of /v/2.mp4", ""), ("gone", "A")]
    for name, header, separator in (
        ("l.csv", "video_id,label", ","),
        ("l.txt", "Video_ID;label", ";"),
        ("l.tsv", "label\tvideo_id", "\t"),
    ):
        swapped = header.startswith("label")
        rows = [separator.join(pair[::-1] if swapped else pair) for pair in lines]
        (tmp_path / name).write_text("\n".join([header, *rows, ""]))
    pq.write_table(
        pa.table({VIDEO_ID: [video for video, _ in lines], "label": [label or None for _, label in lines]}),
        tmp_path / "l.parquet",
    )
    answers(tmp_path / "l.json", *({VIDEO_ID: video, "path": "", "label": label} for video, label in lines))
    for name in ("l.csv", "l.txt", "l.tsv", "l.parquet", "l.json"):
        changed = relabelled(LABELLED, str(tmp_path / name))
        assert changed.manifest["label"].to_pylist() == ["B", "A", "B"], name
        assert changed.lines[-2:] == (
            "passed over: 1 video without an answer ('id of /v/2.mp4')",
            "passed over: 1 label of a video that the manifest lacks ('gone')",
        )
    (tmp_path / "l.csv").write_text("id,label\n1,A\n")
    with pytest.raises(
        ConfigError, match=r"must have a column video_uri, uri, path, filepath, url, video_id, has 'id', 'label'; name"
    ):
        relabelled(LABELLED, f"{tmp_path}/l.csv")


def test_videos_whose_locations_differ_in_credentials_only_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    signed = manifest(("https://h/v?token=a", None, None), ("https://h/v?token=b", None, None))
    shown = "https://h/v?token=***"
    file = answers(
        tmp_path / "answers.json",
        answered(1, "A", video_uri=shown, video_id="id of https://h/v?token=a"),
        answered(2, "B", video_uri=shown, video_id="id of https://h/v?token=b"),
    )
    assert relabelled(signed, file).manifest["label"].to_pylist() == ["A", "B"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [{"path": "/v/1.mp4", "label": "A"}, {"path": "/v/1.mp4", "label": "B"}],
            "must give a video one label, gives several to '/v/1.mp4' (the first has 'A', 'B'); leave one",
        ),
        (
            [{"path": "/v/1.mp4", "label": "A", "sublabel": name} for name in "xy"],
            "must give a video one sublabel, gives several to '/v/1.mp4' (the first has 'x', 'y'); leave one",
        ),
        ([answered(1, "A", "B")], "task 1 has several answers ('A', 'B'); mark one annotation as ground truth in "),
        ([answered(9, "A")], "must name videos of the manifest, names none of them but '/v/9.mp4'; look whether it "),
        ([answered(1), answered(2)], "none of its 2 videos has a label"),
        ([], "must hold labels, is empty"),
        ([answered(1, "b")], "classes must differ in more than case and spaces, do not: 'B' (1 video) and 'b' (1 vid"),
        ([{"label": "A"}], "row 1 names no video in any of video_uri, uri, path, filepath, url, video_id"),
        ([{"path": "/v/1.mp4", "label": ["A"]}], "row 1: label must be one value, is ['A']"),
    ],
)
def test_a_list_at_fault_is_refused(records: list[Any], message: str, tmp_path: Path) -> None:
    file = answers(tmp_path / "answers.json", *records)
    with pytest.raises(ConfigError) as refused:
        relabelled(LABELLED, file)
    assert str(refused.value).startswith(f"--labels {file}: {message}")


def test_spellings_may_be_kept(tmp_path: Path) -> None:
    file = answers(tmp_path / "answers.json", answered(1, "b"))
    assert relabelled(LABELLED, file, keep_spelling=True).manifest["label"].to_pylist() == ["b", "A", "B"]


def test_another_kind_of_file_and_a_missing_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--labels a\.xlsx: must be a list \(csv, json, jsonl, ndjson, parquet, "):
        relabelled(LABELLED, "a.xlsx")
    with pytest.raises(ConfigError, match=r"^--labels /no/a\.json: cannot be read \("):
        relabelled(LABELLED, "/no/a.json")


def test_index_changes_the_labels_of_the_manifest_that_exists(tmp_path: Path) -> None:
    output = tmp_path / "m.parquet"
    pq.write_table(LABELLED, output)
    file = answers(tmp_path / "answers.json", answered(1, "B"))
    command = ("--labels", file, "--output", output)
    assert "holds another manifest; choose another name or --overwrite" in refuse("index", *command)
    assert succeed("index", *command, "--overwrite", "--dry-run").splitlines()[0] == (
        f"{output}: 3 videos from 3 sources, would be replaced"
    )
    assert read_manifest(str(output)).equals(LABELLED)
    assert succeed("index", *command, "--overwrite").splitlines()[1:] == [
        "  A: val 1",
        "  B: train 1, test 1",
        "  not found: none of the first 3 locations exists, such as '/v/1.mp4'; correct the paths, or mount the "
        "archive on this machine",
        f"  labels of {file}: 1 video, of which 1 had another label, 0 had none, 0 had the same",
        "  lost sublabels: 1 video, because the label changed and the list gives no sublabel",
    ]
    assert read_manifest(str(output))["split"].to_pylist() == ["train", "val", "test"]
    assert "3 videos from 3 sources, unchanged" in succeed("index", *command)


def test_labelled_videos_get_splits_and_keep_them_when_more_answers_come(tmp_path: Path) -> None:
    pq.write_table(UNLABELLED, tmp_path / "m.parquet")
    first = answers(tmp_path / "1.json", *(answered(number, "AB"[number % 2]) for number in range(6)))
    second = answers(tmp_path / "2.json", answered(6, "A"), answered(7, "B"))
    continued = ("--continue-from", tmp_path / "m.parquet")
    succeed("index", "--labels", first, *continued, "--output", tmp_path / "1.parquet")
    splits = read_manifest(f"{tmp_path}/1.parquet")["split"].to_pylist()
    assert sorted(splits[:6:2]) == sorted(splits[1:6:2]) == ["test", "train", "val"]
    assert splits[6:] == [None, None]
    continued = ("--continue-from", tmp_path / "1.parquet")
    succeed("index", "--labels", second, *continued, "--output", tmp_path / "2.parquet")
    assert read_manifest(f"{tmp_path}/2.parquet")["split"].to_pylist() == [*splits[:6], "train", "train"]


def test_an_archive_that_is_listed_again_takes_the_labels_too(tmp_path: Path) -> None:
    for name in ("cat/a.mp4", "cat/b.mp4", "dog/c.mp4"):
        (tmp_path / "archive" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "archive" / name).write_bytes(b"12345")
    (tmp_path / "labels.csv").write_text("path,label\narchive/cat/b.mp4,dog\n")
    listed = ("--input", tmp_path / "archive", "--output", tmp_path / "m.parquet", "--split", "none")
    succeed("index", *listed, "--labels", tmp_path / "labels.csv")
    assert read_manifest(f"{tmp_path}/m.parquet")["label"].to_pylist() == ["cat", "dog", "dog"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--input must be given, or --labels, got None"),
        (
            ("--labels", "{answers}"),
            "--labels {answers}: needs a manifest whose labels it changes; name one with --continue-from, or the "
            "archive with --input",
        ),
        (
            ("--labels", "{answers}", "--sniff"),
            "--sniff must be left out without --input, because no archive is listed, got True",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags: tuple[str, ...], message: str, tmp_path: Path) -> None:
    file = answers(tmp_path / "answers.json", answered(1, "B"))
    given = [flag.format(answers=file) for flag in flags]
    text = refuse("index", *given, "--output", tmp_path / "m.parquet")
    assert text.startswith(f"index.py: error: {message.format(answers=file)}")


def test_a_taxonomy_applies_to_the_labels_of_the_list_too(tmp_path: Path) -> None:
    for name in ("cat/a.mp4", "cat/b.mp4", "dog/c.mp4", "lion/d.mp4"):
        (tmp_path / "archive" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "archive" / name).write_bytes(b"12345")
    (tmp_path / "t.yaml").write_text("pets: {cats: [cat], dogs: [dog]}")
    # No video is a dog any more, and the spelling is one that only the taxonomy makes right.
    (tmp_path / "labels.csv").write_text("path,label\narchive/dog/c.mp4,cat\narchive/lion/d.mp4,Pets\n")
    named = ("--taxonomy", tmp_path / "t.yaml", "--split", "none", "--output", tmp_path / "m.parquet")
    text = refuse("index", "--input", tmp_path / "archive", *named, "--labels", tmp_path / "labels.csv")
    assert text.startswith(f"index.py: error: --taxonomy {tmp_path}/t.yaml: classes must differ in more than case")
    (tmp_path / "labels.csv").write_text("path,label\narchive/dog/c.mp4,cat\n")
    succeed("index", "--input", tmp_path / "archive", *named, "--labels", tmp_path / "labels.csv")
    assert pairs(tmp_path / "m.parquet") == [("pets", "cats")] * 3 + [("lion", None)]
    # The manifest is renamed already, and the list has a name that the archive had.
    (tmp_path / "labels.csv").write_text("path,label\narchive/lion/d.mp4,dog\n")
    succeed("index", "--labels", tmp_path / "labels.csv", *named, "--overwrite")
    assert pairs(tmp_path / "m.parquet") == [("pets", "cats")] * 3 + [("pets", "dogs")]
    # A plain listing takes the names of the directories and renames them.
    (tmp_path / "t.yaml").write_text("pets: {cats: [cat], dogs: [dog]}\nwild: [lion]")
    succeed("index", "--input", tmp_path / "archive", *named, "--overwrite")
    assert pairs(tmp_path / "m.parquet") == [("pets", "cats"), ("pets", "cats"), ("pets", "dogs"), ("wild", None)]


def pairs(path: Path) -> list[tuple[str | None, str | None]]:
    """The label and sublabel of each video of a manifest."""
    table = read_manifest(str(path))
    return list(zip(table["label"].to_pylist(), table["sublabel"].to_pylist(), strict=True))
