"""Speed of the extraction pipeline (on Ray) compared with a plain loop over processes that does the same work.

    python benchmarks/pipeline.py --archive DIR [--videos 60] [--rounds 3] [--backbone efficientnet_lite0]
    python benchmarks/pipeline.py --archive DIR --clip-seconds 60 --videos 16 --backbone resnet50 --weights random
    python benchmarks/pipeline.py --archive DIR --clip-seconds 5 --videos 200 --before CHECKOUT_OF_ANOTHER_BUILD

The pipeline is `jobs/extract.py` with its default worker pools. The loop has one process per core with one torch thread
each. A process takes the next video from a queue, decodes it with `decode_video`, runs the CNN on the frames and
returns the features; at the end all features are written to one Parquet file. The loop does not restart crashed
decoders, list rejected videos, write shards or resume, so its speed is the best that the cores can reach. Both use the
same malloc settings.

Pipeline and loop take turns. In each round both process N and then 2N videos (the second N are the same clips under
other names); the figures are medians over the rounds. With `--clip-seconds`, the videos are eight clips of that length
(640×360, 30 frames/s) assembled from videos of the archive. With `--before`, the pipeline of another build of vidclf
takes the place of the loop.

Rows of the first table:

- steady: N / (t(2N) - t(N)) videos per second, where t is the wall time of a run. The difference removes the fixed cost
  of a run (starting and stopping), even where that overlaps with work;
- 2N videos with start-up: 2N / t(2N) videos per second;
- what a run costs once: 2 t(N) - t(2N), the fixed cost in seconds, and the same of the CPU seconds.

The second table has the CPU seconds per video, also from the difference of the two run lengths, in total and by kind of
process (named in `benchmarks/processes.py`). Its last column is the ratio to the total of the loop.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.decode import Clip, make_clip
from benchmarks.machine import describe
from benchmarks.processes import Watch
from benchmarks.repeated import clips_of, repeat

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive", help="directory of videos")
    parser.add_argument("--videos", type=int, default=60, help="N; each round has a run over N and one over 2N videos")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the figures are medians over them")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="name of the CNN")
    parser.add_argument(
        "--weights", default="DEFAULT", help="like --weights of jobs/extract.py; 'random' needs no download"
    )
    parser.add_argument("--num-frames", type=int, default=73, help="frames sampled per video")
    parser.add_argument(
        "--clip-seconds", type=int, help="length of assembled clips (default: use the archive's videos)"
    )
    parser.add_argument(
        "--clips", type=Path, default=Path("benchmark_clips"), help="directory in which assembled clips are kept"
    )
    parser.add_argument("--before", type=Path, help="checkout of another build to compare with, instead of the loop")
    parser.add_argument("--loop", nargs=2, metavar=("MANIFEST", "OUTPUT"), help="internal: run only the plain loop")
    arguments = parser.parse_args()
    if arguments.loop:
        manifest, output = arguments.loop
        loop(manifest, output, arguments.backbone, arguments.weights, arguments.num_frames)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Time pipeline and loop in turn over N and 2N videos, check their outputs and print the report."""
    flags = [
        f"--backbone={arguments.backbone}",
        f"--weights={arguments.weights}",
        f"--num-frames={arguments.num_frames}",
    ]
    if arguments.clip_seconds is None:
        clips = clips_of(arguments.archive)
    else:
        lengthened = [Clip(name="", duration_s=arguments.clip_seconds, size=(640, 360), first=2 * n) for n in range(8)]
        clips = [make_clip(clip, arguments.archive, arguments.clips).resolve() for clip in lengthened]
    # At even intervals over the sorted archive, so that all classes are represented.
    clips = [clips[number * len(clips) // arguments.videos % len(clips)] for number in range(arguments.videos)]
    seconds: dict[tuple[str, int], list[float]] = {}
    cpu: dict[tuple[str, int], list[Counter[str]]] = {}
    print(describe("ray", "openvino", "av", "pyarrow"), "\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifests = {times: repeat(clips, times, folder / f"archive{times}") for times in (1, 2)}
        for number in range(arguments.rounds):
            for times, manifest in manifests.items():
                for way, command in ways(arguments.before, manifest).items():
                    output = folder / f"{way}{times}-{number}"
                    taken_s, cpu_s = run([*command, str(output), *flags])
                    check(output, arguments.videos * times)
                    seconds.setdefault((way, times), []).append(taken_s)
                    cpu.setdefault((way, times), []).append(cpu_s)
                    print(
                        f"round {number}: {way}, {arguments.videos * times} videos: {taken_s:.1f} s, "
                        f"{cpu_s.total():.1f} CPU s",
                        file=sys.stderr,
                    )
    report(arguments.videos, seconds, cpu)


def ways(before: Path | None, manifest: str) -> dict[str, list[str]]:
    """Commands to compare, by the name of their column, without their outputs."""
    if before is None:
        return {
            "Ray": [str(ROOT / "jobs/extract.py"), "--manifest", manifest, "--output"],
            "loop": [__file__, "--loop", manifest],
        }
    builds = {"now": ROOT, "before": before.resolve()}
    return {
        name: [str(checkout / "jobs/extract.py"), "--manifest", manifest, "--output"]
        for name, checkout in builds.items()
    }


def run(command: list[str]) -> tuple[float, Counter[str]]:
    """Run a Python script with its arguments; return its wall-clock seconds from start to exit, and the CPU seconds of
    its processes by kind. Exits with an error if the script fails."""
    from vidclf.ray_cluster import CPU_WORKER_ENV

    # `jobs/extract.py` sets these variables for Ray's workers; the processes of the loop inherit them from here.
    environment = {**os.environ, **CPU_WORKER_ENV} if "--loop" in command else dict(os.environ)
    environment["RAY_ADDRESS"] = "local"
    checkout = Path(command[0]).resolve().parents[1]
    environment["PYTHONPATH"] = str(checkout)  # a shared environment may hold the package of another checkout
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        cwd=None if checkout == ROOT else checkout,  # workers of an earlier build find their package there
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Watch(process.pid) as watch:
        printed = process.communicate()[0]
    taken_s = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit status {process.returncode}:\n{printed}")
    return taken_s, watch.cpu_s


def check(output: Path, num_videos: int) -> None:
    """Exit with an error unless the feature files in `output` have `num_videos` rows in total."""
    import pyarrow.parquet as pq

    found = sum(pq.read_metadata(path).num_rows for path in output.glob("part-*.parquet"))
    if found != num_videos:
        raise SystemExit(f"{output} has features of {found} videos instead of {num_videos}")


def report(
    num_videos: int, seconds: dict[tuple[str, int], list[float]], cpu: dict[tuple[str, int], list[Counter[str]]]
) -> None:
    """Print both tables. The keys of `seconds` (wall time) and `cpu` (CPU seconds by kind of process) are a name of
    `ways`, and 1 or 2 for runs over N or 2N videos; the values have one entry per round."""
    one, other = dict.fromkeys(way for way, _ in seconds)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    median_cpu = {key: statistics.median(counts.total() for counts in values) for key, values in cpu.items()}
    steady = {way: num_videos / (median[way, 2] - median[way, 1]) for way in (one, other)}
    whole = {way: 2 * num_videos / median[way, 2] for way in (one, other)}
    start_s, start_cpu_s = ({way: 2 * of[way, 1] - of[way, 2] for way in (one, other)} for of in (median, median_cpu))
    print(f"| | {one} | {other} | {one} / {other} |\n|---|---|---|---|")
    for name, rates in (("steady, videos/s", steady), (f"{2 * num_videos} videos with start-up, videos/s", whole)):
        print(f"| {name} | {rates[one]:.3f} | {rates[other]:.3f} | {rates[one] / rates[other]:.2f} |")
    for name, once in (("what a run costs once, s", start_s), ("what a run costs once, CPU s", start_cpu_s)):
        print(f"| {name} | {once[one]:.1f} | {once[other]:.1f} | {once[one] / once[other]:.2f} |")
    print(f"\nLowest and highest wall time over the rounds: {spread(seconds)}\n")
    per_video = {
        way: {
            kind: (_median_cpu(cpu[way, 2], kind) - _median_cpu(cpu[way, 1], kind)) / num_videos
            for kind in sorted({kind for counts in cpu[way, 2] for kind in counts})
        }
        for way in (one, other)
    }
    other_total = sum(per_video[other].values())
    print(f"| CPU seconds a video, start-up left out | | share of {other} |\n|---|---|---|")
    for way, kinds in per_video.items():
        print(f"| {way} | {sum(kinds.values()):.4f} | {sum(kinds.values()) / other_total:.3f} |")
        for kind, spent in sorted(kinds.items(), key=lambda item: -item[1]) if way != "loop" else ():
            print(f"| – {kind} | {spent:.4f} | {spent / other_total:.3f} |")


def spread(seconds: dict[tuple[str, int], list[float]]) -> str:
    """Text with the lowest and highest wall time of each kind of run."""
    return "; ".join(f"{way} ×{times} {min(v):.1f} to {max(v):.1f} s" for (way, times), v in seconds.items())


def _median_cpu(rounds: list[Counter[str]], kind: str) -> float:
    """Median over the rounds of the CPU seconds that processes of one kind used."""
    return statistics.median(counts[kind] for counts in rounds)


def loop(manifest: str, output: str, name: str, weights: str, num_frames: int) -> None:
    """The plain loop that the pipeline is compared with: extract features of the manifest's videos with one process per
    core and write them to one Parquet file in the new directory `output`."""
    import pyarrow as pa

    from vidclf import storage
    from vidclf.backbones.openvino_convert import convert
    from vidclf.backbones.resolve import resolve
    from vidclf.backbones.weights import load_weights
    from vidclf.features.columns import features_column

    network = convert(resolve(name, weights), load_weights(name, weights))

    spawn = multiprocessing.get_context("spawn")
    todo: Any = spawn.Queue()
    done: Any = spawn.Queue()
    uris = storage.read_table(manifest, ["video_uri"])["video_uri"].to_pylist()
    num_workers = os.cpu_count() or 1
    for item in [*uris, *[None] * num_workers]:
        todo.put(item)
    worker_arguments = (todo, done, network, name, weights, num_frames)
    workers = [spawn.Process(target=decode_and_embed, args=worker_arguments) for _ in range(num_workers)]
    for worker in workers:
        worker.start()
    rows = [done.get() for _ in uris]
    for worker in workers:
        worker.join()
    table = pa.table(
        {
            "video_uri": [uri for uri, _, _ in rows],
            "features": features_column([features for _, features, _ in rows], rows[0][1].shape[1]),
            "pts_s": [pts_s for _, _, pts_s in rows],
        }
    )
    Path(output).mkdir()
    storage.publish_table(f"{output}/part-0.parquet", table)


def decode_and_embed(todo: Any, done: Any, network: Any, name: str, weights: str, num_frames: int) -> None:
    """Work of one process of the plain loop: decode videos from the queue `todo` until it gives None, and put location,
    features and frame times of each video into the queue `done`."""
    import numpy as np
    import torch

    from vidclf.backbones import openvino_engine
    from vidclf.backbones.catalog import preprocessing
    from vidclf.video.decode import decode_video
    from vidclf.video.sampling import SamplingPlan

    torch.set_num_threads(1)
    cnn = openvino_engine.load(network, name, weights, "auto")
    transform = preprocessing(name, weights).transform
    plan = SamplingPlan(num_frames=num_frames)
    while (uri := todo.get()) is not None:
        video = decode_video(uri, plan, transform)
        features_TD = cnn(video.frames_THWC).astype(np.float16)
        done.put((uri, features_TD, video.pts_s))


if __name__ == "__main__":
    main()
