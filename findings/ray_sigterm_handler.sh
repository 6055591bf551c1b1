#!/usr/bin/env bash
# Ray 2.60.0: `ray.init()` replaces the program's handler of SIGTERM, and `ray.shutdown()` does not give it back.
#
# Expected: a handler that the program installed before `ray.init()` still runs on SIGTERM, before or after Ray's own
# clean-up.
# Seen: the handler is Ray's afterwards, which ends the program by `sys.exit(15)`. After `ray.shutdown()` it still is.
# What follows for vidclf: a job that is stopped would end without its message and with another exit code.
# `own_sigterm_handler` in `vidclf/ray_cluster.py` installs the handler again after `ray.init()`.
#
# Usage: findings/ray_sigterm_handler.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    ray==2.60.0
cd "$work"
RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 RAY_ADDRESS=local "$work/venv/bin/python" - <<'PY'
import signal
import sys
import tempfile

import ray


def handler(number, frame):
    """Handler of the program."""


signal.signal(signal.SIGTERM, handler)
before = signal.getsignal(signal.SIGTERM)
with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as directory:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=directory)
    during = signal.getsignal(signal.SIGTERM)
    ray.shutdown()
after = signal.getsignal(signal.SIGTERM)
for moment, found in (("before", before), ("after ray.init", during), ("after ray.shutdown", after)):
    print(f"{moment:18} {found.__module__}.{found.__qualname__}")
try:
    during(signal.SIGTERM, None)
    end = "returned"
except SystemExit as error:
    end = error.code
print("Ray's handler exits with", end)
is_as_seen = before is handler and during is not handler and during.__module__ == "ray._private.worker"
is_as_seen = is_as_seen and after is during and end == signal.SIGTERM
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
