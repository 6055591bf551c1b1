"""Accuracy on blurred videos with and without sharpening, the option `--sharpen-blurry` of `jobs/classify.py`.

    python benchmarks/blurry.py --archive DIR --features DIR [--seeds 0,1] [--sigmas 2,5] [--members 4] ...

For each seed the features are split by source (recording) and an ensemble is trained. The test videos are blurred with
a Gaussian, encoded again as H.264, and classified with and without sharpening. Columns of the printed table:

- seed: seed of the split; blur: standard deviation of the Gaussian in pixels of a frame 360 pixels high;
- videos: number of test videos; flagged blurry: how many of them the blur detector of vidclf reports;
- untouched, blurred, sharpened: accuracy on the original, the blurred, and the blurred and then sharpened videos;
- more trusted: accuracy of the rule that the job uses. A video flagged as blurry gets the sharpened result if that has
  the higher trust score (estimated probability of being right); all others keep the blurred result;
- replaced: number of videos for which this rule takes the sharpened result.
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
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import read_weights
from vidclf.config import FitConfig
from vidclf.features.feature_set import read_features
from vidclf.features.spec import read_weights_location
from vidclf.runs.layout import Run
from vidclf.video import frame_quality
from vidclf.video.decode import decode_video

HEIGHT = 360


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--archive", type=Path, required=True, help="archive of videos that the features were made from"
    )
    parser.add_argument("--features", required=True, help="output directory of jobs/extract.py")
    parser.add_argument("--seeds", default="0,1", help="seeds of the splits, comma-separated")
    parser.add_argument(
        "--sigmas", default="2,5", help="standard deviations of the blur in pixels at height 360, comma-separated"
    )
    parser.add_argument("--members", type=int, default=4, help="number of members of the ensemble")
    parser.add_argument("--hidden-dim", type=int, default=128, help="LSTM units per direction of a member")
    parser.add_argument("--num-lstm-layers", type=int, default=2, help="LSTM layers of a member")
    parser.add_argument("--num-attention-heads", type=int, default=4, help="attention heads of a member")
    parser.add_argument("--epochs", type=int, default=40, help="epochs of training, at most")
    arguments = parser.parse_args()
    features, weights = read_features(arguments.features), read_weights_location(arguments.features)
    manifest = read_manifest(Run(arguments.features).manifest_file)
    uri_of = dict(zip(manifest["video_id"].to_pylist(), manifest["video_uri"].to_pylist(), strict=True))
    names = ("hidden_dim", "num_lstm_layers", "num_attention_heads", "epochs")
    recipe = FitConfig(classifier_dims=(64,), patience=15, **{name: getattr(arguments, name) for name in names})
    model = resolve(features.spec.backbone, weights)
    network = cnn.build(model, read_weights(model), "cpu")
    print(describe("torch", "opencv-python-headless"), f"\n{len(features.labels)} videos; {recipe}\n")
    print("| seed | blur | videos | flagged blurry | untouched | blurred | sharpened | more trusted | replaced |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in map(int, arguments.seeds.split(",")):
        split_features = split(features, seed)
        with tempfile.TemporaryDirectory() as scratch:
            classifier = train(split_features, recipe, arguments.members, scratch)
        chosen = [index for index, name in enumerate(split_features.splits) if name == "test"]
        labels_B = np.array([classifier.info.classes.index(str(split_features.labels[index])) for index in chosen])
        untouched = classifier([[split_features.features[index] for index in chosen]]).probabilities_BC
        for sigma in map(float, arguments.sigmas.split(",")):
            blurred_features, sharpened_features, flagged = [], [], []
            for index in chosen:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "blurred.mp4"
                    blur(uri_of[split_features.video_ids[index]], path, sigma)
                    video = decode_video(str(path), features.spec.plan, model.preprocessing.transform)
                frames_THWC = video.frames_THWC
                flagged.append(frame_quality.measure(frames_THWC).is_blurry(video.is_black))
                blurred_features.append(network(torch.from_numpy(frames_THWC)).numpy().astype(np.float16))
                sharpened_features.append(
                    network(torch.from_numpy(frame_quality.sharpened(frames_THWC))).numpy().astype(np.float16)
                )
            outputs = [classifier([sequences]) for sequences in (blurred_features, sharpened_features)]
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
    """Write a copy of the video `source` to `path`, with every frame blurred, as H.264.

    `sigma` is the standard deviation of the blur in pixels of a frame 360 pixels high.
    """
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
