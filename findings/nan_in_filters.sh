#!/usr/bin/env bash
# DuckDB 2.0.1, Polars 2.1.0: NaN passes the filter `score > 0.5`. In Polars the same NaN is not the maximum.
#
# Expected: a comparison with NaN is false, as in IEEE 754, numpy, pandas and pyarrow, so a threshold keeps NaN out.
# Seen: both engines order NaN above every number, and a filter for large scores returns it. pyarrow does not. The
# maximum is NaN in DuckDB, which follows from this order, and the largest number in Polars, which does not.
# What follows for vidclf: features that are not finite are rejected before they are written
# (`vidclf/pipeline/embedder.py`). Scores of another origin that are joined to results need `isfinite(score)` (Polars:
# `is_finite()`) beside the threshold.
#
# Usage: findings/nan_in_filters.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import math
import sys

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

rows = pa.table({"score": [float("nan"), 0.9, 0.1]})
frame = pl.from_arrow(rows)
kept = {
    "duckdb": [row[0] for row in duckdb.sql("SELECT score FROM rows WHERE score > 0.5").fetchall()],
    "polars": frame.filter(pl.col("score") > 0.5)["score"].to_list(),
    "pyarrow": rows.filter(pc.field("score") > 0.5)["score"].to_pylist(),
}
largest = {
    "duckdb": duckdb.sql("SELECT max(score) FROM rows").fetchall()[0][0],
    "polars": frame["score"].max(),
    "pyarrow": pc.max(rows["score"]).as_py(),
}
for engine in kept:
    print(f"{engine:8} score > 0.5: {kept[engine]}, max: {largest[engine]}")
is_as_seen = (
    [str(values) for values in kept.values()] == ["[nan, 0.9]", "[nan, 0.9]", "[0.9]"]
    and math.isnan(largest["duckdb"])
    and (largest["polars"], largest["pyarrow"]) == (0.9, 0.9)
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
