#!/usr/bin/env bash
# deltalake 1.6.6: an append with other column types is converted, with loss of values, instead of refused.
#
# Expected: Delta Lake enforces the schema of a table on writing, so a column of another type is a SchemaMismatchError,
# as a missing column is. At most a widening without loss (int32 into int64) passes.
# Seen: 1.7 appended to a column of int64 is stored as 1. A float64 is rounded to float32. A number and a list appended
# to a column of strings are stored as their text. A missing column is refused.
# What follows for vidclf: whoever appends results to a Delta table must compare the two schemas before.
#
# Usage: findings/deltalake_append_casts.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    deltalake==1.6.6 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import SchemaMismatchError


def appended(name, first, second):
    """Type and values of a column that was written as `first` and to which `second` was appended."""
    write_deltalake(name, pa.table({"video_id": ["a"], "value": first}))
    write_deltalake(name, pa.table({"video_id": ["b"], "value": second}), mode="append")
    values = DeltaTable(name).to_pyarrow_table().sort_by("video_id")["value"]
    return str(values.type), values.to_pylist()


seen = {
    "double into long": appended("long", pa.array([1]), pa.array([1.7])),
    "double into float": appended("float", pa.array([1.5], pa.float32()), pa.array([0.1])),
    "double into string": appended("string", pa.array(["x"]), pa.array([1.7])),
    "list into string": appended("list", pa.array(["x"]), pa.array([[1, 2]])),
}
for case, result in seen.items():
    print(f"{case:19} {result}")
try:
    write_deltalake("long", pa.table({"video_id": ["c"]}), mode="append")
    missing = "accepted"
except SchemaMismatchError:
    missing = "refused"
print("a missing column is", missing)
is_as_seen = missing == "refused" and seen == {
    "double into long": ("int64", [1, 1]),
    "double into float": ("float", [1.5, 0.10000000149011612]),
    "double into string": ("string", ["x", "1.7"]),
    "list into string": ("string", ["x", "[1, 2]"]),
}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
