#!/usr/bin/env bash
# pyiceberg 0.12.0: `not in` with two values keeps rows whose value is null, with one value it drops them, and `delete`
# with the same filter does not delete what `scan` returns.
#
# Expected: as in SQL, a comparison with null is not true: `label not in (…)` returns no row without a label, whatever
# the number of values. And `delete(filter)` removes exactly the rows of `scan(row_filter=filter)`.
# Seen: `label not in ('cat')` does not return the row without a label; `label not in ('cat', 'dog')` returns it.
# `delete("label not in ('cat', 'dog')")` then leaves this row in the table.
# What follows for vidclf: the label of a video that was abstained on is null. Filter with `verdict`, which is never
# null. (pyiceberg's pull request 3918 describes the same.)
#
# Usage: findings/pyiceberg_not_in_and_null.sh   (installs into a temporary directory; exit code 1 if this changes)
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

rows = pa.table({"video_id": ["a", "b", "c", "d"], "label": ["cat", None, "dog", "bird"]})
catalog = SqlCatalog("catalog", uri="sqlite:///catalog.db", warehouse=f"file://{os.getcwd()}")
catalog.create_namespace("space")
table = catalog.create_table("space.rows", schema=rows.schema)
table.append(rows)


def ids(row_filter="true"):
    return sorted(table.scan(row_filter=row_filter).to_arrow()["video_id"].to_pylist())


seen = {row_filter: ids(row_filter) for row_filter in ("label != 'cat'", "label not in ('cat')")}
two_values = "label not in ('cat', 'dog')"
seen[two_values] = ids(two_values)
table.delete(two_values)
seen["left after delete(…)"] = ids()
for case, videos in seen.items():
    print(f"{case:30} {videos}")
is_as_seen = list(seen.values()) == [["c", "d"], ["c", "d"], ["b", "d"], ["a", "b", "c"]]
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
