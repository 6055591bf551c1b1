#!/usr/bin/env bash
# Ray Data 2.60.0: a checkpoint skips finished rows only if the pipeline begins with a file reader. With rows from
# memory, a second run writes every row again.
#
# Expected: `DataContext.checkpoint_config` with an id column makes a second run skip the ids that are written, whatever
# made the rows, or refuses a source that it cannot filter.
# Seen: after two runs over the same ten ids the output of `read_parquet` has ten rows, that of `from_items` twenty.
# Both runs succeed, without a warning.
# What follows for vidclf: a job writes the list of videos to a Parquet file first and reads that
# (`vidclf/pipeline/graph.py`), although the list is in memory already.
#
# Usage: findings/ray_data_checkpoint_source.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    "ray[data]==2.60.0" pyarrow==26.0.1
cd "$work"
RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 RAY_ADDRESS=local "$work/venv/bin/python" - <<'PY'
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data.checkpoint import CheckpointConfig

pq.write_table(pa.table({"id": list(range(10))}), "source.parquet")
sources = {
    "read_parquet": lambda: ray.data.read_parquet("source.parquet"),
    "from_items": lambda: ray.data.from_items([{"id": number} for number in range(10)]),
}
seen = {}
with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as directory:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=directory)
    for name, source in sources.items():
        ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig(
            id_column="id", checkpoint_path=f"{directory}/{name}", delete_checkpoint_on_success=False
        )
        seen[name] = []
        for _ in range(2):
            source().write_parquet(f"output_{name}")
            seen[name].append(pq.read_table(f"output_{name}").num_rows)
    ray.shutdown()
print("rows after the first and the second run:", seen)
is_as_seen = seen == {"read_parquet": [10, 10], "from_items": [10, 20]}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
