#!/usr/bin/env bash
# fastparquet 2026.9.0: two kinds of columns come back wrong, without an error or a warning.
#
# Expected: the values, or an exception that names the unsupported type.
# Seen: a column of float16 comes back as the two raw bytes of each number, and so do the numbers in a list of float16. A
# list of lists comes back as None in every row. A list of float32 in the same file is right.
# What follows for vidclf: `features` (lists of lists of float16) and the probabilities of members and views (lists of lists
# of float32) cannot be read with fastparquet: docs/recipes/reading-results.md.
#
# Usage: findings/fastparquet_float16_and_nested_lists.sh   (installs the packages below in a temporary directory; exit
# code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check fastparquet==2026.9.0 pandas==3.1.1 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" -W error::UserWarning - <<'PY'
import sys

import fastparquet
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

half = np.array([1.5, -2.0, 0.25], np.float16)
written = pa.table(
    {
        "half": pa.array(half),
        "halves": pa.array([[half[0]], [half[1], half[2]], []], pa.list_(pa.float16())),
        "nested": pa.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]], []], pa.list_(pa.list_(pa.float32()))),
        "floats": pa.array([[1.0], [2.0, 3.0], []], pa.list_(pa.float32())),
    }
)
pq.write_table(written, "table.parquet")
assert pq.read_table("table.parquet").equals(written)
read = {name: fastparquet.ParquetFile("table.parquet").to_pandas(columns=[name])[name].tolist() for name in written.column_names}
for name, values in read.items():
    print(f"{name:7} {values}")
is_as_seen = (
    read["half"] == [value.tobytes() for value in half]
    and [list(map(bytes, row)) for row in read["halves"]] == [[half[0].tobytes()], [half[1].tobytes(), half[2].tobytes()], []]
    and read["nested"] == [None, None, None]
    and read["floats"] == [[1.0], [2.0, 3.0], []]
)
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
