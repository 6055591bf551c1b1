#!/usr/bin/env bash
# pyiceberg 0.12.0, DuckDB 2.0.1: rows that were read from a table's own data by DuckDB cannot be appended to a table of
# the same schema, although no value is null.
#
# Expected: a column that may not be null accepts every batch without nulls, as a NOT NULL column does in SQL and as
# deltalake 1.6.6 accepts it.
# Seen: DuckDB's Arrow tables mark every column as nullable, because its results carry no such constraint. pyiceberg
# compares the two schemas and not the values, and raises "Mismatch in fields". The same rows, cast to the table's Arrow
# schema, pass.
# What follows for vidclf: all required columns of results are non-nullable in `vidclf/schema.py`. A result that DuckDB
# (or pandas) has touched must be cast to that schema before it goes to an Iceberg table; the cast checks for nulls.
#
# Usage: findings/pyiceberg_required_columns.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    "pyiceberg[sql-sqlite]==0.12.0" pyarrow==26.0.1 duckdb==2.0.1 deltalake==1.6.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import os
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

schema = pa.schema([pa.field("video_id", pa.string(), nullable=False), pa.field("frames", pa.int32(), nullable=False)])
rows = pa.table({"video_id": ["a", "b"], "frames": [73, 12]}, schema=schema)
pq.write_table(rows, "rows.parquet")
selected = duckdb.sql("SELECT * FROM 'rows.parquet'").to_arrow_table()
print("DuckDB's columns may be null:", [field.nullable for field in selected.schema])

catalog = SqlCatalog("catalog", uri="sqlite:///catalog.db", warehouse=f"file://{os.getcwd()}")
catalog.create_namespace("space")
table = catalog.create_table("space.rows", schema=schema)
try:
    table.append(selected)
    iceberg = "accepted"
except ValueError as error:
    iceberg = str(error).splitlines()[0]
table.append(selected.cast(schema))
write_deltalake("delta", rows)
write_deltalake("delta", selected, mode="append")
counts = (table.scan().to_arrow().num_rows, DeltaTable("delta").to_pyarrow_table().num_rows)
print("pyiceberg:", iceberg, "| rows after the cast, and in the Delta table:", counts)
is_as_seen = (
    [field.nullable for field in selected.schema] == [True, True]
    and iceberg == "Mismatch in fields:"
    and counts == (2, 4)
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
