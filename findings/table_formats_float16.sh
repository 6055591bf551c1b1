#!/usr/bin/env bash
# deltalake 1.6.6, pyiceberg 0.12.0: neither table format has 16-bit floats; one library refuses them, the other widens.
#
# Expected: both do the same with a list of fixed-size lists of float16, which Parquet, the file format of both, stores.
# Seen: deltalake raises an error, and leaves an empty directory where the table was to be. pyiceberg writes the rows
# without a warning as lists of lists of float32: the numbers are right, twice as large, and the length of the inner
# list (the dimension of a feature) is no longer part of the type. pyarrow and Parquet return what was written.
# What follows for vidclf: the column `features` [T, D] goes to Delta only after a cast to float32, and from Iceberg it
# comes back as another type than `vidclf/schema.py` requires.
#
# Usage: findings/table_formats_float16.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    deltalake==1.6.6 "pyiceberg[sql-sqlite]==0.12.0" pyarrow==26.0.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

half = np.array([1.5, -2.0, 0.25], np.float16)
features = pa.list_(pa.list_(pa.float16(), 2))
rows = pa.table({"features": pa.array([[half[:2], half[1:]], [half[:2]], []], features)})
pq.write_table(rows, "rows.parquet")
assert pq.read_table("rows.parquet").equals(rows)

try:
    write_deltalake("delta", rows)
    delta = "written"
except Exception as error:
    delta = str(error).splitlines()[0]
print("deltalake:", delta, "| directory afterwards:", os.listdir("delta"))

catalog = SqlCatalog("catalog", uri="sqlite:///catalog.db", warehouse=f"file://{os.getcwd()}")
catalog.create_namespace("space")
table = catalog.create_table("space.rows", schema=rows.schema)
table.append(rows)
read = table.scan().to_arrow()["features"]
print("pyiceberg:", read.type, read.to_pylist())
is_as_seen = (
    "Invalid data type for Delta Lake: Float16" in delta
    and os.listdir("delta") == []
    and read.type == pa.list_(pa.field("element", pa.list_(pa.field("element", pa.float32()))))
    and read.to_pylist() == [[[1.5, -2.0], [-2.0, 0.25]], [[1.5, -2.0]], []]
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
