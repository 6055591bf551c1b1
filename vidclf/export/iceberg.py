"""Iceberg tables: rows appended, or replaced by video, in one commit of the catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import closing, contextmanager
from functools import reduce

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo, In, Or

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.export.change import KEYS, Change, Present
from vidclf.export.rows import RunRows
from vidclf.export.target import Existing
from vidclf.schema import VIDEO_ID

CATALOG_FILE = "catalog.db"
"""Name of the SQLite file of a catalog in a directory."""


class IcebergOutput:
    """A table in a catalog that pyiceberg's configuration names, or in a catalog of its own in a local directory.

    A transaction may make two snapshots, one without the replaced rows and one with the new ones. The catalog points to
    the last one only.
    """

    def __init__(self, output: str, table: str, *, is_catalog: bool) -> None:
        self._output = output if is_catalog else storage.canonical(output)
        self._table = table
        self._is_catalog = is_catalog
        self._present: Present | None = None
        if not is_catalog and storage.is_uri(self._output):
            raise ConfigError(
                f"--output {output}: must be a local directory with --to iceberg, or the name of a catalog of "
                "pyiceberg's configuration, whose warehouse may be in an object store"
            )

    def read(self) -> Existing | None:
        """Keys and columns of the current snapshot; None if there is no table."""
        if not self._is_catalog and not os.path.exists(os.path.join(self._output, CATALOG_FILE)):
            return None
        with self._catalog() as catalog:
            try:
                table = catalog.load_table(self._table)
            except (NoSuchTableError, NoSuchNamespaceError):
                return None
            columns = table.schema().as_arrow()
            if not set(KEYS) <= set(columns.names):
                return Existing(Present(), columns)
            self._present = Present.of(table.scan(selected_fields=KEYS).to_arrow())
            return Existing(self._present, columns)

    def write(self, rows: RunRows, change: Change) -> None:
        """Write the change in one transaction, whose snapshots name the run."""
        properties = {"vidclf.run-id": rows.run_id}
        with self._catalog() as catalog:
            if self._present is None:
                catalog.create_namespace_if_not_exists(self._table.rpartition(".")[0])
                with catalog.create_table_transaction(self._table, schema=rows.columns) as transaction:
                    transaction.append(rows.reader(change.written), snapshot_properties=properties)
                return
            with catalog.load_table(self._table).transaction() as transaction:
                with transaction.update_schema() as update:
                    update.union_by_name(rows.columns)
                if change.removes_all or change.removed:
                    transaction.overwrite(
                        rows.reader(change.written),
                        overwrite_filter=AlwaysTrue() if change.removes_all else rows_of(change.removed, self._present),
                        snapshot_properties=properties,
                    )
                else:
                    transaction.append(rows.reader(change.written), snapshot_properties=properties)

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        """The catalog, closed at the end of the `with` body. Raises ConfigError if it is not configured."""
        if self._is_catalog:
            try:
                catalog = load_catalog(self._output)
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"--output {self._output}: must be a directory, or a catalog in pyiceberg's configuration ({error})"
                ) from error
        else:
            os.makedirs(self._output, exist_ok=True)
            path = os.path.join(self._output, CATALOG_FILE)
            catalog = SqlCatalog("vidclf", uri=f"sqlite:///{path}", warehouse=f"file://{self._output}")
        with closing(catalog):
            yield catalog


def rows_of(videos: Set[str], present: Present) -> BooleanExpression:
    """Filter for the rows of `videos`.

    pyiceberg takes a second per thousand ids of a filter. A run all of whose videos are meant is named instead.
    """
    videos_of: dict[str, set[str]] = {}
    for video, runs in present.runs.items():
        for run in runs:
            videos_of.setdefault(run, set()).add(video)
    whole = {run for run, ids in videos_of.items() if ids <= videos}
    single = sorted(video for video in videos if present.runs[video] - whole)
    parts: list[BooleanExpression] = [EqualTo("run_id", run) for run in sorted(whole)]
    if single:
        parts.append(In(VIDEO_ID, single))
    return reduce(Or, parts)
