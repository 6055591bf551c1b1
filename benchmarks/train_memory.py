"""Memory and time of a training, over feature sets of several sizes, for one or more builds of vidclf.

    python benchmarks/train_memory.py [--videos 500,4000] [--members 4] [--epochs 2] [--checkouts DIR,DIR]
    python benchmarks/train_memory.py --videos 500 --members 2 --epochs 2,22 --rounds 3 --checkouts DIR,DIR

For each number of videos it writes synthetic features (73 frames of 1280 float16 values per video, four classes, five
videos per source), and runs `jobs/train.py` of each checkout on them with small members. Five times per second it adds
up the memory of all processes of the job that no file on a disk backs: anonymous memory and shared memory, as
proportional set size, in which a page that several processes share counts once. "Bytes per byte" divides what the peak
grows by what the features grow from the smallest number of videos on: it leaves out what a training costs at any size.
"s per epoch" is elapsed time; "CPU s" is that of all processes of the job. With two numbers of epochs, "CPU s per
epoch" divides the difference of the CPU seconds by that of the epochs: what a training costs at any length cancels out.
Each round trains with every build and number of epochs by turns, and has rows of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from benchmarks.processes import Watch
from vidclf import storage
from vidclf.features.columns import features_column
from vidclf.features.spec import FeatureSpec
from vidclf.runs.layout import Run
from vidclf.video.sampling import SamplingPlan

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ["Animation", "Flat_Content", "Gaming", "Natural_Content"]
FRAMES, DIM, VIDEOS_PER_SOURCE, ROWS_PER_SHARD = 73, 1280, 5, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default="500,4000", help="numbers of videos, the smallest first")
    parser.add_argument("--members", type=int, default=4, help="members that are trained in parallel")
    parser.add_argument("--epochs", default="2", help="epochs per member; two numbers measure an epoch")
    parser.add_argument("--rounds", type=int, default=1, help="trainings of each kind")
    parser.add_argument("--checkouts", default=str(ROOT), help="directories of the builds to compare")
    parser.add_argument("--folder", default=None, help="where features and ensembles are written (default: TMPDIR)")
    arguments = parser.parse_args()
    print(describe("ray", "torch"), "\n")
    print(
        "| build | videos | epochs | features, GB | peak, GB | bytes per byte of features | s per epoch | s | CPU s | "
        "CPU s per epoch |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    kinds = [
        (number, epochs)
        for _ in range(arguments.rounds)
        for epochs in map(int, arguments.epochs.split(","))
        for number in range(len(arguments.checkouts.split(",")))
    ]
    first: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for num_videos in map(int, arguments.videos.split(",")):
            features = write_features(Path(folder, f"features-{num_videos}"), num_videos)
            size_gb = num_videos * FRAMES * DIM * 2 / 1e9
            shorter: dict[str, tuple[int, float]] = {}
            for turn, (number, epochs) in enumerate(kinds):
                checkout = arguments.checkouts.split(",")[number]
                output = Path(folder, f"ensemble-{num_videos}-{turn}")
                job = train(checkout, features, output, arguments.members, epochs)
                first_size, first_peak = first.setdefault(checkout, (size_gb, job.peak_gb))
                growth = f"{(job.peak_gb - first_peak) / (size_gb - first_size):.2f}" if size_gb > first_size else ""
                fewer, less_s = shorter.setdefault(checkout, (epochs, job.cpu_s))
                if epochs <= fewer:
                    shorter[checkout], epoch_cpu_s = (epochs, job.cpu_s), ""
                else:
                    epoch_cpu_s = f"{(job.cpu_s - less_s) / (epochs - fewer):.2f}"
                print(
                    f"| {checkout} | {num_videos} | {epochs} | {size_gb:.2f} | {job.peak_gb:.2f} | {growth} | "
                    f"{job.epoch_s:.1f} | {job.total_s:.0f} | {job.cpu_s:.1f} | {epoch_cpu_s} |",
                    flush=True,
                )
            shutil.rmtree(features)


def write_features(run: Path, num_videos: int) -> Path:
    """Write a finished directory of synthetic features. Every second source of a class is like its class only in part,
    so that the classes overlap."""
    spec = FeatureSpec.of("efficientnet_lite0", "random", "digest", SamplingPlan(num_frames=FRAMES))
    generator = np.random.default_rng(0)
    means_CD = generator.normal(0, 0.5, (len(CLASSES), DIM)).astype(np.float32)
    noise_TD = generator.standard_normal((4 * FRAMES, DIM), np.float32)
    ids = [f"{number:032x}" for number in range(num_videos)]
    sources = [number // VIDEOS_PER_SOURCE for number in range(num_videos)]
    labels = [CLASSES[source % len(CLASSES)] for source in sources]
    texts = {
        "video_id": ids,
        "video_uri": [f"/videos/{video_id}.mp4" for video_id in ids],
        "label": labels,
        "sublabel": labels,
        "group": [f"source {source}" for source in sources],
        # By turns within each class: 8 sources to train, 1 to validate, 1 to test.
        "split": [{8: "val", 9: "test"}.get(source // len(CLASSES) % 10, "train") for source in sources],
    }
    # Without the fields that are None, which earlier builds do not know.
    stated = {name: value for name, value in asdict(spec).items() if value is not None}
    storage.publish_json(str(run / "run_identity.json"), {"feature_specs": [stated], "weights": ["random"]})
    storage.publish_table(Run(str(run)).manifest_file, pa.table(texts))
    for start in range(0, num_videos, ROWS_PER_SHARD):
        rows = range(start, min(start + ROWS_PER_SHARD, num_videos))
        arrays = []
        for row in rows:
            own_D = generator.normal(0, 0.5, DIM).astype(np.float32)
            first = int(generator.integers(0, 3 * FRAMES))
            mean_D = means_CD[sources[row] % len(CLASSES)] * (1 + sources[row] % 2) / 4
            arrays.append((mean_D + own_D + noise_TD[first : first + FRAMES]).astype(np.float16))
        columns = {name: values[start : rows.stop] for name, values in texts.items()}
        columns |= {"content_digest": columns["video_id"], "feature_key": [spec.key] * len(rows)}
        table = pa.table({**columns, "features": features_column(arrays, DIM)})
        storage.publish_table(str(run / f"part-{start:08}.parquet"), table)
    return run


@dataclass(frozen=True, kw_only=True)
class Training:
    """Cost of a training job."""

    peak_gb: float
    """peak of the memory, in GB"""
    epoch_s: float
    """mean elapsed seconds per epoch"""
    total_s: float
    """elapsed seconds of the job"""
    cpu_s: float
    """CPU seconds of all processes of the job"""


def train(checkout: str, features: Path, output: Path, members: int, epochs: int) -> Training:
    """Train with a build. Exits if the job fails."""
    python = Path(checkout, ".venv/bin/python")
    small = "--hidden-dim 64 --num-lstm-layers 1 --num-attention-heads 4 --classifier-dims 32 --weight-decay 0.0005"
    command = [
        *(str(python) if python.exists() else sys.executable, str(Path(checkout, "jobs/train.py"))),
        *("--features", str(features), "--output", str(output), "--members", str(members), "--epochs", str(epochs)),
        *small.split(),
    ]
    # PYTHONPATH, because a shared environment holds the package of another checkout, which Ray's workers would import.
    environment = {**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": str(Path(checkout).resolve())}
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=checkout,  # workers of an earlier build find their package there
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Watch(process.pid, memory=True) as watch:
        text = process.communicate()[0]
    if process.returncode != 0:
        raise SystemExit(f"the job of {checkout} ended with exit code {process.returncode}:\n{text}")
    seconds = [float(value) for value in re.findall(r"([0-9.]+) s, at most", text)]
    return Training(
        peak_gb=watch.peak_unbacked_bytes / 1e9,
        epoch_s=float(np.mean(seconds)),
        total_s=time.monotonic() - started,
        cpu_s=watch.cpu_s.total(),
    )


if __name__ == "__main__":
    main()
