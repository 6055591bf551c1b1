"""Share of frames that skip the CNN because they repeat an earlier frame, and the effect of a tolerance on features.

    python benchmarks/repeats.py --archive DIR [--every 1] [--tolerances 0,0.5,1,2]

A frame that differs from an earlier one by no more than a tolerance (`--repeat-tolerance` of `jobs/extract.py`, in grey
levels) takes the features of the earlier frame instead of going through the CNN. The script samples clips as
`jobs/extract.py` does (73 frames, uniformly) and computes the features of all frames with EfficientNet-Lite0 in fp32.

The output is a table with one row per tolerance. Columns: for each class, the percentage of frames that skip the CNN;
then the cosine between the features that such frames take and their own features, as the mean and the 1 % quantile
("1 % lie below"). The mean features of all frames are subtracted before the cosine.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf.archive.manifest import list_archive
from vidclf.backbones import openvino_engine, weights
from vidclf.backbones.catalog import preprocessing
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.repeated_frames import distinct
from vidclf.backbones.resolve import resolve
from vidclf.video.decode import decode_video
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

LITE0 = ("efficientnet_lite0", "DEFAULT")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ROOT / "examples" / "archive", help="videos with labels")
    parser.add_argument("--every", type=int, default=1, help="N: use every Nth clip only")
    parser.add_argument("--tolerances", default="0,0.5,1,2", help="tolerances in grey levels, separated by commas")
    arguments = parser.parse_args()
    tolerances = [float(word) for word in arguments.tolerances.split(",")]
    cnn = openvino_engine.load(convert(resolve(*LITE0), weights.load_weights(*LITE0)), *LITE0, "fp32")
    transform = preprocessing(*LITE0).transform
    rows = list_archive(str(arguments.archive)).manifest.to_pylist()[:: arguments.every]
    own: list[npt.NDArray[np.float32]] = []
    labels: list[str] = []
    places: dict[float, list[npt.NDArray[np.intp]]] = defaultdict(list)
    for row in rows:
        try:
            video = decode_video(row["video_uri"], SamplingPlan(num_frames=73), transform, row["video_id"])
        except VideoRejected as rejected:
            print(f"{row['video_uri']}: {rejected}", file=sys.stderr)
            continue
        frames_THWC = video.frames_THWC.reshape(-1, transform.crop_size, transform.crop_size, 3)
        own.append(cnn(frames_THWC))
        labels.append(row["label"])
        for tolerance in tolerances:
            firsts_U, place_T = distinct(frames_THWC, [len(frames_THWC)], tolerance)
            places[tolerance].append(firsts_U[place_T])
    print(describe("openvino", "av"), "\n")
    print(f"{len(own)} videos, {sum(map(len, own))} frames; frames that skip the CNN, in %\n")
    report(own, labels, places)


def report(
    own: list[npt.NDArray[np.float32]], labels: list[str], places: dict[float, list[npt.NDArray[np.intp]]]
) -> None:
    """Print the table.

    `own` are the features of each video, `labels` its class. `places[tolerance]` has one array per video, which gives
    for each frame the index of the frame whose features it takes.
    """
    classes = sorted(set(labels))
    centre_D = np.concatenate(own).mean(axis=0)
    print(f"| tolerance | {' | '.join(classes)} | cosine of these frames: mean | 1 % lie below |")
    print(f"|---|{'---|' * (len(classes) + 2)}")
    for tolerance, taken in places.items():
        shares = []
        for name in classes:
            chosen = [place_T for place_T, label in zip(taken, labels, strict=True) if label == name]
            moved = sum(int((place_T != np.arange(len(place_T))).sum()) for place_T in chosen)
            shares.append(100 * moved / sum(map(len, chosen)))
        cosines = np.concatenate(
            [
                _cosines(features_TD[place_T] - centre_D, features_TD - centre_D)[place_T != np.arange(len(place_T))]
                for features_TD, place_T in zip(own, taken, strict=True)
            ]
        )
        cosine_cells = f"{cosines.mean():.4f} | {np.quantile(cosines, 0.01):.4f}" if len(cosines) else "– | –"
        print(f"| {tolerance:g} | {' | '.join(f'{share:.0f}' for share in shares)} | {cosine_cells} |")


def _cosines(a_TD: npt.NDArray[np.float32], b_TD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cosine between the features of each frame in `a_TD` and in `b_TD`, as an array over the frames."""
    norms_T = np.linalg.norm(a_TD, axis=1) * np.linalg.norm(b_TD, axis=1)
    cosines_T: npt.NDArray[np.float32] = (a_TD * b_TD).sum(axis=1) / norms_T
    return cosines_T


if __name__ == "__main__":
    main()
