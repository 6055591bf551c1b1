"""Scaling of the extraction pipeline with decode workers on a simulated cluster, extrapolated to ten million videos.

    python benchmarks/scaling.py [--decode-workers 1,2,4,8,16,32,64] [--decode-seconds 1.0] [--cnn-seconds 0.125]

The script runs the real pipeline of `jobs/extract.py`: its graph, manifest, run supervision, shards and checkpoints.
Only the decoder and the CNN are replaced: they sleep for `--decode-seconds` and `--cnn-seconds` per video, which should
be measured values. Thus one machine can hold the workers of many nodes. The cluster is a `ray.cluster_utils.Cluster`: a
head node without CPUs, and nodes of `--cpus-per-node` logical CPUs. The number of CNN workers is the smallest that
keeps up with the decode workers. A video has `--num-frames` frames of 224×224 pixels; the default is one, because
memory traffic is not measured. Blocks of the manifest (rows read by one task) have the size that a large archive would
have.

The first table has one row per number of decode workers. Columns:

- videos/s: steady rate, counted from the moment when every worker has finished a video to the moment when the first
  worker finishes its last one;
- efficiency: that rate divided by the rate that the sleeping times alone would allow;
- start, s: seconds until every worker has finished a video;
- cores: CPU cores of this machine in use, of those that it has. If they are all in use, this machine is the limit, and
  a real cluster would be more efficient;
- driver, GCS, others: CPU milliseconds per video of the driver, of Ray's Global Control Service and of all other
  processes. A cluster has one driver and one GCS, so these limit a cluster of any size; the others grow with its nodes.

The second table is an extrapolation to ten million videos for clusters of 1 to 64 nodes: rate, days, number of blocks
of the manifest, and whether the decode workers or the driver limit the rate ("bound by").
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
"""Kinds of processes that exist once per cluster, regardless of its size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--decode-workers", default="1,2,4,8,16,32,64", help="numbers of decode workers, separated by commas"
    )
    parser.add_argument("--decode-seconds", type=float, default=1.0, help="time of a decode worker per video")
    parser.add_argument("--cnn-seconds", type=float, default=0.125, help="time of a CNN worker per video")
    parser.add_argument("--videos-per-worker", type=int, default=128, help="videos per decode worker")
    parser.add_argument(
        "--videos-per-block",
        type=int,
        default=32,
        help="rows per block of the manifest; 32 is the size for an archive of 1,024 videos per decode worker or more",
    )
    parser.add_argument("--cpus-per-node", type=int, default=16, help="logical CPUs of a simulated node")
    parser.add_argument("--num-frames", type=int, default=1, help="frames per video")
    parser.add_argument("--one", nargs=2, metavar=("WORKERS", "FOLDER"), help="internal: run one simulation")
    arguments = parser.parse_args()
    if arguments.one:
        simulate(int(arguments.one[0]), Path(arguments.one[1]), arguments)
        return
    # Count the GCS separately from the other Ray processes.
    KINDS.update({"gcs_server": "GCS"})
    print(describe("ray", "pyarrow"), "\n", flush=True)
    print(
        "| decode workers | CNN workers | videos | videos/s | efficiency | start, s | cores | driver | GCS | others |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = [measure(int(number), arguments) for number in arguments.decode_workers.split(",")]
    extrapolate(rows, arguments)


def num_cnn_workers(num_decode_workers: int, arguments: argparse.Namespace) -> int:
    """Smallest number of CNN workers that keeps up with the decode workers."""
    cnn_share: float = arguments.cnn_seconds / arguments.decode_seconds
    return max(1, math.ceil(num_decode_workers * cnn_share))


def measure(num_workers: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one simulation in a separate process and measure it from here. Prints the table row and returns the figures
    that `extrapolate` needs."""
    with tempfile.TemporaryDirectory() as folder:
        options = [
            f"--{name.replace('_', '-')}={getattr(arguments, name)}"
            for name in (
                *("decode_seconds", "cnn_seconds", "videos_per_worker", "videos_per_block", "cpus_per_node"),
                "num_frames",
            )
        ]
        # Without authentication: the cluster listens on loopback only, and ends within minutes.
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        started = time.time()
        process = subprocess.Popen(
            [sys.executable, __file__, *options, "--one", str(num_workers), folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        history: list[tuple[float, Counter[str]]] = []
        # A long interval, because one sample of a hundred processes costs as much CPU time as several videos.
        with Watch(process.pid, interval_s=2.0) as watch:
            while process.poll() is None:
                history.append((time.time(), Counter(watch.cpu_s)))
                time.sleep(1.0)
        assert process.stdout is not None
        if process.returncode:
            raise SystemExit(
                f"{num_workers} workers ended with exit status {process.returncode}:\n{process.stdout.read().decode()}"
            )
        done = [[float(line) for line in path.read_text().split()] for path in Path(folder, "times").iterdir()]
    first, last = max(times[0] for times in done), min(times[-1] for times in done)
    if len(done) != num_workers or last <= first:
        raise SystemExit(
            f"{len(done)} of {num_workers} workers worked, never all at the same time; raise --videos-per-worker"
        )
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
    """CPU seconds by kind of process between two moments, from the nearest entries of `history` (time and CPU seconds
    so far)."""
    at_first, at_last = (min(history, key=lambda entry: abs(entry[0] - moment))[1] for moment in (first, last))
    return Counter({kind: at_last[kind] - at_first[kind] for kind in at_last})


def extrapolate(rows: list[dict[str, float]], arguments: argparse.Namespace) -> None:
    """Print the rates of larger clusters for `NUM_VIDEOS` videos.

    The rate grows with the number of workers, at the efficiency of the largest simulation, up to the limit of the
    driver, which has one core. The share of that core that the driver needs is a straight line, fitted to `rows`: a
    constant, plus CPU time per video.
    """
    largest = max(rows, key=lambda row: row["workers"])
    rates, cores = [row["rate"] for row in rows], [row["driver_s"] * row["rate"] for row in rows]
    video_s, rest = np.polyfit(rates, cores, 1) if len(rows) > 1 else (largest["driver_s"], 0.0)
    ceiling = (1 - rest) / video_s
    nodes_at_ceiling = ceiling * arguments.decode_seconds / arguments.cpus_per_node
    print(
        f"\nThe driver, a single thread, takes {rest:.2f} of a core at rest and {1000 * video_s:.2f} ms per video: "
        f"at most {ceiling:.0f} videos/s, the rate of {nodes_at_ceiling:.0f} nodes of {arguments.cpus_per_node} CPUs "
        f"at {arguments.decode_seconds:g} s per video. Its peak memory was {largest['mib']:.0f} MiB.\n"
    )
    manifest_bytes = bytes_a_row() * NUM_VIDEOS
    shards = math.ceil(NUM_VIDEOS / ExtractConfig(manifest="", output="").rows_per_shard)
    print(f"{NUM_VIDEOS} videos: a manifest of {manifest_bytes / 2**30:.1f} GiB in memory, {shards} shards\n")
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
    """Memory size in bytes of one manifest row whose video location has about 80 characters."""
    return float(manifest_of(1000, "s3://bucket/" + "x" * 55).nbytes) / 1000


def manifest_of(num_videos: int, prefix: str) -> pa.Table:
    """A manifest of `num_videos` videos that do not exist, with locations that begin with `prefix`."""
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


# Code that runs in the process of one simulation.


class AsleepDecoder:
    """Replacement for `SupervisedDecoder` that sleeps and writes the time at which it finished each video to a file in
    `folder`."""

    def __init__(self, seconds: float, num_frames: int, folder: str) -> None:
        self._seconds, self._num_frames = seconds, num_frames
        self._path = Path(folder) / f"{os.getpid()}.txt"
        self._done: list[float] = []

    def decode(self, uri: str, seed: str) -> DecodedVideo:
        """Sleep, then return a made-up video."""
        time.sleep(self._seconds)
        frames_THWC = np.zeros((self._num_frames, SIDE, SIDE, 3), np.uint8)
        # All frames differ, because the CNN skips frames that repeat an earlier one.
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
            sample_aspect_ratio=None,
            framerate=1.0,
            video_codec="asleep",
            content=FileFingerprint(size_bytes=0, modified=None, digest=f"asleep:{uri}"),
        )


def simulate(num_workers: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Start a simulated cluster and run the pipeline on it, with a decoder and a CNN that sleep."""
    import ray
    from ray.cluster_utils import Cluster

    times = folder / "times"
    times.mkdir()
    num_cnn = num_cnn_workers(num_workers, arguments)
    decode_s, num_frames = arguments.decode_seconds, arguments.num_frames
    frame_s = arguments.cnn_seconds / num_frames
    feature_dim = FEATURE_DIMS[BACKBONE]

    # The classes have the names of the pipeline's own classes, by which `benchmarks/processes.py` recognises workers.
    class DecodeVideos(decode_stage.DecodeVideos):
        """Decode worker of the pipeline with a decoder that sleeps."""

        def __init__(self, **values: Any) -> None:
            super().__init__(**values)
            self._decoder = AsleepDecoder(decode_s, num_frames, str(times))  # type: ignore[assignment]

    def embed_asleep(frames_THWC: Frames) -> Features:
        """Sleep as long as the CNN would take for these frames; return features that are all zero."""
        time.sleep(frame_s * len(frames_THWC))
        return np.zeros((len(frames_THWC), feature_dim), np.float32)

    class EmbedVideos(embed_stage.EmbedVideos):
        """CNN worker of the pipeline with a CNN that sleeps."""

        def __init__(self, **values: Any) -> None:
            vars(embed_stage)["load_engine"] = lambda *_: Engine(name="asleep", run=embed_asleep)
            super().__init__(**values)

    # `graph` imports these names, so they are replaced there.
    vars(graph).update(
        DecodeVideos=DecodeVideos,
        EmbedVideos=EmbedVideos,
        put_engine_source=lambda embedding, num_gpus, tally: ray.put({}),
    )
    pools.VIDEOS_PER_BLOCK = (arguments.videos_per_block,) * 2

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
