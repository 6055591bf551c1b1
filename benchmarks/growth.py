"""Cost per video of `jobs/extract.py` in small and large archives, and for short and long videos.

    python benchmarks/growth.py --archive DIR [--videos 100,500,2000] [--durations 10,60,240,600] [--rounds 3,1,1]

The videos are concatenated from those of the archive (640×360, 30 frames/s, H.264) and listed under as many names as a
job needs. Two measurements, with one table each:

- Archive size: videos of 60 s. A job over only `--base` videos gives the cost of start and end. It is subtracted from
  the jobs over `--base` plus 100, 500, ... videos (`--videos`). The remaining cost is divided by the number of
  additional videos. The column "of the first" is the CPU time relative to the first of these numbers.
- Duration: one row per length (`--durations`). The cost per video is the difference between a job over all
  `--videos-per-duration` videos and a job over half of them, divided by half their number.

Both tables have CPU seconds and elapsed seconds per video, and the peak memory of all processes of the job in MiB. The
memory is the sum of proportional set sizes (PSS), in which a page that several processes share counts once.
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
    """CPU time, elapsed time and peak memory (PSS) of one job."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--archive",
        type=Path,
        default=ROOT / "examples" / "archive",
        help="archive of videos to make the test videos from",
    )
    parser.add_argument(
        "--clips",
        type=Path,
        default=Path("benchmark_clips"),
        help="directory in which the test videos are stored and reused",
    )
    parser.add_argument("--backbone", default="efficientnet_lite0", help="name of the CNN")
    parser.add_argument(
        "--weights", default="random", help="weights of the CNN, as for jobs/extract.py; random needs no download"
    )
    parser.add_argument("--base", type=int, default=20, help="number of videos in the job whose cost is subtracted")
    parser.add_argument(
        "--videos",
        default="100,500,2000",
        help="numbers of additional videos, one job each, comma-separated; empty: no such job",
    )
    parser.add_argument(
        "--rounds",
        default="3,1,1",
        help="repetitions per entry of --videos; the job over --base videos repeats as often as the first",
    )
    parser.add_argument(
        "--durations", default="10,60,240,600", help="lengths of the videos in seconds, comma-separated; empty: none"
    )
    parser.add_argument(
        "--videos-per-duration",
        default="192,96,48,32",
        help="number of videos per entry of --durations, comma-separated",
    )
    arguments = parser.parse_args()
    print(describe("ray", "openvino", "av"), "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.videos:
            with_size(arguments, Path(folder))
        if arguments.durations:
            with_duration(arguments, Path(folder))


def with_size(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure and print the cost per video by size of the archive."""
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
    """Measure and print the cost per video by duration of the videos."""
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
    """Costs of `runs` less the median times of `base`; the memory stays unchanged."""
    cpu_s, wall_s = statistics.median(b.cpu_s for b in base), statistics.median(b.wall_s for b in base)
    return [replace(run, cpu_s=run.cpu_s - cpu_s, wall_s=run.wall_s - wall_s) for run in runs]


def cost(arguments: argparse.Namespace, duration_s: int, num_videos: int, folder: Path) -> Cost:
    """Cost of one job over `num_videos` videos of `duration_s` seconds; exits if the job fails."""
    # Fewer long clips, because encoding them takes long.
    num_clips = NUM_CLIPS if duration_s <= CLIP.duration_s else NUM_CLIPS // 4
    clip_specs = [replace(CLIP, name="", duration_s=duration_s, first=2 * number) for number in range(num_clips)]
    clips = [make_clip(clip, arguments.archive, arguments.clips) for clip in clip_specs]
    manifest = repeat([clips[n % len(clips)].resolve() for n in range(num_videos)], 1, folder / "archive")
    output = folder / "features"
    command = [sys.executable, str(ROOT / "jobs/extract.py"), "--manifest", manifest, "--output", str(output)]
    flags = ["--backbone", arguments.backbone, "--weights", arguments.weights]
    started = time.perf_counter()
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with Watch(process.pid, interval_s=1.0, memory=True) as watch:
        job_output = process.communicate()[0]
    wall_s = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"the job ended with exit code {process.returncode}:\n{job_output}")
    check(output, num_videos)
    return Cost(cpu_s=watch.cpu_s.total(), wall_s=wall_s, peak_bytes=watch.peak_pss_bytes)


if __name__ == "__main__":
    main()
