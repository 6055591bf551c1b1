"""The record of an ensemble's splits: it is the file that `ensemble.json` lists, or it is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.predictions import SPEC
from tests.support.split_records import COSINE, recorded, table, write_ensemble
from vidclf import schema, storage
from vidclf.ensemble import split_record
from vidclf.ensemble.split_record import SplitsInfo, check_record, read_record
from vidclf.errors import ConfigError

ROWS = (recorded("1", "train", mean_features=[0.5, 2.0]), recorded("2", "test", cluster=3))
LISTED = SplitsInfo(digest="of another test", near_duplicate_cosine=COSINE)
REMEDY = "restore it from a copy, or run jobs/train.py again with the same flags, which keeps the members"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = read_record(write_ensemble(tmp_path, *ROWS))
    assert found.rows.to_pylist() == table(*ROWS).drop_columns(["mean_features"]).to_pylist()
    assert found.means_ND.tolist() == [[0.5, 2.0], [0.0, 0.0]]
    assert (found.near_duplicate_cosine, found.feature_key, found.doubt) == (COSINE, SPEC.key, "")
    check_record(str(tmp_path), LISTED)


def test_a_swapped_or_missing_record_is_refused_in_one_line(tmp_path: Path) -> None:
    directory = write_ensemble(tmp_path, *ROWS)
    # An edited record: the training video is now a test video.
    split_record.write(directory, table(recorded("1", "test", mean_features=[0.5, 2.0]), ROWS[1]))
    for read in (read_record, partial(check_record, listed=LISTED)):
        with pytest.raises(ConfigError) as error:
            read(directory)
        refusal = f"is not the file that ensemble.json lists (digest differs); {REMEDY}"
        assert str(error.value) == f"--ensemble {directory}/splits.parquet: {refusal}"
    storage.delete_file(f"{directory}/splits.parquet")
    with pytest.raises(ConfigError, match=rf"^--before {directory}/splits\.parquet: cannot be read \(.*\); {REMEDY}$"):
        read_record(directory, "--before")


def test_an_ensemble_without_a_record_or_of_an_earlier_version_is_doubted(tmp_path: Path) -> None:
    directory = write_ensemble(tmp_path, *ROWS, splits=None)
    storage.publish_table(f"{directory}/splits.parquet", table(*ROWS).select(schema.EARLIER_SPLIT_TABLE.names))
    found = read_record(directory)
    assert found.doubt == (
        "an earlier version of vidclf trained the ensemble, and its record of the splits cannot be checked"
    )
    assert found.rows.select(["split", "source", "content_digest"]).to_pylist() == [
        {"split": "train", "source": "source of 1", "content_digest": None},
        {"split": "test", "source": "source of 2", "content_digest": None},
    ]
    with pytest.raises(ConfigError, match="earlier version"):
        check_record(directory, None)  # so that `train` writes a new record
    storage.delete_file(f"{directory}/splits.parquet")
    assert read_record(directory).doubt == "the ensemble has no record of its splits"
    assert read_record(directory).rows.num_rows == 0


def test_an_imported_ensemble_is_doubted(tmp_path: Path) -> None:
    members = [{"file": "member_0.safetensors", "imported_from": "best_ensemble_model_0.pt"}]
    found = read_record(write_ensemble(tmp_path, *ROWS, members=members))
    assert found.doubt == (
        "the ensemble's members were imported, and the videos that they were trained on are not known"
    )
    # What calibration used is known.
    assert found.rows["split"].to_pylist() == ["train", "test"]
    check_record(str(tmp_path), LISTED)


def test_another_ensemble_than_that_of_the_predictions_is_doubted(tmp_path: Path) -> None:
    directory = write_ensemble(tmp_path, *ROWS)
    assert read_record(directory, ensemble_id="e0").doubt == ""
    assert read_record(directory, ensemble_id="e1").doubt == f"{directory} now holds another ensemble (e0)"


def test_a_listed_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(schema.EARLIER_SPLIT_TABLE.empty_table(), tmp_path / "splits.parquet")
    splits = vars(split_record.describe(str(tmp_path), COSINE))
    content = (tmp_path / "splits.parquet").read_bytes()
    directory = write_ensemble(tmp_path, *ROWS, splits=splits)
    (tmp_path / "splits.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match=r"splits\.parquet: not a record of splits"):
        read_record(directory)
