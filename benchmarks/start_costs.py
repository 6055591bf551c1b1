"""Time of `--help` and of a refused argument of each job, against another build of vidclf.

    python benchmarks/start_costs.py --before DIR [--repeats 5]

Both builds run by turns with the same Python. The table has the medians of the CPU seconds (user and system) and of the
elapsed seconds of both, and the ratio of the CPU seconds. CPU time depends less on what else runs than elapsed time.
Jobs that only one of the builds has are left out. `benchmarks/refusals.py` measures all kinds of refusals of one build.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe  # noqa: E402

KINDS = {"--help": (["--help"], 0), "unknown flag": (["--colour=blue"], 2)}
"""Arguments and exit code of each kind of start."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="checkout of the other build")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each job and kind")
    arguments = parser.parse_args()
    print(describe("ray", "torch"), "\n")
    builds = {"before": arguments.before.resolve(), "now": ROOT}
    names = sorted({path.name for path in (ROOT / "jobs").glob("*.py")})
    names = [name for name in names if (builds["before"] / "jobs" / name).exists()]
    seconds: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(arguments.repeats):
        for name in names:
            for kind in KINDS:
                for build, checkout in builds.items():
                    seconds[name, kind, build].append(started(checkout, name, kind))
    print("| job | start | CPU s before | CPU s now | ratio | s before | s now |\n|---|---|---|---|---|---|---|")
    for name in names:
        for kind in KINDS:
            (cpu_before, wall_before), (cpu_now, wall_now) = (
                [statistics.median(values) for values in zip(*seconds[name, kind, build], strict=True)]
                for build in builds
            )
            print(
                f"| {name.removesuffix('.py')} | {kind} | {cpu_before:.2f} | {cpu_now:.2f} | "
                f"{cpu_now / cpu_before:.2f} | {wall_before:.2f} | {wall_now:.2f} |"
            )


def started(checkout: Path, name: str, kind: str) -> tuple[float, float]:
    """CPU seconds and elapsed seconds of a job that ends at its arguments. Exits if it ends otherwise."""
    flags, expected = KINDS[kind]
    environment = {**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(checkout / "jobs" / name), *flags],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != expected:
        raise SystemExit(f"{checkout}/jobs/{name} {kind} ended with exit code {process.returncode}, not {expected}")
    return usage.ru_utime + usage.ru_stime, wall_s


if __name__ == "__main__":
    main()
