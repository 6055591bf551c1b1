#!/usr/bin/env bash
# deltalake 1.6.6: a column of unsigned integers becomes a signed column of the same width, so the upper half of the
# values cannot be written.
#
# Expected: uint8 becomes the next type that holds all its values (short), or is refused when the table is created. (The
# Parquet file itself could hold uint8.)
# Seen: uint8 becomes byte (-128 to 127). Values up to 127 are written, and 128 is refused. uint32 becomes integer and
# uint64 long in the same way. So a first write, or a test with small numbers, says nothing about the next write.
# What follows for vidclf: columns of results are signed (`vidclf/schema.py`). A column of pixels or counts that
# somebody adds must be cast to a wider signed type before it goes to a Delta table.
#
# Usage: findings/deltalake_unsigned_integers.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    deltalake==1.6.6 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import json
import sys

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

seen = {}
for unsigned, bits in ((pa.uint8(), 8), (pa.uint32(), 32), (pa.uint64(), 64)):
    name, largest_signed = str(unsigned), 2 ** (bits - 1) - 1
    write_deltalake(name, pa.table({"value": pa.array([largest_signed], unsigned)}))
    stored = json.loads(DeltaTable(name).schema().to_json())["fields"][0]["type"]
    try:
        write_deltalake(name, pa.table({"value": pa.array([largest_signed + 1], unsigned)}), mode="append")
        next_value = "written"
    except DeltaError as error:
        next_value = "refused" if "Can't cast value" in str(error) else str(error)
    seen[name] = (stored, next_value)
    print(f"{name} is stored as {stored}; {largest_signed} is written, {largest_signed + 1} is {next_value}")
is_as_seen = seen == {"uint8": ("byte", "refused"), "uint32": ("integer", "refused"), "uint64": ("long", "refused")}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
