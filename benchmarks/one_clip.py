"""Cost of a job over one clip, and of the demonstration, against a trivial Ray Data job and another build of vidclf.

    python benchmarks/one_clip.py --before DIR [--rounds 3] [--only trivial,extract,classify,demo]

The builds take turns with the same Python, and every job starts a Ray of its own. Each build extracts the sample
archive once and trains the ensemble of the demonstration with it; that is not measured. Rows of the table:

- trivial: a Ray Data job that reads a Parquet file of one row, calls one actor of a class that returns its batch, and
  writes a Parquet file;
- extract, classify: that job over one clip, EfficientNet-Lite0 with its weights, 16 frames;
- demo: `examples/demo.py` in an empty directory `demo/` of a copy of the build without its environment.

Columns: medians of the CPU seconds of all processes and of the elapsed seconds. Each is followed by the ratio to the
trivial job, except for the demonstration, and by the ratio of now to before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe  # noqa: E402
from benchmarks.processes import Watch  # noqa: E402

CLIPS = "examples/archive"
EXTRACT = ["--backbone=efficientnet_lite0", "--num-frames=16"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="checkout of the other build")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which the jobs take turns")
    parser.add_argument("--only", default="trivial,extract,classify,demo", help="rows to measure, separated by commas")
    parser.add_argument("--folder", type=Path, help="where both builds and their inputs are kept for a later run")
    parser.add_argument("--kinds", action="store_true", help="print the CPU seconds of every run by kind of process")
    parser.add_argument("--trivial", nargs=2, metavar=("INPUT", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trivial:
        trivial(*arguments.trivial)
        return
    print(describe("ray", "openvino", "torch"), "\n", flush=True)
    rows = arguments.only.split(",")
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, kept = Path(name), arguments.folder or Path(name)
        builds = {"before": copied(arguments.before, kept / "before"), "now": copied(ROOT, kept / "now")}
        commands = {build: prepared(checkout, rows) for build, checkout in builds.items()}
        for number in range(arguments.rounds):
            for row in rows:
                for build in ("now",) if row == "trivial" else builds:
                    output = folder / f"{row}-{build}-{number}"
                    command = [word.replace("OUTPUT", str(output)) for word in commands[build][row]]
                    if row == "demo":
                        shutil.rmtree(builds[build] / "demo", ignore_errors=True)
                    wall_s, cpu_s = measured(builds[build], command)
                    spent.setdefault((row, build), []).append((cpu_s.total(), wall_s))
                    text = f"round {number}: {row}, {build}: {cpu_s.total():.1f} CPU s, {wall_s:.1f} s"
                    kinds = ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in cpu_s.most_common())
                    print(text + (f" ({kinds})" if arguments.kinds else ""), file=sys.stderr, flush=True)
    report({key: [statistics.median(column) for column in zip(*values, strict=True)] for key, values in spent.items()})


def copied(checkout: Path, folder: Path) -> Path:
    """Copy the directories of a build that its jobs need to `folder`, because the demonstration writes into them. What
    else is there stays."""
    for name in ("vidclf", "jobs", "examples", "benchmarks"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(checkout / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def prepared(checkout: Path, rows: list[str]) -> dict[str, list[str]]:
    """Command of each row, in which OUTPUT stands for an empty location, after the inputs of these jobs are made."""
    clip = sorted((checkout / CLIPS).rglob("*.mp4"))[0]
    one, every = checkout / "one.parquet", checkout / "all.parquet"
    if not one.exists():
        (checkout / "one").mkdir()
        shutil.copy(clip, checkout / "one")
        measured(checkout, ["jobs/index.py", "--input=one", f"--output={one}"])
    if "classify" in rows and not (checkout / "ensemble/ensemble.json").exists():
        index = r"jobs/index.py --input=examples/archive --group-pattern=^(.+)-\d+$ --split=0.5,0.2,0.3"
        measured(checkout, [*index.split(), f"--output={every}"])
        measured(checkout, ["jobs/extract.py", f"--manifest={every}", "--output=features", *EXTRACT])
        train = "jobs/train.py --features=features --output=ensemble --config=examples/demo_train.yaml"
        measured(checkout, train.split())
    return {
        "trivial": ["benchmarks/one_clip.py", "--before=.", "--trivial", str(one), "OUTPUT"],
        "extract": ["jobs/extract.py", f"--manifest={one}", "--output=OUTPUT", *EXTRACT],
        "classify": ["jobs/classify.py", f"--manifest={one}", "--output=OUTPUT", "--ensemble=ensemble"],
        "demo": ["examples/demo.py"],
    }


def measured(checkout: Path, command: list[str]) -> tuple[float, Counter[str]]:
    """Elapsed seconds of a script of a build, and the CPU seconds of its processes by kind. Exits if it fails."""
    environment = {**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": str(checkout)}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Watch(process.pid, interval_s=0.1) as watch:
        text = process.communicate()[0]
        wall_s = time.monotonic() - began
    if process.returncode != 0:
        raise SystemExit(f"{checkout}: {' '.join(command)} ended with exit code {process.returncode}:\n{text}")
    return wall_s, watch.cpu_s


def report(medians: dict[tuple[str, str], list[float]]) -> None:
    """Print the table. `medians`: CPU seconds and elapsed seconds by row and build."""
    print("| | build | CPU s | of the trivial job | of before | s | of the trivial job | of before |")
    print("|---|---|---|---|---|---|---|---|")
    for (row, build), values in medians.items():
        cells = []
        for number, value in enumerate(values):
            compared = {"trivial": medians.get(("trivial", "now")), "before": medians.get((row, "before"))}
            wanted = {"trivial": row not in ("trivial", "demo"), "before": build == "now" and row != "trivial"}
            cells.append(f"{value:.1f}")
            for key, other in compared.items():
                cells.append(f"{value / other[number]:.2f}" if other is not None and wanted[key] else "")
        print(f"| {row} | {'' if row == 'trivial' else build} | {' | '.join(cells)} |")


class Unchanged:
    """Class of the actor of the trivial job."""

    def __call__(self, batch: Any) -> Any:
        return batch


def trivial(source: str, output: str) -> None:
    """The trivial job: one row, one actor, one Parquet file. Its columns of type null are left out."""
    import logging

    import pyarrow.parquet as pq
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    pq.write_table(pq.read_table(source).select(["video_uri"]), f"{output}.parquet")
    data = ray.data.read_parquet(f"{output}.parquet")
    actors = ray.data.ActorPoolStrategy(size=1)
    data.map_batches(Unchanged, batch_format="pyarrow", compute=actors).write_parquet(output)


if __name__ == "__main__":
    main()
