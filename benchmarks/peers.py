"""Three scripts that users might write instead of using vidclf, in the style of the tools' own documentation.

    python benchmarks/peers.py ray-data|daft|feature-scripts MANIFEST OUTPUT [--backbone resnet50]

Each script extracts features of the videos listed in MANIFEST (a Parquet file with a column `video_uri`) into the new
directory OUTPUT. The first argument chooses the script:

- `ray-data`: follows Ray Data's guide to batch inference. A function decodes a video with PyAV and keeps 73 frames;
  `map_batches` runs one actor per core that holds the torch network; the output is Parquet.
- `daft`: uses Daft's expression for video frames, sampled at even intervals, and a class as a user-defined function;
  the output is Parquet. Needs `pip install daft`.
- `feature-scripts`: follows common collections of feature extraction scripts. OpenCV reads the whole video and keeps 73
  frames; each frame goes through PIL and torchvision's transform and an eager torch network in fp32; the output is one
  `.npy` file per video.

The script prints nothing. `benchmarks/end_to_end.py` runs it and measures its time.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.baseline import NUM_FRAMES, PerFrame

SIDE = 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=WAYS, help="script to run")
    parser.add_argument("manifest", help="Parquet file with a column video_uri")
    parser.add_argument("output", help="new directory for the features")
    parser.add_argument("--backbone", default="resnet50", help="name of the CNN")
    parser.add_argument("--weights", default="random", help="weights of the CNN; 'random' needs no download")
    arguments = parser.parse_args()
    Path(arguments.output).mkdir()
    WAYS[arguments.way](arguments.manifest, arguments.output, arguments.backbone, arguments.weights)


def ray_data(manifest: str, output: str, name: str, weights: str) -> None:
    """Extract features with a Ray Data pipeline (backbone `name`)."""
    import ray

    ray.init(include_dashboard=False, log_to_driver=False)
    num_workers = os.cpu_count() or 1
    videos = ray.data.read_parquet(manifest, columns=["video_uri"], override_num_blocks=4 * num_workers)
    videos = videos.map(decode_whole, num_cpus=0.5)
    videos = videos.map_batches(
        EmbedBatch,
        fn_constructor_args=(name, weights),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=num_workers),
        num_cpus=0.4,
    )
    videos.write_parquet(output)


def decode_whole(row: dict[str, Any]) -> dict[str, Any]:
    """Decode all frames of the video of a manifest row; return the row with `NUM_FRAMES` frames at even intervals."""
    import av

    with av.open(row["video_uri"]) as container:
        stream = container.streams.video[0]
        wanted = set(np.linspace(0, stream.frames - 1, NUM_FRAMES).astype(int).tolist())
        frames = [frame.to_ndarray(format="rgb24") for n, frame in enumerate(container.decode(stream)) if n in wanted]
    return {"video_uri": row["video_uri"], "frames": np.stack(frames)}


class EmbedBatch:
    """Ray Data actor that computes the features of each video in a batch."""

    def __init__(self, name: str, weights: str) -> None:
        self._embed = PerFrame(name, weights)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        features = [self._embed(list(frames)) for frames in batch["frames"]]
        return {"video_uri": batch["video_uri"], "features": np.stack(features)}


def daft(manifest: str, output: str, name: str, weights: str) -> None:
    """Extract features with Daft (backbone `name`). All videos are sampled at the interval that gives `NUM_FRAMES`
    frames of the first one."""
    import daft as library
    import torch
    from daft.functions import video_file, video_frames

    from vidclf.backbones import cnn
    from vidclf.backbones.resolve import resolve
    from vidclf.backbones.weights import load_weights

    @library.cls
    class Embed:
        """Daft's user-defined function that computes the features of frames."""

        def __init__(self) -> None:
            state = load_weights(name, weights)
            self.network = cnn.build(resolve(name, weights), state, "cpu")

        @library.method.batch(  # type: ignore[untyped-decorator]
            return_dtype=library.DataType.list(library.DataType.float32()), batch_size=24
        )
        def embed(self, images: Any) -> Any:
            """Features of a batch of frames, as a Daft series of lists."""
            with torch.inference_mode():
                frames_THWC = torch.from_numpy(np.stack(images.to_pylist()))
                return library.Series.from_pylist(self.network(frames_THWC).numpy().tolist())

    videos = library.read_parquet(manifest).select("video_uri")
    interval_s = duration_s(videos.limit(1).to_pydict()["video_uri"][0]) / NUM_FRAMES
    # The expression `video_frames` is used because `read_video_frames` of Daft 0.7.26 never returns for local files.
    frames = video_frames(
        video_file(library.col("video_uri")), width=SIDE, height=SIDE, sample_interval_seconds=interval_s
    )
    rows = videos.with_column("frame", frames).explode("frame")
    rows = rows.with_column("features", Embed().embed(library.col("frame")["data"]))
    rows.select("video_uri", library.col("frame")["frame_time"], "features").write_parquet(output)


def duration_s(path: str) -> float:
    """Duration of a video in seconds, from its container."""
    import av

    with av.open(path) as container:
        return float(container.duration / av.time_base)


def feature_scripts(manifest: str, output: str, name: str, weights: str) -> None:
    """Extract features with OpenCV and an eager torch network (backbone `name`), one video after another."""
    import cv2
    import pyarrow.parquet as pq

    embed = PerFrame(name, weights)
    for number, uri in enumerate(pq.read_table(manifest, columns=["video_uri"])["video_uri"].to_pylist()):
        capture = cv2.VideoCapture(uri)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = set(np.linspace(0, count - 1, NUM_FRAMES).astype(int).tolist())
        frames = []
        for index in range(count):
            if not capture.grab():
                break
            if index in wanted:
                frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
        np.save(Path(output) / f"{number}.npy", embed(frames))


WAYS = {"ray-data": ray_data, "daft": daft, "feature-scripts": feature_scripts}
"""Function of each script, by its name on the command line."""

if __name__ == "__main__":
    main()
