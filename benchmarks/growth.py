"""What a video costs in a small archive and in a large one, and short and long videos.

    python benchmarks/growth.py --archive DIR [--videos 100,500,2000] [--durations 10,60,240,600] [--rounds 1,1,1]

Videos of 60 s, 640×360, 30 frames/s, H.264, cut together from the archive's and listed under other names as often
as it takes; `jobs/extract.py` in a process tree of its own. A job over a few videos (`--base`) is run as often
as any, and what it costs is taken off the others: what is left is the cost of the videos beyond these, without
starting and stopping. Memory is the peak of the sum of proportional set sizes (PSS) of the job's processes.

Durations: the same with `--videos-per-duration` of each, whose base are jobs over half as many.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.decode import make_clip
from benchmarks.end_to_end import CLIP, NUM_CLIPS
from benchmarks.machine import describe
from benchmarks.pipeline import check
from benchmarks.processes import Watch
from benchmarks.repeated import repeat

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Cost:
    cpu_s: float
    wall_s: float
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive")
    parser.add_argument("--clips", type=Path, default=Path("benchmark_clips"), help="where the clips are kept")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="random", help="as for extract; 'random' needs no network")
    parser.add_argument("--base", type=int, default=20, help="videos whose cost is taken off")
    parser.add_argument("--videos", default="100,500,2000", help="videos beyond these, in each job; empty for none")
    parser.add_argument("--rounds", default="3,1,1", help="how often each of these is run, and the first for the base")
    parser.add_argument("--durations", default="10,60,240,600", help="of the videos, in seconds; empty for none")
    parser.add_argument("--videos-per-duration", default="192,96,48,32", help="more of the shorter ones")
    arguments = parser.parse_args()
    print(describe("ray", "openvino", "av"), "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.videos:
            with_size(arguments, Path(folder))
        if arguments.durations:
            with_duration(arguments, Path(folder))


def with_size(arguments: argparse.Namespace, folder: Path) -> None:
    sizes = [0, *map(int, arguments.videos.split(","))]
    rounds = [int(number) for number in arguments.rounds.split(",")]
    rounds = [rounds[0], *rounds]
    costs: dict[int, list[Cost]] = {size: [] for size in sizes}
    for number in range(max(rounds)):
        for size in (size for size, times in zip(sizes, rounds, strict=True) if number < times):
            costs[size].append(cost(arguments, CLIP.duration_s, size + arguments.base, folder / f"{size}-{number}"))
            print(f"round {number}: {size + arguments.base} videos: {costs[size][-1]}", file=sys.stderr, flush=True)
    base = costs.pop(0)
    per_video = {size: [c.cpu_s / size for c in minus(runs, base)] for size, runs in costs.items()}
    first = statistics.median(per_video[sizes[1]])
    print(f"| videos beyond {arguments.base} | CPU seconds a video | of the first | seconds a video | peak PSS, MiB |")
    print("|---|---|---|---|---|")
    for size, runs in costs.items():
        cpu_s = statistics.median(per_video[size])
        wall_s = statistics.median(c.wall_s / size for c in minus(runs, base))
        peak = statistics.median(run.peak_bytes for run in runs) / 2**20
        print(f"| {size} | {cpu_s:.3f} | {cpu_s / first:.3f} | {wall_s:.3f} | {peak:.0f} |")
    print(flush=True)


def with_duration(arguments: argparse.Namespace, folder: Path) -> None:
    print("| length of a video, s | CPU seconds a video | CPU seconds a minute | seconds a video | peak PSS, MiB |")
    print("|---|---|---|---|---|")
    for duration_s, num_videos in zip(
        map(int, arguments.durations.split(",")), map(int, arguments.videos_per_duration.split(",")), strict=True
    ):
        half = num_videos // 2
        runs = [cost(arguments, duration_s, half * times, folder / f"{duration_s}s-{times}") for times in (1, 2)]
        cpu_s, wall_s = ((runs[1].cpu_s - runs[0].cpu_s) / half, (runs[1].wall_s - runs[0].wall_s) / half)
        print(
            f"| {duration_s} | {cpu_s:.3f} | {cpu_s / duration_s * 60:.3f} | {wall_s:.3f} | "
            f"{runs[1].peak_bytes / 2**20:.0f} |",
            flush=True,
        )


def minus(runs: list[Cost], base: list[Cost]) -> list[Cost]:
    cpu_s, wall_s = statistics.median(b.cpu_s for b in base), statistics.median(b.wall_s for b in base)
    return [replace(run, cpu_s=run.cpu_s - cpu_s, wall_s=run.wall_s - wall_s) for run in runs]


def cost(arguments: argparse.Namespace, duration_s: int, num_videos: int, folder: Path) -> Cost:
    """Of one job."""
    num_clips = NUM_CLIPS if duration_s <= CLIP.duration_s else NUM_CLIPS // 4  # of the long ones encoding takes long
    lengthened = [replace(CLIP, name="", duration_s=duration_s, first=2 * number) for number in range(num_clips)]
    clips = [make_clip(clip, arguments.archive, arguments.clips) for clip in lengthened]
    manifest = repeat([clips[n % len(clips)].resolve() for n in range(num_videos)], 1, folder / "archive")
    output = folder / "features"
    command = [sys.executable, str(ROOT / "jobs/extract.py"), "--manifest", manifest, "--output", str(output)]
    flags = ["--backbone", arguments.backbone, "--weights", arguments.weights]
    started = time.perf_counter()
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with Watch(process.pid, interval_s=1.0, memory=True) as watch:
        said = process.communicate()[0]
    wall_s = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"the job ended with {process.returncode}:\n{said}")
    check(output, num_videos)
    return Cost(cpu_s=watch.cpu_s.total(), wall_s=wall_s, peak_bytes=watch.peak_pss_bytes)


if __name__ == "__main__":
    main()
