"""The rows that a progressive job takes from its passes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.support.lost_lease import lost_lease
from vidclf import storage
from vidclf.classification.progressive import _ShardWriter
from vidclf.runs.lease import LeaseLost


@pytest.mark.parametrize("directory", ["", "quarantine"])
def test_a_job_that_has_lost_its_lease_collects_no_rows(tmp_path: Path, directory: str) -> None:
    output = str(tmp_path / "run")
    writer = _ShardWriter(storage.join(output, directory), rows_per_shard=2)
    with pytest.raises(LeaseLost), lost_lease(output):
        writer.add(pa.table({"video_id": ["a", "b"]}))
    assert storage.list_files(output, recursive=True) == []
