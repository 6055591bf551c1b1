#!/usr/bin/env bash
# pyarrow 26.0.1, Polars 2.1.0: a filter over a Parquet file loses rows with NaN that the same filter over memory keeps.
#
# Expected: `read_table(file, filters=f)` has the rows of `read_table(file).filter(f)`.
# Seen: pyarrow looks at the minimum and maximum of each row group first. They leave NaN out, so of [1, 1, NaN] it knows
# 1 and 1, and skips the group: `x != 1`, `not x <= 1`, and even `is_nan` give no row. In memory all three give the NaN.
# With a 2 in the same row group the group is read, and the NaN is there again. Polars does it right.
# What follows for vidclf: its columns of scores have no NaN (`ood_score` and others are null where there is none). A
# table joined with scores of other programs must be read whole before it is filtered for NaN.
#
# Usage: findings/pyarrow_filter_loses_nan.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    pyarrow==26.0.1 polars==2.1.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

nan = float("nan")
x = pc.field("x")
filters = {"x != 1": x != 1.0, "not x <= 1": ~(x <= 1.0), "is_nan(x)": x.is_nan()}
counts = {}
for name, values in (("alike", [1.0, 1.0, nan]), ("mixed", [1.0, 2.0, nan])):
    rows = pa.table({"x": values})
    pq.write_table(rows, f"{name}.parquet")
    for text, expression in filters.items():
        file = pq.read_table(f"{name}.parquet", filters=expression)["x"].to_pylist()
        memory = rows.filter(expression)["x"].to_pylist()
        counts[name, text] = len(file), len(memory)
        print(f"{values}: {text:10} from the file {file}, in memory {memory}")
column = polars.col("x")
by_polars = [
    polars.scan_parquet("alike.parquet").filter(condition).collect().height
    for condition in (column != 1.0, ~(column <= 1.0), column.is_nan())
]
print("Polars, rows from the first file:", by_polars)
is_as_seen = (
    [counts["alike", text] for text in filters] == [(0, 1)] * 3
    and [counts["mixed", text] for text in filters] == [(2, 2), (2, 2), (1, 1)]
    and by_polars[2] == 1
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
