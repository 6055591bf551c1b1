"""Whether sharpening the frames of blurry videos pays (`classify --sharpen-blurry`).

    python benchmarks/blurry.py --archive DIR --features DIR [--seeds 0,1] [--sigmas 2,5] [--members 4] ...

For each seed the features are split by source and an ensemble is trained. The test clips are blurred (a
Gaussian of `--sigmas` pixels at a height of 360), encoded again as H.264, and classified as they are,
sharpened, and by the more trusted of both where they are flagged blurry, as the job does it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import describe
from benchmarks.trust import split, train
from vidclf.archive.manifest import read_manifest
from vidclf.backbones import cnn
from vidclf.backbones.weights import load_weights
from vidclf.config import FitConfig
from vidclf.features.feature_set import read_features
from vidclf.features.spec import read_weights_location
from vidclf.runs.layout import Run
from vidclf.video import frame_quality
from vidclf.video.decode import decode_video

HEIGHT = 360


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--features", required=True)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--sigmas", default="2,5")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--hidden-dim", type=int, default=128)
    parser.add_argument("--num-lstm-layers", type=int, default=2)
    parser.add_argument("--num-attention-heads", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    features, weights = read_features(arguments.features), read_weights_location(arguments.features)
    manifest = read_manifest(Run(arguments.features).manifest_file)
    uri_of = dict(zip(manifest["video_id"].to_pylist(), manifest["video_uri"].to_pylist(), strict=True))
    names = ("hidden_dim", "num_lstm_layers", "num_attention_heads", "epochs")
    recipe = FitConfig(classifier_dims=(64,), patience=15, **{name: getattr(arguments, name) for name in names})
    network = cnn.build(features.spec.backbone, weights, load_weights(features.spec.backbone, weights), "cpu")
    print(describe("torch", "opencv-python-headless"), f"\n{len(features.labels)} videos; {recipe}\n")
    print("| seed | blur | videos | flagged blurry | untouched | blurred | sharpened | more trusted | replaced |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in map(int, arguments.seeds.split(",")):
        fresh = split(features, seed)
        with tempfile.TemporaryDirectory() as scratch:
            classifier = train(fresh, recipe, arguments.members, scratch)
        chosen = [index for index, name in enumerate(fresh.splits) if name == "test"]
        labels_B = np.array([classifier.info.classes.index(str(fresh.labels[index])) for index in chosen])
        untouched = classifier([[fresh.features[index] for index in chosen]]).probabilities_BC
        for sigma in map(float, arguments.sigmas.split(",")):
            as_is, sharp, flagged = [], [], []
            for index in chosen:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "blurred.mp4"
                    blur(uri_of[fresh.video_ids[index]], path, sigma)
                    video = decode_video(str(path), features.spec.plan, network.preprocessing.transform)
                frames_THWC = video.frames_THWC
                flagged.append(frame_quality.measure(frames_THWC).is_blurry(video.is_black))
                as_is.append(network(torch.from_numpy(frames_THWC)).numpy().astype(np.float16))
                sharp.append(network(torch.from_numpy(frame_quality.sharpened(frames_THWC))).numpy().astype(np.float16))
            outputs = [classifier([seen]) for seen in (as_is, sharp)]
            top = [output.probabilities_BC.argmax(axis=1) for output in outputs]
            is_replaced_B = np.array(flagged) & (outputs[1].trust_score_B > outputs[0].trust_score_B)
            kept_B = np.where(is_replaced_B, top[1], top[0])
            accuracies = [(found == labels_B).mean() for found in (untouched.argmax(axis=1), *top, kept_B)]
            print(
                f"| {seed} | {sigma:g} | {len(chosen)} | {sum(flagged)} | "
                + " | ".join(f"{accuracy:.3f}" for accuracy in accuracies)
                + f" | {is_replaced_B.sum()} |",
                flush=True,
            )


def blur(source: str, path: Path, sigma: float) -> None:
    """The video at `source` with every frame blurred, as H.264."""
    with av.open(source) as container, av.open(str(path), "w") as written:
        video = container.streams.video[0]
        stream = written.add_stream("libx264", rate=round(video.average_rate or 25))
        stream.width, stream.height, stream.pix_fmt = video.width // 2 * 2, video.height // 2 * 2, "yuv420p"
        stream.options = {"preset": "veryfast"}
        for number, frame in enumerate(container.decode(video)):
            image: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")[: stream.height, : stream.width]
            blurred = cv2.GaussianBlur(image, (0, 0), sigma * stream.height / HEIGHT)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(blurred), format="rgb24")
            picture.pts = number
            written.mux(stream.encode(picture))
        written.mux(stream.encode(None))


if __name__ == "__main__":
    main()
