"""The model card: numbers from the records of an ensemble, and a README.md that somebody else wrote or edited stays."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from tests.support.ensembles import write_small_ensemble
from vidclf import schema
from vidclf.archive.manifest import video_id
from vidclf.ensemble import model_card, split_record
from vidclf.ensemble.calibration_file import read_trust
from vidclf.ensemble.cross_validation import CrossValidation
from vidclf.ensemble.info import EnsembleInfo, read_info
from vidclf.errors import ConfigError
from vidclf.runs import output_allowlist, outputs
from vidclf.training.publish import publish_card

CLASSES = ["A", "B|<b>*x*"]


def split_table(rows: list[tuple[str, str, str]]) -> pa.Table:
    """The record of the splits of videos with a label, a split and a source each."""
    columns: dict[str, Any] = {name: [row[index] for row in rows] for index, name in enumerate(("label", "split"))}
    names = [f"{number}.mp4" for number in range(len(rows))]
    sources = [source for _, _, source in rows]
    columns |= {"video_id": [video_id(name) for name in names], "video_uri": names, "group": sources}
    columns |= {"source": sources, "cluster": pa.nulls(len(rows), pa.int32()), "content_digest": names}
    columns |= {"mean_features": [[] for _ in rows]}
    return pa.table(columns).select(schema.SPLIT_TABLE.names).cast(schema.SPLIT_TABLE)


def trained(directory: Path) -> EnsembleInfo:
    """A small ensemble with a record of its splits, and its description, which has not been written yet."""
    write_small_ensemble(directory, CLASSES, 4, is_tiny=True)
    rows = [("A", "train", "r0"), ("A", "train", "r0"), ("A", "train", "r1"), (CLASSES[1], "train", "r2")]
    rows += [("A", "val", "r3"), (CLASSES[1], "val", "r4"), (CLASSES[1], "test", "r5")]
    split_record.write(str(directory), split_table(rows))
    info = read_info(str(directory))
    training = {
        "num_train_videos": 4,
        "num_val_videos": 2,
        "data_digest": "dd",
        "val_accuracy": 0.75,
        "val_macro_f1": 0.5,
        "val_f1": {"A": 0.25, CLASSES[1]: 1.0},
    }
    return replace(info, training=training, splits=split_record.describe(str(directory), 0.99))


def head_of(text: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)
    assert match is not None
    head: dict[str, Any] = yaml.safe_load(match[1])
    return head


def test_the_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    info = trained(tmp_path)
    publish_card(str(tmp_path), info)
    text = (tmp_path / "README.md").read_text()
    head = head_of(text)
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == (
        "unknown",
        "vidclf",
        "video-classification",
    )
    assert [(m["type"], m["value"]) for m in head["model-index"][0]["results"][0]["metrics"]] == [
        ("accuracy", 0.75),
        ("f1", 0.5),
    ]
    lines = text.splitlines()
    assert "| A | 3 (2) | 1 (1) | 0 (0) | 0.250 |" in lines
    assert "| B&#124;&lt;b&gt;&#42;x&#42; | 1 (1) | 1 (1) | 1 (1) | 1.000 |" in lines
    assert [line for line in lines if line.startswith(("| train |", "| val |", "| test |"))] == [
        "| train | 4 | 3 |",
        "| val | 2 | 2 |",
        "| test | 1 | 1 |",
    ]
    # 20 validation videos of 20 sources; the 16 with a trust score above 0.6 are right.
    assert "| validation, without test-time augmentation | 0.800 | 0.563 to 0.943 | 16 of 20 | 20 |" in lines
    assert "| cross-validation (`--folds`): not recorded | – | – | – | – |" in lines
    assert "| all frames, without test-time augmentation | 1 | 0.2000 | 0.1000 | 20 videos |" in lines
    assert "| 0.05 | no | none | abstains on all | 0 of 20 | 0 in 0 of 0 sources |" in lines
    assert "| 0.2 | no | estimated | 0.51 | 19 of 20 | 3 in 3 of 19 sources |" in lines
    assert f"| `member_0.safetensors` | efficientnet_lite0 | not recorded | `{info.members[0].digest}` |" in text
    assert "a further video of the known classes stays below it with probability 0.95" in text
    assert f"`{info.backbones[0].feature_spec.key}`" in text


def test_the_figures_of_a_cross_calibration_are_out_of_fold(tmp_path: Path) -> None:
    info = trained(tmp_path)
    info = replace(info, training={**info.training, "num_train_videos": 6, "num_val_videos": 0, "calibration": "cross"})
    publish_card(str(tmp_path), info)
    text = (tmp_path / "README.md").read_text()
    assert "| out of fold, without test-time augmentation | 0.800 | 0.563 to 0.943 | 16 of 20 | 20 |" in text
    assert "judged by the members that left out its source" in text
    assert "validation videos have also chosen" not in text
    dataset = head_of(text)["model-index"][0]["results"][0]["dataset"]
    assert dataset == {"name": "training archive, out of fold", "type": "private", "split": "train"}


def test_a_cross_validation_is_stated_and_missing_records_are_said_to_be_missing(tmp_path: Path) -> None:
    info = trained(tmp_path)
    correct_B, groups = np.array([True] * 9 + [False]), [f"r{number}" for number in range(10)]
    crossed = CrossValidation.of(correct_B, groups, 5, "recipe")
    info = replace(info, training={"cross_validation": asdict(crossed)})
    text = model_card.card(info, read_trust(str(tmp_path), info).full, None)
    assert "| cross-validation, 5 folds | 0.900 | 0.555 to 0.997 | 9 of 10 | 10 |" in text
    assert "training videos: not recorded, validation videos: not recorded. Digest of the data: not recorded." in text
    assert "| A | not recorded | not recorded | not recorded | not recorded |" in text
    assert "model-index" not in head_of(text)


def test_locations_show_neither_credentials_nor_directories(tmp_path: Path) -> None:
    info = trained(tmp_path)
    shown = []
    for location in ("s3://key:secret@bucket/w.safetensors?X-Amz-Signature=0a1b", "/home/me/w.safetensors"):
        backbone = replace(info.backbones[0], weights=location)
        text = model_card.card(replace(info, backbones=[backbone]), read_trust(str(tmp_path), info).full, None)
        assert not re.search(r"secret|0a1b|/home", text)
        assert "from a file; the records name no licence" in text
        shown += re.findall(r"^\| efficientnet_lite0 \| (.*?) \|", text, re.MULTILINE)
    assert shown == ["s3://&#42;&#42;&#42;@bucket/w.safetensors?X-Amz-Signature=&#42;&#42;&#42;", "w.safetensors"]


def test_the_card_is_no_part_of_the_identity_and_is_replaced_unless_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info, card = trained(tmp_path), tmp_path / "README.md"
    publish_card(str(tmp_path), info)
    first = card.read_text()
    publish_card(str(tmp_path), replace(info, training={}))
    assert card.read_text() != first
    publish_card(str(tmp_path), info)
    assert card.read_text() == first
    assert capsys.readouterr().out == ""
    edited = first.replace("license: unknown", "license: mit")
    card.write_text(edited)
    publish_card(str(tmp_path), info)
    assert card.read_text() == edited
    assert capsys.readouterr().out == (
        f"{tmp_path}: README.md was edited or is not of this job, so it stays as it is\n"
    )
    assert read_info(str(tmp_path)).ensemble_id == info.ensemble_id


def test_overwrite_deletes_the_card_of_the_job_and_no_other(tmp_path: Path) -> None:
    info, card = trained(tmp_path), tmp_path / "README.md"
    kind = output_allowlist.ENSEMBLE
    publish_card(str(tmp_path), info)
    leftover = tmp_path / f"README.md.{'0a' * 16}.tmp"
    leftover.write_text("half")
    assert outputs.check(kind, "--output", str(tmp_path), overwrite=True).foreign == []
    own = card.read_bytes()
    for foreign in ("My own notes.\n", own.decode().replace("license: unknown", "license: mit"), ""):
        card.write_text(foreign)
        # A continued training goes on beside it.
        assert outputs.check(kind, "--output", str(tmp_path)).foreign == ["README.md"]
        with pytest.raises(ConfigError, match=r"--overwrite deletes only what this job wrote.*holds README\.md;"):
            outputs.clear(kind, "--output", str(tmp_path))
        assert card.read_text() == foreign
    card.write_bytes(own)
    outputs.clear(kind, "--output", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    # Without an ensemble beside it, the same file is somebody's own.
    card.write_bytes(own)
    with pytest.raises(ConfigError, match="must be empty or an ensemble"):
        outputs.check(kind, "--output", str(tmp_path))
