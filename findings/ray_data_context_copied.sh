#!/usr/bin/env bash
# Ray Data 2.60.0: a setting of `DataContext.get_current()` has no effect on datasets that exist already, although
# nothing of them has run.
#
# Expected: a dataset is lazy, so what holds is the setting at the time when it runs.
# Seen: each dataset has a copy of the context, made when its source was created. `map` and the like pass this copy on.
# A later change of the current context reaches neither the dataset nor what is derived from it; `dataset.context` does.
# What follows for vidclf: a memory limit that was set in the current context after reading the manifest limited
# nothing. `limit_frames_in_flight` in `vidclf/pipeline/graph.py` sets it in the dataset's own context.
#
# Usage: findings/ray_data_context_copied.sh   (installs into a temporary directory; exit code 1 if this changes)
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

import ray

MEBIBYTE = 2**20
with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as directory:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=directory)

    def made(dataset):
        """Number of blocks that 64 rows of 1 MiB make."""
        rows = dataset.map_batches(lambda batch: {"row": [bytes(MEBIBYTE)] * 64}, batch_size=64)
        return rows.materialize().num_blocks()

    current = ray.data.DataContext.get_current()
    default = current.target_max_block_size
    existing = ray.data.range(64, override_num_blocks=1)
    current.target_max_block_size = 8 * MEBIBYTE
    created_after = ray.data.range(64, override_num_blocks=1)
    sizes = [dataset.context.target_max_block_size for dataset in (existing, existing.limit(64), created_after)]
    num_blocks = [made(existing), made(created_after)]
    existing.context.target_max_block_size = 8 * MEBIBYTE
    num_blocks.append(made(existing))
    ray.shutdown()
print("block sizes of the existing dataset, of one derived from it, of one created after the change:", sizes)
print("blocks of the existing dataset, of one created after, of the existing one with its own context set:", num_blocks)
is_as_seen = sizes == [default, default, 8 * MEBIBYTE] and num_blocks[0] == 1 and min(num_blocks[1:]) > 4
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
