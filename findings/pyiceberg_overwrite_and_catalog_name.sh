#!/usr/bin/env bash
# pyiceberg 0.12.0: an overwrite makes two snapshots, and a SQL catalog opened by another name has no tables.
#
# Expected: `overwrite` with a filter replaces rows in one snapshot, so that every snapshot has the rows. The tables of
# a SQLite file are those of the catalog, whatever the program calls the catalog.
# Seen: one overwrite adds a snapshot without the replaced rows, then one with the new ones. Both become visible in one
# commit, but a reader who asks for the state at an earlier snapshot may get the first. The name given to `SqlCatalog`
# is a column of the file: under another name the same file lists no namespace and no table, without an error.
# What follows for vidclf: `docs/guides/export.md` names the catalog `vidclf`, and says that a table may get two
# snapshots.
#
# Usage: findings/pyiceberg_overwrite_and_catalog_name.sh   (installs into a temporary directory; exit code 1 if this
# changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    "pyiceberg[sql-sqlite]==0.12.0" pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import os
import sys

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog


def catalog_named(name):
    return SqlCatalog(name, uri="sqlite:///catalog.db", warehouse=f"file://{os.getcwd()}")


catalog = catalog_named("one")
catalog.create_namespace("space")
rows = pa.table({"video": ["a", "b"], "score": [0.1, 0.2]})
table = catalog.create_table("space.rows", schema=rows.schema)
table.append(rows)
table.overwrite(pa.table({"video": ["b"], "score": [0.9]}), overwrite_filter="video = 'b'")
snapshots = [
    (snapshot.summary.operation.value, sorted(table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()["video"].to_pylist()))
    for snapshot in table.snapshots()
]
print("snapshots:", snapshots)
other = catalog_named("other")
print("under its name:", catalog.list_tables("space"), "| under another:", other.list_namespaces())
is_as_seen = (
    snapshots[0] == ("append", ["a", "b"])
    and [videos for _, videos in snapshots[1:]] == [["a"], ["a", "b"]]
    and catalog.list_tables("space") == [("space", "rows")]
    and other.list_namespaces() == []
    and not other.table_exists("space.rows")
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
