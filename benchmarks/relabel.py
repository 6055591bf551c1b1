"""Time of a second submission of `jobs/extract.py` after labels were corrected, relative to the extraction itself.

    python benchmarks/relabel.py [--videos 10000] [--relabelled 0.01] [--measured 2000]

The archive consists of links to clips of one second (64×48, MPEG-4), which is the hardest comparison: extraction of
real videos takes longer, the second submission does not. The steps, all in one run:

1. Index the archive, and extract it with efficientnet_lite0, `--num-frames` frames per video.
2. Correct the labels of a share of the videos in a list, index the list onto the same manifest, and submit extract
   again. No result file may change.

With `--measured` below `--videos`, only so many videos are decoded, and their rows are repeated under the names of the
others. The time of extraction is then that of the measured videos times the ratio of both numbers. It includes the
start of Ray, so it is too high by at most the time of the second submission.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf import storage
from vidclf.runs.layout import Run

ROOT = Path(__file__).resolve().parents[1]

NUM_CLIPS = 50
CLASSES = ("cat", "dog", "eel", "fox")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000, help="number of videos in the archive")
    parser.add_argument("--relabelled", type=float, default=0.01, help="share of the videos with a new label")
    parser.add_argument("--measured", type=int, default=10_000, help="number of videos that are really decoded")
    parser.add_argument("--num-frames", type=int, default=4, help="frames per video")
    arguments = parser.parse_args()
    print(describe("ray", "openvino", "av"), "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Extract, correct labels, submit again, and print the table."""
    archive, manifest, features = folder / "archive", folder / "manifest.parquet", folder / "features"
    num_measured = min(arguments.measured, arguments.videos)
    make_archive(archive, num_measured)
    job("index", "--input", str(archive), "--output", str(manifest))
    extract = ("extract", "--manifest", str(manifest), "--output", str(features), "--backbone", "efficientnet_lite0")
    flags = ("--weights", "random", "--num-frames", str(arguments.num_frames))
    measured_s, _ = job(*extract, *flags)
    extraction_s = measured_s * arguments.videos / num_measured
    if num_measured < arguments.videos:
        repeat_rows(features, manifest, arguments.videos)
    before = {path: Path(path).stat().st_mtime_ns for path in Run(str(features)).shards()}
    labels = folder / "labels.csv"
    num_changed = correct_labels(manifest, labels, arguments.relabelled)
    index_s, _ = job("index", "--input", str(labels), "--output", str(manifest), "--overwrite")
    again_s, output = job(*extract, *flags)
    after = {path: Path(path).stat().st_mtime_ns for path in Run(str(features)).shards()}
    if before != after or "everything was done already" not in output:
        raise SystemExit(f"the second submission was to decode nothing:\n{output}")
    kind = "measured" if num_measured == arguments.videos else f"extrapolated from {num_measured:,} videos"
    total_s = index_s + again_s
    print("| | seconds | of the extraction |\n|---|---|---|")
    print(f"| extraction of {arguments.videos:,} videos ({kind}) | {extraction_s:.1f} | 1 |")
    print(f"| index of the list with {num_changed:,} new labels | {index_s:.1f} | {index_s / extraction_s:.3f} |")
    print(f"| extract again, 0 videos decoded | {again_s:.1f} | {again_s / extraction_s:.3f} |")
    print(f"| both | {total_s:.1f} | {total_s / extraction_s:.3f} |")


def make_archive(archive: Path, num_videos: int) -> None:
    """Make a few clips, and an archive of links to them, with a directory per class."""
    clips = [make_clip(archive.parent / "clips" / f"{number}.mp4", number) for number in range(NUM_CLIPS)]
    for number in range(num_videos):
        link = archive / CLASSES[number % len(CLASSES)] / f"{number:06}.mp4"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(clips[number % NUM_CLIPS])


def make_clip(path: Path, seed: int) -> Path:
    """Write a clip of ten frames of noise that moves."""
    path.parent.mkdir(exist_ok=True)
    picture = np.random.default_rng(seed).integers(40, 220, (48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shift in range(10):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, shift, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def repeat_rows(features: Path, manifest: Path, num_videos: int) -> None:
    """Repeat the rows of a finished run and of its manifest under other ids and names, up to `num_videos`."""
    rows = storage.read_table(str(manifest))
    times = -(-num_videos // rows.num_rows)
    storage.publish_table(str(manifest), repeated(rows, times, num_videos))
    storage.publish_table(Run(str(features)).manifest_file, repeated(rows, times, num_videos))
    num_left = num_videos
    for number, path in enumerate(Run(str(features)).shards()):
        table = storage.read_table(path)
        for turn in range(times):
            more = renamed(table, turn).slice(0, num_left)
            num_left -= more.num_rows
            other = f"{path.removesuffix('.parquet')}{number}{turn:04}.parquet"
            storage.publish_table(other if turn else path, more)


def repeated(rows: pa.Table, times: int, num_rows: int) -> pa.Table:
    """The rows several times, under other names, at most `num_rows` of them."""
    return pa.concat_tables([renamed(rows, turn) for turn in range(times)]).slice(0, num_rows)


def renamed(rows: pa.Table, turn: int) -> pa.Table:
    """The rows with ids, locations and sources that differ in each turn."""
    for name in ("video_id", "video_uri", "group"):
        values = [f"{value}{f'-{turn}' if turn else ''}" for value in rows[name].to_pylist()]
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), pa.array(values, pa.string()))
    return rows


def correct_labels(manifest: Path, labels: Path, share: float) -> int:
    """Write the manifest as a list in which a share of the videos has another class. Returns their number."""
    rows = storage.read_table(str(manifest), ["video_uri", "label"]).to_pylist()
    step = round(1 / share)
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number, row in enumerate(rows):
            place = CLASSES.index(row["label"]) + (number % step == 0)
            writer.writerow([row["video_uri"], CLASSES[place % len(CLASSES)]])
    return len(range(0, len(rows), step))


def job(name: str, *arguments: str) -> tuple[float, str]:
    """Run a job; its elapsed seconds and output. Exits if the job fails."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    elapsed_s = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{name} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return elapsed_s, done.stdout


if __name__ == "__main__":
    main()
