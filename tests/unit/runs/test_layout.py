"""Names and locations of the files in a run directory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vidclf import storage
from vidclf.runs.layout import SHARD_PATTERN, Run, file_name, shard_name


def test_files_of_a_run_keep_the_options_of_its_uri() -> None:
    run = Run("s3://bucket/run?region=eu-west-1")
    assert run.manifest_file == "s3://bucket/run/manifest.parquet?region=eu-west-1"
    assert run.quarantine_dir == "s3://bucket/run/quarantine?region=eu-west-1"


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/a/part-0.parquet", "part-0.parquet"),
        ("/a/b/", "b"),
        ("/a/what?.parquet", "what?.parquet"),
        ("s3://bucket/a/part-0.parquet", "part-0.parquet"),
        ("s3://bucket/a/part-0.parquet?endpoint_override=http://host:9000&scheme=http", "part-0.parquet"),
    ],
)
def test_a_file_name_is_the_last_part_without_options(location: str, name: str) -> None:
    assert file_name(location) == name


def test_a_shard_is_named_by_its_write_and_its_number() -> None:
    name = shard_name("0123456789abcdef" * 2, 7)
    assert name == "part-0123456789abcdef0123456789abcdef-000007.parquet"
    assert re.fullmatch(SHARD_PATTERN, name)


def test_a_run_exists_with_its_manifest_and_is_finished_with_its_summary(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    assert (run.exists(), run.is_finished(), run.shards()) == (False, False, [])
    storage.publish_bytes(run.manifest_file, b"")
    assert (run.exists(), run.is_finished()) == (True, False)
    storage.publish_json(run.summary_file, {"num_ok": 1})
    storage.publish_json(run.identity_file, {"feature_key": "k"})
    assert run.is_finished()
    assert (run.summary(), run.identity()) == ({"num_ok": 1}, {"feature_key": "k"})
