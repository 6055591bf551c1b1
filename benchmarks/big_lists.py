"""Time and memory of the jobs that read or write one row per video, without a video being decoded.

    python benchmarks/big_lists.py [--rows 10000,100000,1000000] [--frames 8] [--checkouts DIR,DIR]

For each number of rows it writes a list of as many paths, of 4 classes of 4 sublabels and 5 videos per source, and two
classifications of them that differ in a tenth of the videos. The paths lead to one file through links to their own
directory. Then it runs four jobs of each checkout: `index` of the list with new splits, `audit` and `evaluate` of the
first classification, and `diff` of both. The table has the CPU seconds of each job, also per million rows beyond the
smallest number, its elapsed seconds, the peak of its resident memory, and the sizes of the files that it wrote.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf import arrow, schema, storage
from vidclf.features.spec import FeatureSpec
from vidclf.runs.layout import Run, shard_name
from vidclf.video.sampling import SamplingPlan

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ["Animation", "Flat_Content", "Gaming", "Natural_Content"]
SUBLABELS, VIDEOS_PER_SOURCE, ROWS_PER_SHARD, DIGITS = 4, 5, 8192, 6
WRONG, CHANGED = 0.1, 0.1
"""Shares of the videos whose class is not the true one, and whose class is another one in the second classification."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000,1000000", help="numbers of rows, at most a million each")
    parser.add_argument("--frames", type=int, default=8, help="sampled frames per video, whose times are in the rows")
    parser.add_argument("--checkouts", default=str(ROOT), help="directories of the builds to compare")
    arguments = parser.parse_args()
    print(describe("pyarrow", "numpy"), "\n")
    print("| build | job | rows | CPU s | CPU s per further million | s | peak, MiB | output, MiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    first: dict[tuple[str, str], tuple[int, float]] = {}
    for num_rows in map(int, arguments.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            write_list(work, num_rows)
            for checkout in arguments.checkouts.split(","):
                measure(checkout, work, num_rows, arguments.frames, first)


def write_list(work: Path, num_rows: int) -> None:
    """Write `list.csv` with `num_rows` different paths, all of which lead to one file."""
    tree = work / "tree"
    tree.mkdir()
    (tree / "clip.mp4").write_bytes(b"\0" * 100)
    for digit in "0123456789":
        (tree / digit).symlink_to(".")
    paths = itertools.islice(itertools.product("0123456789", repeat=DIGITS), num_rows)
    sources = [number // VIDEOS_PER_SOURCE for number in range(num_rows)]
    columns = {
        "video_uri": [f"{tree}/{'/'.join(path)}/clip.mp4" for path in paths],
        "label": [CLASSES[source % len(CLASSES)] for source in sources],
        "sublabel": [f"kind {source // len(CLASSES) % SUBLABELS}" for source in sources],
        "group": [f"source {source}" for source in sources],
    }
    pa.csv.write_csv(pa.table(columns), work / "list.csv")


def measure(checkout: str, work: Path, num_rows: int, num_frames: int, first: dict[tuple[str, str], Any]) -> None:
    """Run the jobs of one build and print a row of the table for each."""
    manifest, before, after = work / "manifest.parquet", work / "before", work / "after"
    jobs: dict[str, list[Path | str]] = {
        "index": ["--input", work / "list.csv", "--output", manifest, "--split", "0.7,0.2,0.1"],
        "audit": ["--run", before],
        "evaluate": ["--predictions", before, "--manifest", manifest, "--output", work / "report"],
        "diff": ["--before", before, "--after", after, "--output", work / "diff"],
    }
    for job, flags in jobs.items():
        if job == "audit" and not before.exists():
            write_run(before, manifest, num_frames, seed=0)
            write_run(after, manifest, num_frames, seed=1)
        command = [sys.executable, str(Path(checkout, "jobs", f"{job}.py")), *map(str, flags)]
        cpu_s, wall_s, peak_bytes = run(command, checkout)
        first_rows, first_cpu_s = first.setdefault((checkout, job), (num_rows, cpu_s))
        growth = f"{(cpu_s - first_cpu_s) / (num_rows - first_rows) * 1e6:.1f}" if num_rows > first_rows else ""
        sizes = sizes_of(Path(flags[flags.index("--output") + 1])) if job != "audit" else {}
        written = ", ".join(f"{name} {size / 2**20:.2f}" for name, size in sizes.items())
        print(
            f"| {checkout} | {job} | {num_rows:,} | {cpu_s:.1f} | {growth} | {wall_s:.1f} | {peak_bytes / 2**20:.0f} | "
            f"{written} |",
            flush=True,
        )
    for folder in (before, after, work / "report", work / "diff"):
        shutil.rmtree(folder)
    manifest.unlink()


def write_run(run: Path, manifest: Path, num_frames: int, seed: int) -> None:
    """Write a finished classification of the videos in a manifest. With another seed than 0, the class of the share
    `CHANGED` of the videos is another one than with the seed 0."""
    videos = storage.read_table(str(manifest))
    spec = FeatureSpec.of("efficientnet_lite0", "random", "digest", SamplingPlan(num_frames=num_frames))
    identity = {"feature_specs": [asdict(spec)], "weights": ["random"], "ensemble_id": "e0", "classes": CLASSES}
    storage.publish_json(Run(str(run)).identity_file, identity)
    storage.publish_table(Run(str(run)).manifest_file, videos)
    for index, start in enumerate(range(0, videos.num_rows, ROWS_PER_SHARD)):
        rows = predictions(videos.slice(start, ROWS_PER_SHARD), num_frames, start, seed)
        storage.publish_table(str(run / shard_name(f"{0:032x}", index)), rows)
    counts = {"num_input_videos": videos.num_rows, "num_ok": videos.num_rows, "num_quarantined": 0, "num_pending": 0}
    facts = {"reasons": {}, "videos_per_s": 1.0, "total_video_duration_s": 10.0 * videos.num_rows}
    storage.publish_json(Run(str(run)).summary_file, {**counts, **facts})


def predictions(videos: pa.Table, num_frames: int, start: int, seed: int) -> pa.Table:
    """Rows of predictions for the videos of a part of the manifest that begins at row `start`."""
    num = videos.num_rows
    generator = np.random.default_rng([0, start])
    true_B = np.array([CLASSES.index(label) for label in videos["label"].to_pylist()])
    top_B = np.where(generator.random(num) < WRONG, generator.integers(0, len(CLASSES), num), true_B)
    if seed:
        changes = np.random.default_rng([seed, start])
        top_B = np.where(changes.random(num) < CHANGED, changes.integers(0, len(CLASSES), num), top_B)
    confidence_B = generator.uniform(0.3, 1.0, num).astype(np.float32)
    probability_BC = np.repeat((1 - confidence_B[:, None]) / (len(CLASSES) - 1), len(CLASSES), axis=1)
    probability_BC[np.arange(num), top_B] = confidence_B
    names = pa.array(CLASSES).take(pa.array(top_B))
    is_accepted = pa.array(confidence_B > 0.4)
    members = [[row.tolist()] * 2 for row in probability_BC]
    lists = {"attention": 1 / num_frames, "luma_mean": 0.5, "sharpness": 1.0}
    flags = ("is_black", "is_near_duplicate")
    columns: dict[str, Any] = {
        **{name: videos[name] for name in (schema.VIDEO_ID, "video_uri")},
        "label": pa.compute.if_else(is_accepted, names, None),
        "verdict": pa.compute.if_else(is_accepted, *schema.VERDICTS[:2]),
        "top_label": names,
        "probabilities": [row.tolist() for row in probability_BC],
        **dict.fromkeys(("confidence", "trust_score", "ood_score"), confidence_B),
        "member_disagreement": np.zeros(num),
        "member_probabilities": members,
        "view_probabilities": [row[:1] for row in members],
        **{name: [[value] * num_frames] * num for name, value in lists.items()},
        **{name: [[False] * num_frames] * num for name in flags},
        "pts_s": [[float(second) for second in range(num_frames)]] * num,
        **{name: [False] * num for name in ("sharpened", "all_black", "is_blurry")},
        "stage": ["full"] * num,
        "size_bytes": [100] * num,
        "content_digest": videos[schema.VIDEO_ID],
        "num_frames": [num_frames] * num,
        "duration_s": np.full(num, 10.0),
        "width": [640] * num,
        "height": [360] * num,
        "video_codec": ["h264"] * num,
        "ensemble_id": ["e0"] * num,
    }
    target = schema.predictions(len(CLASSES))
    arrays = []
    for field in target:
        values = columns.get(field.name, pa.nulls(num, field.type))
        arrays.append(values.cast(field.type) if hasattr(values, "cast") else pa.array(values, field.type))
    return arrow.conform(pa.table(arrays, schema=target), target, "predictions")


def run(command: list[str], checkout: str) -> tuple[float, float, int]:
    """CPU seconds, elapsed seconds and peak resident memory of a job. Exits if the job fails."""
    environment = {**os.environ, "PYTHONPATH": str(Path(checkout).resolve())}
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}:\n{text}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - started, peak_of(usage)


def peak_of(usage: resource.struct_rusage) -> int:
    """Peak of the resident memory in bytes; Linux counts it in KiB."""
    return usage.ru_maxrss * 1024


def sizes_of(path: Path) -> dict[str, int]:
    """Sizes in bytes, by name, of a file or of the files in a directory, without the small ones."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.stat().st_size for file in files if file.stat().st_size > 2**14}


if __name__ == "__main__":
    main()
