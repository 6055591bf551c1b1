"""Start-up time and driver memory of `jobs/extract.py` over a manifest (table of videos) with a million rows.

    python benchmarks/manifest_scale.py [--archive DIR] [--rows 1000000] [--seconds 60]

The manifest needs a million different paths but only four short clips. The script creates a directory in which `0` to
`9` are links to the directory itself, so that `0/1/2/3/4/5/clip.mp4` and all similar paths lead to a clip. One row each
for three jobs:

1. `--limit 500`, until its end;
2. all videos, until the script sends SIGTERM `--seconds` after the first shard (file of features);
3. the second job started again on the same output, until SIGTERM after its first new shard.

Columns, with seconds counted from the start of the job:

- first decoder, s: when the first decoder process used CPU time, the earliest possible moment of a decoded video;
- first shard, s: when the first file of features exists. This includes the start of the CNN; a shard has 32 videos;
- exit, s: duration of the job; of it after SIGTERM, s: the part of it between SIGTERM and exit;
- driver, MiB: peak resident memory of the driver (main process); videos done: rows in the new shards.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from benchmarks.processes import Watch
from benchmarks.repeated import clips_of
from vidclf import arrow, schema, storage
from vidclf.archive.manifest import video_id

ROOT = Path(__file__).resolve().parents[1]
DIGITS = 6


@dataclass
class Job:
    """Measurements of one job: a row of the table. Times are in seconds from the start of the job."""

    name: str
    first_decoder_s: float | None = None
    first_shard_s: float | None = None
    total_s: float = 0.0
    stop_s: float | None = None
    """seconds from SIGTERM to exit"""
    driver_mib: float = 0.0
    num_done: int = 0
    exit_code: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive", help="archive with the clips")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the manifest, at most a million")
    parser.add_argument("--limit", type=int, default=500, help="number of videos in the first job")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="seconds from the first shard of the second job to SIGTERM"
    )
    parser.add_argument("--num-frames", type=int, default=4, help="sampled frames per video")
    parser.add_argument("--work", type=Path, help="directory for manifest and outputs (default: a temporary directory)")
    arguments = parser.parse_args()
    print(describe("ray", "torch", "pyarrow"), "\n", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        manifest = make_manifest(arguments.rows, arguments.archive, folder)
        flags = ["--manifest", str(manifest), "--backbone", "efficientnet_lite0", "--rows-per-shard", "32"]
        flags += ["--num-frames", str(arguments.num_frames)]
        limited, all_videos = folder / "limited", folder / "whole"
        print(
            "| job | first decoder, s | first shard, s | exit, s | of it after SIGTERM, s | driver, MiB | videos done |"
        )
        print("|---|---|---|---|---|---|---|")
        show(watched(f"--limit {arguments.limit}", [*flags, "--limit", str(arguments.limit)], limited, None))
        show(watched(f"{arguments.rows} videos", flags, all_videos, arguments.seconds))
        show(watched("submitted again", flags, all_videos, 0.0))


def make_manifest(num_rows: int, archive: Path, folder: Path) -> Path:
    """Path of a manifest with `num_rows` different paths to the four smallest clips of the archive; creates it."""
    if num_rows > 10**DIGITS:
        raise SystemExit(f"--rows must be at most {10**DIGITS}, got {num_rows}")
    tree = folder / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    for digit in "0123456789":
        if not (tree / digit).is_symlink():
            (tree / digit).symlink_to(".")
    names = []
    for number, clip in enumerate(sorted(clips_of(archive), key=lambda path: path.stat().st_size)[:4]):
        names.append(f"clip{number}{clip.suffix}")
        if not (tree / names[-1]).is_symlink():
            (tree / names[-1]).symlink_to(clip)
    paths = itertools.product("0123456789", repeat=DIGITS)
    uris = [
        f"{tree}/{'/'.join(path)}/{names[number % len(names)]}"
        for number, path in enumerate(itertools.islice(paths, num_rows))
    ]
    columns = {
        schema.VIDEO_ID: [video_id(uri) for uri in uris],
        "video_uri": uris,
        "group": uris,
    }
    nothing = pa.nulls(num_rows)
    rows = pa.table(
        [pa.array(columns[f.name]) if f.name in columns else nothing.cast(f.type) for f in schema.MANIFEST],
        schema=schema.MANIFEST,
    )
    storage.publish_table(str(folder / "manifest.parquet"), arrow.conform(rows, schema.MANIFEST, "manifest"))
    return folder / "manifest.parquet"


def watched(name: str, flags: list[str], output: Path, stop_after_s: float | None) -> Job:
    """Run a job and return its measurements.

    The job runs until its end if `stop_after_s` is None. Otherwise it gets SIGTERM that many seconds after its first
    new shard.
    """
    job = Job(name)
    before = set(shards(output))
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    log = output.with_name(f"{output.name}.log")
    started = time.monotonic()
    stopped: float | None = None
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs/extract.py"), *flags, "--output", str(output)],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        with Watch(process.pid) as watch:
            while process.poll() is None:
                now = time.monotonic()
                if job.first_decoder_s is None and watch.cpu_s["decoder children"] > 0:
                    job.first_decoder_s = now - started
                if job.first_shard_s is None and any(shard not in before for shard in shards(output)):
                    job.first_shard_s = now - started
                can_stop = job.first_shard_s is not None and stop_after_s is not None and stopped is None
                if can_stop and now - started >= (job.first_shard_s or 0.0) + (stop_after_s or 0.0):
                    process.send_signal(signal.SIGTERM)
                    stopped = now
                time.sleep(0.05)
    job.total_s = time.monotonic() - started
    job.stop_s = None if stopped is None else job.total_s - (stopped - started)
    job.driver_mib = watch.peak_rss_bytes / 2**20
    job.num_done = sum(pq.read_metadata(output / shard).num_rows for shard in set(shards(output)) - before)
    job.exit_code = process.returncode
    if job.exit_code != (0 if stopped is None else 1):
        raise SystemExit(f"the job {name!r} ended with exit code {job.exit_code}:\n{log.read_text()}")
    return job


def shards(output: Path) -> Iterator[str]:
    """File names of the shards of features in a directory, which need not exist."""
    if output.exists():
        with os.scandir(output) as entries:
            yield from (entry.name for entry in entries if entry.name.startswith("part-"))


def show(job: Job) -> None:
    """Print the row of a job."""

    def text(seconds: float | None) -> str:
        return "–" if seconds is None else f"{seconds:.1f}"

    print(
        f"| {job.name} | {text(job.first_decoder_s)} | {text(job.first_shard_s)} | {text(job.total_s)} "
        f"| {text(job.stop_s)} | {job.driver_mib:.0f} | {job.num_done} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
