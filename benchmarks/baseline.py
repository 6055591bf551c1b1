"""The reference system's way to embed an archive, written from its description, to compare with.

    python benchmarks/baseline.py MANIFEST OUTPUT [--backbone resnet50] [--weights random]

One video after another: OpenCV is set to the position of each of 73 uniform frames and reads it, the frame
goes to RGB and through PIL and torchvision's transform, the CNN takes 24 frames at a time in fp32, and in
the end everything is in one HDF5 file. Both libraries use as many threads as they like.
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
from vidclf.backbones.weights import load_weights

NUM_FRAMES = 73
BATCH_SIZE = 24


class PerFrame:
    """torchvision's transform of one frame, as its documentation has it, and the eager network."""

    def __init__(self, name: str, weights: str) -> None:
        state = load_weights(name, weights)
        self.network = cnn.build(name, weights, state, "cpu").trunk.to(memory_format=torch.contiguous_format)
        prepared = preprocessing(name, weights)
        how = prepared.transform
        self.transform = transforms.Compose(
            [
                transforms.Resize(how.resize_size, transforms.InterpolationMode(how.interpolation)),
                transforms.CenterCrop(how.crop_size),
                transforms.ToTensor(),
                transforms.Normalize(prepared.mean, prepared.std),
            ]
        )

    @torch.inference_mode()
    def __call__(self, frames: list[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Features [T, D] of RGB frames."""
        prepared = [self.transform(Image.fromarray(frame)) for frame in frames]
        batches = [prepared[start : start + BATCH_SIZE] for start in range(0, len(prepared), BATCH_SIZE)]
        return np.concatenate([self.network(torch.stack(batch)).numpy() for batch in batches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("output")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="random")
    arguments = parser.parse_args()
    embed = PerFrame(arguments.backbone, arguments.weights)
    uris = storage.read_table(arguments.manifest, ["video_uri"])["video_uri"].to_pylist()
    features = [embed(seek_frames(uri)) for uri in uris]
    Path(arguments.output).mkdir()
    with h5py.File(Path(arguments.output) / "features.h5", "w") as file:
        file.create_dataset("features", data=np.stack(features), compression="gzip", compression_opts=4)


def seek_frames(path: str) -> list[npt.NDArray[Any]]:
    capture = cv2.VideoCapture(path)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for number in np.linspace(0, count - 1, NUM_FRAMES).astype(int).tolist():
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        is_read, frame = capture.read()
        if not is_read:
            raise SystemExit(f"{path}: OpenCV does not give frame {number} of {count}")
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames


if __name__ == "__main__":
    main()
