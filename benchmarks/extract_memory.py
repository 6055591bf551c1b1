"""Peak memory of an extraction job, over few videos and over ten times as many.

    python benchmarks/extract_memory.py --archive DIR [--clips 72] [--times 2,20] [--num-frames 73]

The same clips are listed twice in one archive and twenty times in another (`--times`). Both archives are large enough
to fill all queues of the pipeline on two cores. `jobs/extract.py` runs over each. Five times per second the script adds
up the memory of all processes of the job: driver, processes of Ray, decode and CNN workers, decoder processes. It adds
proportional set sizes (PSS), in which a page that several processes share counts once. One row per kind of process; the
columns are the peaks in MiB for the two archives. The exit code is 1 if the larger archive needs over 15 % more memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from benchmarks.processes import Watch
from benchmarks.repeated import clips_of, repeat

ROOT = Path(__file__).resolve().parents[1]
MOST_GROWTH = 1.15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive", help="archive of videos")
    parser.add_argument(
        "--clips", type=int, default=72, help="number of videos to take from the archive, evenly spaced in its list"
    )
    parser.add_argument(
        "--times",
        default="2,20",
        help="number of times that each video is listed, in the smaller and in the larger archive",
    )
    parser.add_argument("--num-frames", type=int, default=73, help="sampled frames per video")
    arguments = parser.parse_args()
    few, many = map(int, arguments.times.split(","))
    clips = clips_of(arguments.archive)
    clips = [clips[number * len(clips) // arguments.clips % len(clips)] for number in range(arguments.clips)]
    print(describe("ray", "torch", "av"), "\n")
    peaks: dict[int, Watch] = {}
    with tempfile.TemporaryDirectory() as folder:
        for times in (few, many):
            manifest = repeat(clips, times, Path(folder) / f"archive{times}")
            started = time.monotonic()
            peaks[times] = extract(manifest, Path(folder) / f"features{times}", arguments.num_frames)
            taken_s = time.monotonic() - started
            print(f"{times * len(clips)} videos: {taken_s:.0f} s", file=sys.stderr)
    kinds = sorted({kind for watch in peaks.values() for kind in watch.peak_by_kind})
    print(f"| peak PSS, MiB, {arguments.num_frames} frames | {few * len(clips)} videos | {many * len(clips)} videos |")
    print("|---|---|---|")
    for kind in kinds:
        print(f"| {kind} | " + " | ".join(f"{watch.peak_by_kind[kind] / 2**20:.0f}" for watch in peaks.values()) + " |")
    print("| together | " + " | ".join(f"{watch.peak_pss_bytes / 2**20:.0f}" for watch in peaks.values()) + " |")
    growth = peaks[many].peak_pss_bytes / peaks[few].peak_pss_bytes
    print(f"\nmemory for {many * len(clips)} videos is {growth:.3f} of that for {few * len(clips)} videos")
    return 0 if growth <= MOST_GROWTH else 1


def extract(manifest: str, output: Path, num_frames: int) -> Watch:
    """Run `jobs/extract.py` and return the watch that holds its peak memory; exits if the job fails."""
    command = [sys.executable, str(ROOT / "jobs/extract.py"), "--manifest", manifest, "--output", str(output)]
    process = subprocess.Popen(
        [*command, "--backbone", "efficientnet_lite0", "--num-frames", str(num_frames)],
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Watch(process.pid, memory=True) as watch:
        job_output = process.communicate()[0]
    if process.returncode != 0:
        raise SystemExit(f"the job ended with exit code {process.returncode}:\n{job_output}")
    return watch


if __name__ == "__main__":
    sys.exit(main())
