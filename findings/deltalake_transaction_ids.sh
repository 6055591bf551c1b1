#!/usr/bin/env bash
# deltalake 1.6.6: a transaction id on a write is recorded and not checked, so the same write twice gives every row
# twice.
#
# Expected: `CommitProperties(app_transactions=[Transaction("run-1", 1)])` makes a write idempotent, as the options
# txnAppId and txnVersion do in Delta Lake for Spark: the second write with the same id and version is skipped, or
# refused.
# Seen: the second write adds its rows. A write with a lower version succeeds too, and the recorded version goes down.
# What follows for vidclf: a job that appends its results to a Delta table and may be submitted again must read
# `DeltaTable.transaction_version` itself, and may not write if its run is already there.
#
# Usage: findings/deltalake_transaction_ids.sh   (installs into a temporary directory; exit code 1 if this changes)
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
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

rows = pa.table({"video_id": ["a", "b"], "confidence": [0.9, 0.8]})


def append(version):
    """Append the rows as transaction `version` of run-1; return the table's number of rows and recorded version."""
    transaction = CommitProperties(app_transactions=[Transaction("run-1", version)])
    write_deltalake("table", rows, mode="append", commit_properties=transaction)
    table = DeltaTable("table")
    return table.to_pyarrow_table().num_rows, table.transaction_version("run-1")


seen = [append(5), append(5), append(3)]
print("rows and recorded version after each write with version 5, 5, 3:", seen)
is_as_seen = seen == [(2, 5), (4, 5), (6, 3)]
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
