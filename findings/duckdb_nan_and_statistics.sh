#!/usr/bin/env bash
# DuckDB 2.0.1 with a Parquet file of pyarrow 26.0.1: `isnan(score)` is false in every row although the file holds a
# NaN, and the maximum of a column depends on what else is selected.
#
# Expected: a filter, a function and an aggregate give the same whether or not a Parquet file has statistics.
# Seen: the smallest and largest value that pyarrow writes for a row group leave NaN out, as the Parquet format demands.
# DuckDB takes them for all values: isnan(score) is false everywhere, `score > 0.95` returns nothing, max(score) is 0.9.
# Of the same file without statistics, and beside avg(score), all is as expected. `NOT isfinite(score)` finds the NaN in
# both.
# What follows for vidclf: `isnan(…)` in SQL over Parquet files proves nothing. A check in DuckDB uses `NOT
# isfinite(…)`. (DuckDB's issue 25521 is about the same cause.)
#
# Usage: findings/duckdb_nan_and_statistics.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    duckdb==2.0.1 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

rows = pa.table({"score": [float("nan"), 0.9, 0.1]})
pq.write_table(rows, "with.parquet")
pq.write_table(rows, "without.parquet", write_statistics=False)
queries = (
    "SELECT isnan(score) FROM '{}'",
    "SELECT score FROM '{}' WHERE isnan(score)",
    "SELECT score FROM '{}' WHERE score > 0.95",
    "SELECT score FROM '{}' WHERE NOT isfinite(score)",
    "SELECT max(score) FROM '{}'",
    "SELECT max(score), avg(score) FROM '{}'",
)
seen = []
for query in queries:
    results = [duckdb.sql(query.format(f"{file}.parquet")).fetchall() for file in ("with", "without")]
    seen.append([str([row[0] for row in result]) for result in results])
    print(f"{query:48} with statistics: {seen[-1][0]:21} without: {seen[-1][1]}")
is_as_seen = seen == [
    ["[False, False, False]", "[True, False, False]"],
    ["[]", "[nan]"],
    ["[]", "[nan]"],
    ["[nan]", "[nan]"],
    ["[0.9]", "[nan]"],
    ["[nan]", "[nan]"],
]
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
