"""CPU seconds per short video of the classes that the workers run, against `c513142`, without Ray.

    python benchmarks/short_videos.py --archive DIR --before CHECKOUT_OF_c513142 [--clip-seconds 5] [--rounds 3]

Eight clips (640×360, 30 frames/s) are made from videos of the archive. Each build runs in a process of its own, by
turns: it decodes the clips in the supervised child process, 73 frames each, and computes their features with
EfficientNet-Lite0, four videos at a time, as a worker of a pipeline does. A job over as many videos would mostly start.

Columns: CPU seconds per video of the worker (rows, quality measures, CNN, features) and of its decoder process, their
sum, and what the sum consists of that no change of rows or measures can take away: the network on the same frames, and
PyAV's decoder on the same packets without conversion of frames (the floor of `decode.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAME, WEIGHTS, VIDEOS_AT_ONCE = "efficientnet_lite0", "DEFAULT", 4


IGNORED = SimpleNamespace(add=SimpleNamespace(remote=lambda *reports: None))
"""Stands for the actor that counts finished work: its reports go nowhere."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive", help="directory of videos")
    parser.add_argument("--before", type=Path, required=True, help="checkout of c513142, whose classes this file knows")
    parser.add_argument("--clips", type=Path, default=Path("benchmark_clips"), help="where assembled clips are kept")
    parser.add_argument("--clip-seconds", type=int, default=5, help="length of the clips")
    parser.add_argument("--videos", type=int, default=40, help="videos per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which the builds take turns")
    parser.add_argument("--worker", nargs="+", metavar="CLIP", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measured(arguments.worker, arguments.videos)))
        return
    sys.path.insert(0, str(ROOT))
    from benchmarks import decode
    from benchmarks.machine import describe

    kinds = [
        decode.Clip(name="", duration_s=arguments.clip_seconds, size=(640, 360), first=2 * number)
        for number in range(8)
    ]
    clips = [str(decode.make_clip(kind, arguments.archive, arguments.clips).resolve()) for kind in kinds]
    print(describe("openvino", "av", "torch"), "\n", flush=True)
    builds = {"c513142": arguments.before.resolve(), "now": ROOT}
    found: dict[str, list[list[float]]] = {name: [] for name in builds}
    for _ in range(arguments.rounds):
        for name, checkout in builds.items():
            command = [sys.executable, __file__, "--before", ".", "--videos", str(arguments.videos), "--worker", *clips]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, check=True, text=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(name, found[name][-1], file=sys.stderr, flush=True)
    tasks = [decode.task_of(kind, Path(clip)) for kind, clip in zip(kinds, clips, strict=True)]
    floor_s = statistics.mean(min(decode.cpu_seconds("floor", task) for _ in range(3)) for task in tasks)
    print("| build | worker | decoder process | together | of before | of it the network | decoder on its packets |")
    print("|---|---|---|---|---|---|---|")
    totals = {}
    for name, rounds in found.items():
        worker_s, child_s, network_s = (statistics.median(values) for values in zip(*rounds, strict=True))
        totals[name] = statistics.median(worker + child for worker, child, _ in rounds)
        ratio = totals[name] / totals["c513142"]
        print(
            f"| {name} | {worker_s:.3f} | {child_s:.3f} | {totals[name]:.3f} | {ratio:.2f} | {network_s:.3f} | "
            f"{floor_s:.3f} |"
        )


def measured(clips: list[str], num_videos: int) -> tuple[float, float, float]:
    """CPU seconds per video of the worker, of its decoder process, and of the network alone."""
    try:
        import vidclf.pipeline.decode_stage  # noqa: F401
    except ImportError:
        rows_of, embed, network = classes_before(clips)
    else:
        rows_of, embed, network = classes_now(clips)
    import numpy as np
    import pyarrow as pa

    def work(number: int) -> None:
        waiting = []
        for turn in range(number):
            for row in rows_of(turn % len(clips)):
                waiting.append(row)
            if len(waiting) >= VIDEOS_AT_ONCE:
                embed(pa.concat_tables(waiting))
                waiting = []

    work(len(clips))
    child_before, before = child_cpu_s(), time.process_time()
    work(num_videos)
    worker_s, child_s = time.process_time() - before, child_cpu_s() - child_before
    frames_THWC = np.random.default_rng(0).integers(0, 256, (73 * VIDEOS_AT_ONCE, 224, 224, 3), np.uint8)
    before = time.process_time()
    for _ in range(num_videos // VIDEOS_AT_ONCE):
        network(frames_THWC)
    return worker_s / num_videos, child_s / num_videos, (time.process_time() - before) / num_videos


def classes_now(clips: list[str]) -> tuple[Callable[[int], Any], Callable[[Any], Any], Callable[[Any], Any]]:
    """Functions of this build: decoded rows of a clip by its number, features of rows, and the network."""
    from vidclf import schema
    from vidclf.backbones.openvino_cache import converted
    from vidclf.backbones.resolve import resolve
    from vidclf.backbones.weights import read_weights, weights_digest
    from vidclf.features.spec import FeatureSpec
    from vidclf.pipeline import engines
    from vidclf.pipeline.decode_stage import DecodeVideos
    from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
    from vidclf.pipeline.video_embedder import VideoEmbedder
    from vidclf.video.decoder_process import DecodeLimits
    from vidclf.video.sampling import SamplingPlan

    model, plan = resolve(NAME, WEIGHTS), SamplingPlan(num_frames=73)
    state = read_weights(model)
    spec = FeatureSpec.of_model(model, weights_digest(state), plan)
    setup = BackboneSetup(spec=spec, weights=WEIGHTS, state=state, model=model)
    job = PipelineJob(targets=(RunSpec(embeddings=(setup,), output_schema=schema.features(spec.feature_dim)),))
    engine = engines.load_engine(converted(engines.conversion_source(spec), model, state), model, "cpu", "auto")
    embedder = VideoEmbedder(job)
    embedder.load_models("cpu", lambda _: engine)
    decode = DecodeVideos(plan, job.transforms(), DecodeLimits(timeout_s=60, memory_bytes=2 * 1024**3), None)
    manifest = listed(schema.MANIFEST, clips)
    return (
        lambda number: decode(manifest.slice(number, 1)),
        lambda rows: embedder.rows(rows.drop_columns(schema.CARRIED)),
        engine.run,
    )


def classes_before(clips: list[str]) -> tuple[Callable[[int], Any], Callable[[Any], Any], Callable[[Any], Any]]:
    """The same functions of `c513142`."""
    from importlib import import_module

    names = ("schema", "features.backbone", "features.conversions", "features.embed", "features.run", "features.store")
    schema, backbone, conversions, embed, run, store = (import_module(f"vidclf.{name}") for name in names)
    worker, supervise, sampling = (
        import_module(f"vidclf.archive.{name}") for name in ("worker", "supervise", "sampling")
    )
    state, plan = backbone.load_weights(NAME, WEIGHTS), sampling.SamplingPlan(num_frames=73)
    spec = store.FeatureSpec.of(NAME, WEIGHTS, backbone.weights_digest(state), plan)
    embedding = run.Embedding(spec=spec, weights=WEIGHTS, state=state)
    target = run.Target(embeddings=(embedding,), output_schema=schema.features(spec.feature_dim))
    transforms = run.EmbeddingJob(targets=(target,)).transforms()
    engine = conversions.loaded(conversions.converted(spec, WEIGHTS, state), NAME, WEIGHTS, "cpu", "auto")
    cnn = embed._Cnn(embedding, engine, transforms)
    limits = supervise.DecodeLimits(timeout_s=60, memory_bytes=2 * 1024**3)
    decode = worker.DecodeVideos(plan, transforms, limits, IGNORED)
    manifest = listed(schema.MANIFEST, clips)
    return lambda number: decode(manifest.slice(number, 1)), cnn, engine.run


def listed(columns: Any, clips: list[str]) -> Any:
    """The manifest of the clips, with the columns of a build."""
    import pyarrow as pa

    values = [{"video_id": clip, "video_uri": clip, "group": clip, "size_bytes": 1} for clip in clips]
    return pa.table({column.name: [row.get(column.name) for row in values] for column in columns}, schema=columns)


def child_cpu_s() -> float:
    """CPU seconds so far of the children of this process, of which the decoder is the only one that works."""
    ticks = 0
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    for child in {child for file in children for child in file.read_text().split()}:
        fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
