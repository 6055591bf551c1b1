"""Speed of the pipeline of `jobs/extract.py` on the GPU of this machine.

    python benchmarks/gpu/pipeline.py synthetic|quarters|decoding --results results.jsonl [--small]

- `synthetic`: the decode workers return noise instead of decoding, so the CNN limits the speed. It shows how busy the
  GPU is;
- `quarters`: the same with four CNN workers, each on a quarter of the GPU;
- `decoding`: videos of 30 s (640×360, H.264) are really decoded. The result `cores_per_gpu` is the number of CPU cores
  that decode fast enough to keep the GPU busy.

Rates (videos and frames per second) leave out the start of the job: they count from the moment when 5 % of the videos
are done. `busy_share` is the share of time in which the workers of each stage were busy, `gpu_busy` that of the GPU.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import ray

from benchmarks.gpu import results
from benchmarks.gpu.results import GpuWatch
from benchmarks.scaling import manifest_of
from tests.support.videos import write_video
from vidclf import ray_cluster, storage
from vidclf import tally as tally_module
from vidclf.archive.manifest import list_archive
from vidclf.config import ExtractConfig
from vidclf.pipeline import decode_stage, extract, graph
from vidclf.pipeline.pools import pool_sizes
from vidclf.video.decoded_video import DecodedVideo, FileFingerprint

SIDE = 224
DISTINCT = 16
"""Number of different videos that are written; the archive lists each under several names."""


class InstantDecoder:
    """Substitute for `SupervisedDecoder` that returns frames of noise at once, other ones for each video."""

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames
        self._noise = np.random.default_rng(os.getpid()).integers(0, 256, (num_frames, SIDE * SIDE * 3), np.uint8)
        self._count = 0

    def decode(self, uri: str, seed: str) -> DecodedVideo:
        # All frames must differ, because the pipeline computes features of repeated frames only once.
        marks = np.arange(self._num_frames, dtype=np.int64) + self._count * self._num_frames
        self._noise[:, :8] = marks.view(np.uint8).reshape(-1, 8)
        self._count += 1
        return DecodedVideo(
            frames_THWC=self._noise,
            is_black=np.zeros(self._num_frames, np.bool_),
            pts_s=np.arange(self._num_frames, dtype=np.float64),
            duration_s=float(self._num_frames),
            width=SIDE,
            height=SIDE,
            sample_aspect_ratio=None,
            framerate=1.0,
            video_codec="none",
            content=FileFingerprint(size_bytes=0, modified=None, digest=f"none:{uri}"),
        )


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("mode", choices=("synthetic", "quarters", "decoding"), help="measurement to run, see above")
    arguments = parser.parse_args()
    is_small = arguments.small
    if is_small:
        ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    num_frames = 4 if is_small else 73
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if arguments.mode == "decoding":
            manifest = archive(Path(folder) / "archive", is_small)
        else:
            manifest = manifest_of(8 if is_small else 1500, "/none")
            without_decoding(num_frames)
        path = Path(folder) / "manifest.parquet"
        storage.publish_table(str(path), manifest)
        config = ExtractConfig(
            manifest=str(path),
            output=str(Path(folder) / "features"),
            backbone=("efficientnet_lite0" if is_small else "resnet50",),
            weights=("random",),
            num_frames=num_frames,
            gpus_per_cnn_worker=0.25 if arguments.mode == "quarters" else None,
        )
        with GpuWatch() as watch, Progress() as progress:
            summaries = extract.extract(config, manifest)
        assert summaries is not None
        (summary,) = summaries.values()
    assert summary["num_ok"] == manifest.num_rows, summary
    busy = summary["busy_share"]
    resources = ray_cluster.resources_of(ray.cluster_resources(), None)
    pools = pool_sizes(config, resources)
    rate = progress.rate(manifest.num_rows)
    figures: dict[str, Any] = {
        "videos_per_s": round(rate, 2),
        "frames_per_s": round(rate * num_frames, 1),
        "busy_share": busy,
        "decode_workers": pools.decode_workers,
        "cnn_workers": pools.cnn_workers,
        "engines": summary["cnn_engines"],
        **watch.figures(),
    }
    if arguments.mode == "decoding":
        # From the cost per video of both stages; so it does not matter which of them limits the speed.
        worker_s = summary["worker_s"]
        figures["cores_per_gpu"] = round(worker_s["decode"] / worker_s["cnn"] * pools.cnn_workers, 1)
    results.add(arguments.results, f"extract_{arguments.mode}", **figures)


class Progress:
    """Records how many videos a job has finished, over time, while the body runs; asks its tally actor (a counter)."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []
        self._ended = threading.Event()

    def __enter__(self) -> Progress:
        watch = tally_module.watch

        def watched(tally: Any, *arguments: Any) -> Any:
            threading.Thread(target=self._poll, args=(tally,), daemon=True).start()
            return watch(tally, *arguments)

        vars(graph)["watch"] = watched
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def _poll(self, tally: Any) -> None:
        while not self._ended.wait(0.2):
            self._seen.append((time.monotonic(), ray.get(tally.read.remote()).get("done", 0)))

    def rate(self, num_videos: int) -> float:
        """Videos per second, from the moment when 5 % of the videos were done until the last one was."""
        begun = [(at, done) for at, done in self._seen if done >= max(1, 0.05 * num_videos)]
        ended = [(at, done) for at, done in begun if done >= num_videos] or begun[-1:]
        (first_at, first), (last_at, last) = begun[0], ended[0]
        return (last - first) / (last_at - first_at) if last_at > first_at else float("nan")


def without_decoding(num_frames: int) -> None:
    """Replace the decoder of the pipeline by `InstantDecoder`."""

    class DecodeVideos(decode_stage.DecodeVideos):
        def __init__(self, **values: Any) -> None:
            super().__init__(**values)
            self._decoder = InstantDecoder(num_frames)  # type: ignore[assignment]

    vars(graph)["DecodeVideos"] = DecodeVideos


def archive(root: Path, is_small: bool) -> pa.Table:
    """Write videos to `root` and return their manifest (table of videos)."""
    root.mkdir()
    distinct, copies, num_frames = (2, 2, 30) if is_small else (DISTINCT, 40, 750)
    with ProcessPoolExecutor() as pool:
        list(pool.map(write, [root / f"v{number}-0.mp4" for number in range(distinct)], [num_frames] * distinct))
    for number in range(distinct):
        for copy in range(1, copies):
            (root / f"v{number}-{copy}.mp4").symlink_to(root / f"v{number}-0.mp4")
    return list_archive(str(root), labelled=False).manifest


def write(path: Path, num_frames: int) -> None:
    """Write a test video of noise with `num_frames` frames, as H.264 with 640×360 pixels."""
    write_video(path, num_frames, fps=25, size=(640, 360), gop=250, b_frames=2, noise=True)


if __name__ == "__main__":
    main()
