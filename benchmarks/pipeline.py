"""The Ray pipeline against a plain loop over processes that does the same work on the same videos.

    python benchmarks/pipeline.py --archive DIR [--videos 60] [--rounds 3] [--backbone efficientnet_lite0]
    python benchmarks/pipeline.py --archive DIR --clip-seconds 60 --videos 16 --backbone resnet50 --weights random

The pipeline is `jobs/extract.py` with its default pools, in a process tree of its own. The loop has
one process a core, each with one torch thread: take the next video from a queue, `decode_video`, the
CNN on its frames, keep the features; in the end they go to Parquet. It has no supervision, no
quarantine, no shards and no resuming, so it is what the cores can do at best. Both run with the same
malloc settings.

Each runs over N and over 2N videos (the second half are the same clips under other names), in turn;
figures are medians over the rounds. With `--clip-seconds` the videos are eight of 640×360 at 30 frames/s, cut
together from the archive's. Steady is N / (t(2N) - t(N)): whatever a run costs once, starting
and stopping, falls out of it, however the two overlap it with work. CPU seconds are the same difference.
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
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive")
    parser.add_argument("--videos", type=int, default=60, help="N: the runs are over N and 2N videos")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which the median is taken")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="DEFAULT", help="as for extract; 'random' needs no network")
    parser.add_argument("--num-frames", type=int, default=73)
    parser.add_argument("--clip-seconds", type=int, help="clips of that length (default: the archive's)")
    parser.add_argument("--clips", type=Path, default=Path("benchmark_clips"), help="where these are kept")
    parser.add_argument("--loop", nargs=2, metavar=("MANIFEST", "OUTPUT"), help="only the loop, as main() runs it")
    arguments = parser.parse_args()
    if arguments.loop:
        loop(*arguments.loop, arguments.backbone, arguments.weights, arguments.num_frames)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
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
    # Evenly over the archive, so that every class has its share of them.
    clips = [clips[number * len(clips) // arguments.videos % len(clips)] for number in range(arguments.videos)]
    seconds: dict[tuple[str, int], list[float]] = {}
    cpu: dict[tuple[str, int], list[Counter[str]]] = {}
    print(describe("ray", "openvino", "av", "pyarrow"), "\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifests = {times: repeat(clips, times, folder / f"archive{times}") for times in (1, 2)}
        for number in range(arguments.rounds):
            for times, manifest in manifests.items():
                for way, command in {
                    "Ray": [str(ROOT / "jobs/extract.py"), "--manifest", manifest, "--output"],
                    "loop": [__file__, "--loop", manifest],
                }.items():
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


def run(command: list[str]) -> tuple[float, Counter[str]]:
    """Wall-clock seconds of a script from start to exit, and CPU seconds of its processes by kind."""
    from vidclf.ray_cluster import CPU_WORKER_ENV

    # Ray's workers get these from the job; the loop's processes inherit them.
    environment = {**os.environ, **CPU_WORKER_ENV} if "--loop" in command else dict(os.environ)
    environment.pop("RAY_ADDRESS", None)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with Watch(process.pid) as watch:
        said = process.communicate()[0]
    taken_s = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return taken_s, watch.cpu_s


def check(output: Path, num_videos: int) -> None:
    """Both did the whole work."""
    import pyarrow.parquet as pq

    found = sum(pq.read_metadata(path).num_rows for path in output.glob("part-*.parquet"))
    if found != num_videos:
        raise SystemExit(f"{output} holds features of {found} videos, not of {num_videos}")


def report(
    num_videos: int, seconds: dict[tuple[str, int], list[float]], cpu: dict[tuple[str, int], list[Counter[str]]]
) -> None:
    median = {key: statistics.median(values) for key, values in seconds.items()}
    steady = {way: num_videos / (median[way, 2] - median[way, 1]) for way in ("Ray", "loop")}
    whole = {way: 2 * num_videos / median[way, 2] for way in ("Ray", "loop")}
    start_s = {way: 2 * median[way, 1] - median[way, 2] for way in ("Ray", "loop")}
    print("| | Ray | loop | Ray / loop |\n|---|---|---|---|")
    for name, of in (("steady, videos/s", steady), (f"{2 * num_videos} videos with start-up, videos/s", whole)):
        print(f"| {name} | {of['Ray']:.3f} | {of['loop']:.3f} | {of['Ray'] / of['loop']:.2f} |")
    print(f"| what a run costs once, s | {start_s['Ray']:.1f} | {start_s['loop']:.1f} | |")
    print(f"\nSpread of the rounds: {spread(seconds)}\n")
    per_video = {
        way: {
            kind: (_median_cpu(cpu[way, 2], kind) - _median_cpu(cpu[way, 1], kind)) / num_videos
            for kind in sorted({kind for counts in cpu[way, 2] for kind in counts})
        }
        for way in ("Ray", "loop")
    }
    loop_total = sum(per_video["loop"].values())
    print("| CPU seconds a video, start-up left out | | share of the loop's |\n|---|---|---|")
    print(f"| loop | {loop_total:.3f} | 1.00 |")
    print(f"| Ray | {sum(per_video['Ray'].values()):.3f} | {sum(per_video['Ray'].values()) / loop_total:.2f} |")
    for kind, spent in sorted(per_video["Ray"].items(), key=lambda item: -item[1]):
        print(f"| – {kind} | {spent:.3f} | {spent / loop_total:.3f} |")


def spread(seconds: dict[tuple[str, int], list[float]]) -> str:
    return "; ".join(f"{way} ×{times} {min(v):.1f} to {max(v):.1f} s" for (way, times), v in seconds.items())


def _median_cpu(rounds: list[Counter[str]], kind: str) -> float:
    return statistics.median(counts[kind] for counts in rounds)


def loop(manifest: str, output: str, name: str, weights: str, num_frames: int) -> None:
    """The peer: a queue of videos, one process a core, features to one Parquet file."""
    import pyarrow as pa

    from vidclf import storage
    from vidclf.backbones.openvino_convert import convert
    from vidclf.backbones.weights import load_weights
    from vidclf.features.columns import features_column

    network = convert(name, weights, load_weights(name, weights))

    spawn = multiprocessing.get_context("spawn")
    todo: Any = spawn.Queue()
    done: Any = spawn.Queue()
    uris = storage.read_table(manifest, ["video_uri"])["video_uri"].to_pylist()
    num_workers = os.cpu_count() or 1
    for item in [*uris, *[None] * num_workers]:
        todo.put(item)
    given = (todo, done, network, name, weights, num_frames)
    workers = [spawn.Process(target=decode_and_embed, args=given) for _ in range(num_workers)]
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
    """One process of the loop."""
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
