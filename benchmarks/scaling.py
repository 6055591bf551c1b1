"""How the pipeline scales with decode workers, on a simulated cluster; and what that means for ten million videos.

    python benchmarks/scaling.py [--decode-workers 1,2,4,8,16,32,64] [--decode-seconds 1.0] [--cnn-seconds 0.125]

The pipeline is that of `jobs/extract.py` as it is: its graph, its manifest, its supervision of the run, its shards and
checkpoints. Only the decoder and the CNN are asleep, for as long as they were measured to take, so that one machine
can have the workers of many: `ray.cluster_utils.Cluster` with a head without CPUs and nodes of `--cpus-per-node`
logical ones. There is one CNN worker for as many decode workers as it keeps up with. Frames are `--num-frames` of 224²
(one by default: the memory traffic of 64 workers is not what this asks about). Blocks of the manifest are as large as
those of a large archive, although the simulation has few videos.

Steady rates count from when the last worker has done its first video to when the first has done its last, by the
workers' own clocks. Efficiency is that rate over what sleeping alone would allow. CPU seconds a video, over the same
time, are of this machine's cores: where all processes together want more than it has, it bends before the cluster
would, which the column `cores` shows. What is done once for the whole cluster (the driver, and the head's GCS) bounds
any cluster; the rest grows with the nodes.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

from benchmarks.machine import describe
from benchmarks.processes import KINDS, Watch
from vidclf import schema, storage
from vidclf.archive.manifest import video_id
from vidclf.backbones.agreement import Features, Frames
from vidclf.backbones.catalog import FEATURE_DIMS
from vidclf.backbones.engine import Engine
from vidclf.config import ExtractConfig
from vidclf.pipeline import decode_stage, embed_stage, extract, graph, pools
from vidclf.video.decoded_video import DecodedVideo, FileFingerprint

BACKBONE = "efficientnet_lite0"
SIDE = 224
NUM_VIDEOS = 10_000_000
ONCE = ("driver", "GCS")
"""Kinds of processes of which a cluster has one, whatever its size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode-workers", default="1,2,4,8,16,32,64")
    parser.add_argument("--decode-seconds", type=float, default=1.0, help="for a video, of a decode worker")
    parser.add_argument("--cnn-seconds", type=float, default=0.125, help="for a video, of a CNN worker")
    parser.add_argument("--videos-per-worker", type=int, default=128)
    parser.add_argument(
        "--videos-per-block", type=int, default=32, help="of the manifest; 32 is what an archive of 1,024 a worker has"
    )
    parser.add_argument("--cpus-per-node", type=int, default=16)
    parser.add_argument("--num-frames", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("WORKERS", "FOLDER"), help="one simulation, as main() runs it")
    arguments = parser.parse_args()
    if arguments.one:
        simulate(int(arguments.one[0]), Path(arguments.one[1]), arguments)
        return
    # The GCS is a kind of its own here.
    KINDS.update({"gcs_server": "GCS"})
    print(describe("ray", "pyarrow"), "\n", flush=True)
    print(
        "| decode workers | CNN workers | videos | videos/s | efficiency | start, s | cores | driver | GCS | others |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = [measure(int(number), arguments) for number in arguments.decode_workers.split(",")]
    extrapolate(rows, arguments)


def num_cnn_workers(num_decode_workers: int, arguments: argparse.Namespace) -> int:
    return max(1, math.ceil(num_decode_workers * arguments.cnn_seconds / arguments.decode_seconds))


def measure(num_workers: int, arguments: argparse.Namespace) -> dict[str, float]:
    """One simulation in a process of its own, watched from here; prints its row."""
    with tempfile.TemporaryDirectory() as folder:
        options = [
            f"--{name.replace('_', '-')}={getattr(arguments, name)}"
            for name in (
                *("decode_seconds", "cnn_seconds", "videos_per_worker", "videos_per_block", "cpus_per_node"),
                "num_frames",
            )
        ]
        # On loopback, and gone in a minute.
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        started = time.time()
        process = subprocess.Popen(
            [sys.executable, __file__, *options, "--one", str(num_workers), folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        history: list[tuple[float, Counter[str]]] = []
        # Seldom, because looking at a hundred processes takes the time of several videos.
        with Watch(process.pid, interval_s=2.0) as watch:
            while process.poll() is None:
                history.append((time.time(), Counter(watch.cpu_s)))
                time.sleep(1.0)
        assert process.stdout is not None
        if process.returncode:
            raise SystemExit(
                f"{num_workers} workers ended with {process.returncode}:\n{process.stdout.read().decode()}"
            )
        done = [[float(line) for line in path.read_text().split()] for path in Path(folder, "times").iterdir()]
    first, last = max(times[0] for times in done), min(times[-1] for times in done)
    if len(done) != num_workers or last <= first:
        raise SystemExit(f"{len(done)} of {num_workers} workers were never all at work; raise --videos-per-worker")
    num_steady = sum(first < one <= last for times in done for one in times)
    rate = num_steady / (last - first)
    spent = used_between(history, first, last)
    row = {
        "workers": num_workers,
        "rate": rate,
        "efficiency": rate * arguments.decode_seconds / num_workers,
        "driver_s": spent["driver"] / num_steady,
        "mib": watch.peak_rss_bytes / 2**20,
    }
    others = sum(seconds for kind, seconds in spent.items() if kind not in ONCE) / num_steady
    print(
        f"| {num_workers} | {num_cnn_workers(num_workers, arguments)} | {num_workers * arguments.videos_per_worker} | "
        f"{rate:.2f} | {row['efficiency']:.3f} | {first - started:.1f} | {spent.total() / (last - first):.2f} of "
        f"{os.cpu_count()} | {1000 * row['driver_s']:.1f} ms | {1000 * spent['GCS'] / num_steady:.1f} ms | "
        f"{1000 * others:.1f} ms |",
        flush=True,
    )
    return row


def used_between(history: list[tuple[float, Counter[str]]], first: float, last: float) -> Counter[str]:
    """CPU seconds by kind between two moments."""
    at_first, at_last = (min(history, key=lambda entry: abs(entry[0] - moment))[1] for moment in (first, last))
    return Counter({kind: at_last[kind] - at_first[kind] for kind in at_last})


def extrapolate(rows: list[dict[str, float]], arguments: argparse.Namespace) -> None:
    """A cluster's rate is what its workers do, at the efficiency of the largest simulation, up to what the driver
    can keep up with on one core: it wants some of that at rest, and some for each video (a line through the rows)."""
    largest = max(rows, key=lambda row: row["workers"])
    rates, cores = [row["rate"] for row in rows], [row["driver_s"] * row["rate"] for row in rows]
    video_s, rest = np.polyfit(rates, cores, 1) if len(rows) > 1 else (largest["driver_s"], 0.0)
    ceiling = (1 - rest) / video_s
    nodes_at_ceiling = ceiling * arguments.decode_seconds / arguments.cpus_per_node
    print(
        f"\nThe driver, one thread, takes {rest:.2f} of a core at rest and {1000 * video_s:.2f} ms more a video: "
        f"{ceiling:.0f} videos/s at most, which {nodes_at_ceiling:.0f} nodes of {arguments.cpus_per_node} CPUs have at "
        f"{arguments.decode_seconds:g} s a video. Its peak memory was {largest['mib']:.0f} MiB.\n"
    )
    manifest_bytes = bytes_a_row() * NUM_VIDEOS
    shards = math.ceil(NUM_VIDEOS / ExtractConfig(manifest="", output="").rows_per_shard)
    print(f"{NUM_VIDEOS} videos: a manifest of {manifest_bytes / 2**30:.1f} GiB in memory, {shards} shards, and\n")
    print(f"| nodes of {arguments.cpus_per_node} CPUs | videos/s | days | blocks of the manifest | bound by |")
    print("|---|---|---|---|---|")
    for nodes in (1, 2, 4, 8, 16, 32, 64):
        workers = nodes * arguments.cpus_per_node
        possible = workers / arguments.decode_seconds * largest["efficiency"]
        rate = min(possible, ceiling)
        bound = "decode workers" if possible <= ceiling else "driver"
        blocks = pools.block_count(NUM_VIDEOS, workers)
        print(f"| {nodes} | {rate:.1f} | {NUM_VIDEOS / rate / 86400:.2f} | {blocks} | {bound} |")


def bytes_a_row() -> float:
    """Of a manifest in memory, with locations of 80 characters."""
    return manifest_of(1000, "s3://bucket/" + "x" * 55).nbytes / 1000


def manifest_of(num_videos: int, prefix: str) -> pa.Table:
    """A manifest of videos that nobody opens."""
    uris = [f"{prefix}/{number:08}.mp4" for number in range(num_videos)]
    columns = {
        schema.VIDEO_ID: [video_id(uri) for uri in uris],
        "video_uri": uris,
        "group": uris,
    }
    nothing = pa.nulls(num_videos)
    return pa.table(
        [pa.array(columns[f.name]) if f.name in columns else nothing.cast(f.type) for f in schema.MANIFEST],
        schema=schema.MANIFEST,
    )


# The simulation.


class AsleepDecoder:
    """Takes the place of `SupervisedDecoder`, and writes down when it was done with each video."""

    def __init__(self, seconds: float, num_frames: int, folder: str) -> None:
        self._seconds, self._num_frames = seconds, num_frames
        self._path = Path(folder) / f"{os.getpid()}.txt"
        self._done: list[float] = []

    def decode(self, uri: str, seed: str) -> DecodedVideo:
        time.sleep(self._seconds)
        frames_THWC = np.zeros((self._num_frames, SIDE, SIDE, 3), np.uint8)
        # Frames that are all different, because the CNN sees one that repeats once.
        marks = np.arange(self._num_frames, dtype=np.int64) + len(self._done) * self._num_frames
        frames_THWC.reshape(self._num_frames, -1)[:, :8] = marks.view(np.uint8).reshape(-1, 8)
        self._done.append(time.time())
        with self._path.open("a") as log:
            log.write(f"{self._done[-1]}\n")
        return DecodedVideo(
            frames_THWC=frames_THWC.reshape(self._num_frames, -1),
            is_black=np.zeros(self._num_frames, np.bool_),
            pts_s=np.arange(self._num_frames, dtype=np.float64),
            duration_s=float(self._num_frames),
            width=SIDE,
            height=SIDE,
            framerate=1.0,
            video_codec="asleep",
            content=FileFingerprint(size_bytes=0, modified=None, digest=f"asleep:{uri}"),
        )


def simulate(num_workers: int, folder: Path, arguments: argparse.Namespace) -> None:
    """The pipeline on a cluster of its own, with workers that sleep."""
    import ray
    from ray.cluster_utils import Cluster

    times = folder / "times"
    times.mkdir()
    num_cnn = num_cnn_workers(num_workers, arguments)
    decode_s, num_frames = arguments.decode_seconds, arguments.num_frames
    frame_s = arguments.cnn_seconds / num_frames
    feature_dim = FEATURE_DIMS[BACKBONE]

    # Of the names that the pipeline's own have, so that whoever watches knows them.
    class DecodeVideos(decode_stage.DecodeVideos):
        def __init__(self, **values: Any) -> None:
            super().__init__(**values)
            self._decoder = AsleepDecoder(decode_s, num_frames, str(times))

    def embed_asleep(frames_THWC: Frames) -> Features:
        time.sleep(frame_s * len(frames_THWC))
        return np.zeros((len(frames_THWC), feature_dim), np.float32)

    class EmbedVideos(graph.EmbedVideos):
        def __init__(self, **values: Any) -> None:
            embed_stage.load_engine = lambda *_: Engine(name="asleep", run=embed_asleep)
            super().__init__(**values)

    graph.DecodeVideos = DecodeVideos
    graph.EmbedVideos = EmbedVideos
    pools.VIDEOS_PER_BLOCK = (arguments.videos_per_block,) * 2
    graph.put_engine_source = lambda embedding, num_gpus, tally: ray.put({})

    manifest = folder / "manifest.parquet"
    storage.publish_table(str(manifest), manifest_of(num_workers * arguments.videos_per_worker, "/asleep"))
    num_cpus = num_workers + num_cnn + 1
    store = {"object_store_memory": 512 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
    for _ in range(math.ceil(num_cpus / arguments.cpus_per_node)):
        cluster.add_node(num_cpus=arguments.cpus_per_node, **store)
    os.environ["RAY_ADDRESS"] = cluster.address
    config = ExtractConfig(
        manifest=str(manifest),
        output=str(folder / "features"),
        backbone=(BACKBONE,),
        weights=("random",),
        num_frames=num_frames,
        decode_workers=num_workers,
        cnn_workers=num_cnn,
    )
    extract.extract(config, storage.read_table(str(manifest)))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
