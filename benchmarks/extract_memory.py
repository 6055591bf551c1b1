"""Peak memory of an extraction, over few videos and over ten times as many.

    python benchmarks/extract_memory.py --archive DIR [--clips 72] [--times 2,20] [--num-frames 73]

Lists the same clips twice and twenty times over (`--times`), both of which fill what may be in flight on two cores,
extracts both, and samples five times a second the sum of the proportional set sizes of the job's processes: driver,
Ray's own, decode workers, decoders, CNN workers. A page that several share, as those of the object store, counts once.
Exit code 1 where the larger archive took over 15 % more.
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
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive")
    parser.add_argument("--clips", type=int, default=72, help="how many of the archive's clips, evenly chosen")
    parser.add_argument("--times", default="2,20", help="how often they are listed: in the first run, in the second")
    parser.add_argument("--num-frames", type=int, default=73)
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
    print(f"\n{many * len(clips)} videos take {growth:.3f} of the memory that {few * len(clips)} take")
    return 0 if growth <= MOST_GROWTH else 1


def extract(manifest: str, output: Path, num_frames: int) -> Watch:
    """The memory of one job, its peak."""
    command = [sys.executable, str(ROOT / "jobs/extract.py"), "--manifest", manifest, "--output", str(output)]
    process = subprocess.Popen(
        [*command, "--backbone", "efficientnet_lite0", "--num-frames", str(num_frames)],
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Watch(process.pid, memory=True) as watch:
        said = process.communicate()[0]
    if process.returncode != 0:
        raise SystemExit(f"the job ended with {process.returncode}:\n{said}")
    return watch


if __name__ == "__main__":
    sys.exit(main())
