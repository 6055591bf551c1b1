"""CNN features of an archive, computed as the older system does it. A comparison for the speed of vidclf.

    python benchmarks/baseline.py MANIFEST OUTPUT [--backbone resnet50] [--weights random]

The older system is the one whose checkpoints and HDF5 files vidclf reads; this script was written from its description.
It processes one video after the other:

1. OpenCV seeks to each of 73 uniformly spaced frames and reads it.
2. The frame is converted to RGB, then prepared with PIL and the transform of torchvision.
3. The CNN computes features in float32, 24 frames per batch.

At the end the features of all videos are written to one HDF5 file, `OUTPUT/features.h5`. The numbers of threads of
OpenCV and torch are not limited. Nothing is printed; `end_to_end.py` and `peers.py` run or import this script.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import h5py
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision import transforms

from vidclf import storage
from vidclf.backbones import cnn
from vidclf.backbones.catalog import preprocessing
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights

NUM_FRAMES = 73
BATCH_SIZE = 24


class PerFrame:
    """The transform of torchvision, applied to one frame at a time, and the CNN in eager mode (not compiled)."""

    def __init__(self, name: str, weights: str) -> None:
        state = load_weights(name, weights)
        self.network = cnn.build(resolve(name, weights), state, "cpu").trunk.to(memory_format=torch.contiguous_format)
        prepared = preprocessing(name, weights)
        resize_and_crop = prepared.transform
        self.transform = transforms.Compose(
            [
                transforms.Resize(
                    resize_and_crop.resize_size, transforms.InterpolationMode(resize_and_crop.interpolation)
                ),
                transforms.CenterCrop(resize_and_crop.crop_size),
                transforms.ToTensor(),
                transforms.Normalize(prepared.mean, prepared.std),
            ]
        )

    @torch.inference_mode()
    def __call__(self, frames: list[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Array of features [T frames, D dimensions] of a list of RGB frames."""
        prepared = [self.transform(Image.fromarray(frame)) for frame in frames]
        batches = [prepared[start : start + BATCH_SIZE] for start in range(0, len(prepared), BATCH_SIZE)]
        return np.concatenate([self.network(torch.stack(batch)).numpy() for batch in batches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="manifest (table of videos) to read")
    parser.add_argument("output", help="directory to create for features.h5")
    parser.add_argument("--backbone", default="resnet50", help="name of the CNN")
    parser.add_argument("--weights", default="random", help="weights of the CNN, as for jobs/extract.py")
    arguments = parser.parse_args()
    embed = PerFrame(arguments.backbone, arguments.weights)
    uris = storage.read_table(arguments.manifest, ["video_uri"])["video_uri"].to_pylist()
    features = [embed(seek_frames(uri)) for uri in uris]
    Path(arguments.output).mkdir()
    with h5py.File(Path(arguments.output) / "features.h5", "w") as file:
        file.create_dataset("features", data=np.stack(features), compression="gzip", compression_opts=4)


def seek_frames(path: str) -> list[npt.NDArray[Any]]:
    """The 73 uniformly spaced RGB frames of a video, each read after seeking to it."""
    capture = cv2.VideoCapture(path)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for number in np.linspace(0, count - 1, NUM_FRAMES).astype(int).tolist():
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        is_read, frame = capture.read()
        if not is_read:
            raise SystemExit(f"{path}: OpenCV cannot read frame {number} of {count}")
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames


if __name__ == "__main__":
    main()
