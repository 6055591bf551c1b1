"""Demonstration: the jobs from index to evaluate, one after another, on the sample archive. `make demo` runs this
script.

Each step prints its command line and runs it in this process, so that Ray starts only once. All outputs are in demo/.
When the script is run again, it finds them there, finished.
"""

from __future__ import annotations

import os
import runpy
import shlex
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""Directory of the repository."""

STEPS = (
    # Half of the clips for training, and three of ten for test. Test then has 10 sources, and at least 8 at any of 300
    # other seeds. With two of ten it has 6, one of them often four of nine clips: that is less than the 5 equal sources
    # that an interval takes.
    r"jobs/index.py --input examples/archive --group-pattern '^(.+)-\d+$' --split 0.5,0.2,0.3"
    " --output demo/manifest.parquet",
    "jobs/extract.py --manifest demo/manifest.parquet --output demo/features"
    " --backbone efficientnet_lite0 --num-frames 16",
    "jobs/train.py --features demo/features --output demo/ensemble --config examples/demo_train.yaml",
    "jobs/classify.py --manifest demo/manifest.parquet --ensemble demo/ensemble --output demo/predictions"
    # The sample archive has too few sources for a trust threshold that supports --abstain-risk.
    " --accept-uncertified",
    "jobs/audit.py --run demo/predictions",
    "jobs/evaluate.py --predictions demo/predictions --manifest demo/manifest.parquet --output demo/report",
)
"""Command lines of the jobs, without `python`, in the order in which they run."""


def main() -> None:
    """Run all steps in order. Stop with the exit code of the first step that fails."""
    # A Ray of the demonstration's own, whatever cluster this machine has or had.
    os.environ.setdefault("RAY_ADDRESS", "local")
    started = time.monotonic()
    for step in STEPS:
        print(f"\n$ python {step}", flush=True)
        script, *arguments = shlex.split(step)
        sys.argv = [script, *arguments]
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as stop:
            if stop.code:
                sys.exit(stop.code)
    print(f"\ndone in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
