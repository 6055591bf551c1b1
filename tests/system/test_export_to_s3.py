"""Exports into a bucket of an S3 server (moto). Each table is read back by its own engine, after a kill in the middle
and a second export."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.audited_runs import write_audited_run
from tests.support.jobs import succeed
from tests.support.predictions import Predicted
from tests.unit.export.test_job import ALL, KILLED, MODULES, Rows, of_table

ROOT = Path(__file__).resolve().parents[2]


def read_delta(location: str) -> Rows:
    from deltalake import DeltaTable

    return of_table(DeltaTable(location, storage_options={"allow_http": "true"}).to_pyarrow_table())


def read_lance(location: str) -> Rows:
    import lance

    return of_table(lance.dataset(location, storage_options={"allow_http": "true"}).to_table())


def read_iceberg(name: str) -> Rows:
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog(name)
    try:
        table = catalog.load_table("vidclf.predictions")
        assert table.location().startswith("s3://archive/")
        return of_table(table.scan().to_arrow())
    finally:
        catalog.close()


READERS: dict[str, tuple[str, Callable[[str], Rows]]] = {
    "delta": ("s3://archive/tables/delta", read_delta),
    "lance": ("s3://archive/tables/lance", read_lance),
    "iceberg": ("prod", read_iceberg),
}


@pytest.mark.parametrize("to", READERS)
@pytest.mark.usefixtures("endpoint")
def test_every_row_is_there_once_after_a_kill_and_a_second_export(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(MODULES[to], reason=f"the extra {to} is not installed")
    output, read = READERS[to]
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__WAREHOUSE", "s3://archive/warehouse")
    # pyiceberg does not read AWS_ENDPOINT_URL.
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__S3__ENDPOINT", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__S3__REGION", "us-east-1")
    if to == "iceberg":
        # pyiceberg reads these variables once, on import, and an earlier test of this process may have imported it.
        import pyiceberg.catalog
        from pyiceberg.utils.config import Config

        monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())
    first = write_audited_run(tmp_path / "first")
    second = write_audited_run(tmp_path / "second", [Predicted("v2", "A", 0.7)], ensemble_id="e1")
    succeed("export", "--run", first, "--to", to, "--output", output)
    assert read(output) == ALL
    assert "unchanged" in succeed("export", "--run", first, "--to", to, "--output", output)

    arguments = ("--run", second, "--to", to, "--output", output, "--mode", "replace-by-video")
    command = [sys.executable, "-c", KILLED, to, str(ROOT / "jobs/export.py"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert read(output) == ALL
    # The job that was killed still has a lease; its process is gone, so the next job takes it over.
    succeed("export", *arguments)
    assert read(output) == [*ALL[:2], ("v2", "e1", 0.7)]
    assert "unchanged" in succeed("export", *arguments)
