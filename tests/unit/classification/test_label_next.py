"""The list of videos to label next: which videos of a run it names, its text, and the way back into a manifest."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.jobs import succeed
from tests.support.predictions import Predicted, manifest, write_run
from vidclf import storage
from vidclf.archive.manifest import read_manifest
from vidclf.classification import label_next
from vidclf.classification.label_next import candidates, check_unlabelled, mean_features, publish_label_next
from vidclf.config import ClassifyConfig
from vidclf.errors import ConfigError
from vidclf.features.columns import features_column
from vidclf.runs.layout import Run

CONFIDENCES = {"a": 0.9, "b": 0.55, "c": 0.7, "d": 0.52, "e": 0.6}


def run_of(tmp_path: Path, labelled: tuple[str, ...] = ()) -> str:
    """A finished classification of five videos; the trust scores are half the confidences."""
    run = write_run(tmp_path / "run", [Predicted(name, "A", value) for name, value in CONFIDENCES.items()])
    labels = {name: ("A" if name in labelled else None, None) for name in (*CONFIDENCES, "q")}
    storage.publish_table(Run(run).manifest_file, manifest(labels))
    return run


def listed(run: str) -> list[dict[str, str]]:
    with Path(Run(run).label_next_file).open() as stream:
        return list(csv.DictReader(stream))


def config_of(run: str, number: int = 3) -> ClassifyConfig:
    return ClassifyConfig(input="/none", ensemble="/none", output=run, label_next=number)


def test_where_every_classified_video_has_a_label_the_list_is_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path, labelled=tuple(CONFIDENCES))  # q has no label, but is quarantined
    publish_label_next(config_of(run), {run: {}})
    assert Path(Run(run).label_next_file).read_text() == (
        "rank,video_id,video_uri,label,top_label,confidence,trust_score,ood_score\n"
    )
    assert capsys.readouterr().out == (
        f"{run}/label_next.csv: no video to label next, because every classified video has a label\n"
    )


def test_the_list_names_unlabelled_videos_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, labelled=("d",))
    publish_label_next(config_of(run), {run: {}})
    rows = listed(run)
    # Without features, and all torn between the same classes, a doubt of another size is the only difference.
    assert [row["video_id"] for row in rows] == ["b", "a", "c"]
    assert rows[0] == {
        "rank": "1",
        "video_id": "b",
        "video_uri": "/none/b",
        "label": "",
        "top_label": "A",
        "confidence": "0.5500",
        "trust_score": "0.2750",
        "ood_score": "0.5000",
    }
    assert capsys.readouterr().out == (
        f"{run}/label_next.csv: 3 videos to label next, the most informative first (by trust and classes, without "
        "features)\n"
    )


def test_features_make_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path)
    names = sorted(CONFIDENCES)
    frames = [np.full((2, 3), 9 if name == "e" else index / 100, np.float16) for index, name in enumerate(names)]
    features = str(tmp_path / "features")
    table = pa.table({"video_id": names, "features": features_column(frames, 3)})
    storage.publish_table(f"{features}/part-{0:032x}-000000.parquet", table)
    means_BD = mean_features([features], ["e", "a"])
    assert means_BD is not None
    assert means_BD[0, 0] > means_BD[1, 0] == 0
    publish_label_next(config_of(run, 1), {run: {}, features: {}})
    assert [row["video_id"] for row in listed(run)] == ["e"]
    assert "features)" in capsys.readouterr().out


def test_only_the_least_trusted_are_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_next, "MIN_CANDIDATES", 2)
    monkeypatch.setattr(label_next, "CANDIDATES_PER_CHOICE", 1)
    run = run_of(tmp_path)
    assert candidates(run, 1)["video_id"].to_pylist() == ["b", "d"]
    assert candidates(run, 4)["video_id"].to_pylist() == ["b", "c", "d", "e"]
    # Never more than the largest number of candidates, but as many as there are videos to choose.
    monkeypatch.setattr(label_next, "MAX_CANDIDATES", 3)
    monkeypatch.setattr(label_next, "CANDIDATES_PER_CHOICE", 10)
    assert candidates(run, 1)["video_id"].to_pylist() == ["b", "d", "e"]
    assert candidates(run, 4)["video_id"].to_pylist() == ["b", "c", "d", "e"]


def test_without_the_flag_or_after_a_dry_run_nothing_is_written(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    publish_label_next(ClassifyConfig(input="/none", ensemble="/none", output=run), {run: {}})
    publish_label_next(config_of(run), None)
    assert not storage.exists(Run(run).label_next_file)


def test_a_manifest_in_which_all_have_labels_is_refused() -> None:
    all_labelled = manifest({"a": ("A", None), "b": ("B", None)})
    with pytest.raises(ConfigError, match="--label-next 3: must be left out, because every video"):
        check_unlabelled(config_of("/none"), all_labelled["label"])
    check_unlabelled(config_of("/none"), manifest({"a": ("A", None), "b": (None, None)})["label"])


def test_labels_filled_in_find_their_way_into_the_manifest(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    publish_label_next(config_of(run, 2), {run: {}})
    rows = listed(run)
    rows[0]["label"] = "B"
    filled = tmp_path / "filled.csv"
    with filled.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    earlier, output = str(tmp_path / "m.parquet"), str(tmp_path / "new.parquet")
    storage.publish_table(earlier, manifest(dict.fromkeys(CONFIDENCES, (None, None))))
    succeed("index", "--labels", filled, "--continue-from", earlier, "--split", "none", "--output", output)
    labels = {row["video_id"]: row["label"] for row in read_manifest(output).to_pylist()}
    assert {name: label for name, label in labels.items() if label} == {"d": "B"}
