"""Cosine similarity between clips and altered copies of them, and between clips of different sources (recordings).

    python benchmarks/near_duplicates.py --features DIR [--clips 3] [--backbone efficientnet_lite0]

The script takes `--clips` clips of each sublabel and encodes four altered copies of each with libx264:

- without the first and last tenth of the frames;
- the first half of the frames only;
- cropped by a twentieth at each side, with CRF 28 (constant rate factor: higher means lower quality);
- half the width and height, with CRF 36.

It extracts the features of the copies with the settings of the originals: `--features` must have been made with
`--backbone` and the defaults of `jobs/extract.py` (73 frames). Then it compares videos by the cosine of their mean
features (mean over the frames).

The output is two tables. In the first, the mean of the originals is subtracted from all mean features, as in
`vidclf/training/leakage.py` ("centred"); in the second the mean features are unchanged ("as they are"). Each row is a
group of video pairs. Columns: number of pairs, quantiles of their cosines, and number of pairs at or above each
threshold. The default of `--near-duplicate-cosine` was chosen from these tables.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from vidclf.features.feature_set import FeatureSet, read_features

ROOT = Path(__file__).resolve().parents[1]
THRESHOLDS = (0.9, 0.93, 0.95, 0.97, 0.98)
Frames = list[npt.NDArray[np.uint8]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--features", required=True, help="features directory of an archive whose video files still exist"
    )
    parser.add_argument("--clips", type=int, default=3, help="number of clips per sublabel that are copied")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="backbone (CNN) of the features")
    arguments = parser.parse_args()
    originals = read_features(arguments.features)
    with tempfile.TemporaryDirectory() as work:
        copies = copies_of(originals, arguments, Path(work))
    print(describe("torch", "av"))
    report(originals, copies)


def copies_of(originals: FeatureSet, arguments: argparse.Namespace, work: Path) -> FeatureSet:
    """Encode the altered copies in `work` and extract their features.

    Returns a FeatureSet in which the sublabel of a copy names its alteration and the group is the index of its
    original in `originals`, as text. Exits with an error if `originals` were made with other settings.
    """
    by_kind = defaultdict(list)
    for index, (label, sublabel) in enumerate(zip(originals.labels, originals.sublabels, strict=True)):
        by_kind[label, sublabel].append(index)
    generator = np.random.default_rng(0)
    rows = []
    for members in by_kind.values():
        for index in generator.permutation(members)[: arguments.clips]:
            for kind, path in write_copies(originals.video_uris[index], work / str(index)):
                rows.append({"path": path, "label": "copy", "sublabel": kind, "group": str(index)})
    with (work / "copies.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    run("index", "--input", work / "copies.csv", "--output", work / "copies.parquet", "--split", "none")
    run(
        *("extract", "--manifest", work / "copies.parquet", "--output", work / "features"),
        *("--backbone", arguments.backbone),
    )
    copies = read_features(str(work / "features"))
    different = copies.spec.differences(originals.spec)
    if different:
        raise SystemExit(f"--features must be made with the defaults of jobs/extract.py: {different}")
    return copies


def run(job: str, *arguments: Any) -> None:
    """Run the script `jobs/JOB.py` with these arguments; its output goes to standard error."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


def write_copies(video: str, directory: Path) -> Iterator[tuple[str, Path]]:
    """Encode the four altered copies of one video into `directory` (created here); yield the name of the alteration and
    the path of each copy."""
    directory.mkdir()
    with av.open(video) as container:
        frames: Frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate = container.streams.video[0].average_rate or 25
    height, width = frames[0].shape[:2]
    tenth, top, left = len(frames) // 10, height // 20, width // 20
    cropped = [frame[top : height - top, left : width - left] for frame in frames]
    for kind, shown, crf, scale in (
        ("trimmed", frames[tenth : len(frames) - tenth], 23, 1),
        ("first half", frames[: max(1, len(frames) // 2)], 23, 1),
        ("cropped", cropped, 28, 1),
        ("small and of low quality", frames, 36, 2),
    ):
        path = directory / f"{kind.replace(' ', '-')}.mp4"
        write(path, shown, rate, crf, scale)
        yield kind, path


def write(path: Path, frames: Frames, rate: Any, crf: int, scale: int) -> None:
    """Encode RGB frames as an H.264 file at `path`, with width and height divided by `scale`."""
    height, width = (side // scale // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def report(originals: FeatureSet, copies: FeatureSet) -> None:
    """Print one table for centred and one for unchanged mean features: quantiles of the cosines per group of video
    pairs, and numbers of pairs at or above each threshold."""
    means_ND, copies_ND = (
        np.stack([video_TD.mean(axis=0, dtype=np.float32) for video_TD in features.features])
        for features in (originals, copies)
    )
    original_of_copy = np.array([int(group) for group in copies.groups])
    first, second = np.triu_indices(len(means_ND), 1)
    groups, labels = np.array(originals.groups), np.array(originals.labels)
    same = groups[first] == groups[second]
    same_label = labels[first] == labels[second]
    for title, centre_D in (("centred", means_ND.mean(axis=0)), ("as they are", np.zeros_like(means_ND[0]))):
        unit_ND, unit_copies_ND = (unit(rows - centre_D) for rows in (means_ND, copies_ND))
        to_original = np.einsum("nd,nd->n", unit_copies_ND, unit_ND[original_of_copy])
        between = (unit_ND @ unit_ND.T)[first, second]
        rows = {
            f"a clip and its copy, {kind}": to_original[[sublabel == kind for sublabel in copies.sublabels]]
            for kind in sorted({str(kind) for kind in copies.sublabels})
        }
        rows["two clips of one source"] = between[same]
        rows["of different sources, one class"] = between[~same & same_label]
        rows["of different classes"] = between[~same_label]
        heads = ["pairs", "lowest", "5 %", "median", "95 %", "highest", *[f"≥ {t}" for t in THRESHOLDS]]
        print(f"\n| {title} | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
        for name, cosines in rows.items():
            quantiles = [f"{value:.2f}" for value in np.quantile(cosines, (0, 0.05, 0.5, 0.95, 1))]
            counts = [str(int((cosines >= threshold).sum())) for threshold in THRESHOLDS]
            print(f"| {name} | {' | '.join([str(len(cosines)), *quantiles, *counts])} |")


def unit(rows_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The rows scaled to length 1; rows of zeros stay zero."""
    lengths_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    unit_ND: npt.NDArray[np.float32] = rows_ND / np.maximum(lengths_N, np.finfo(np.float32).tiny)
    return unit_ND


if __name__ == "__main__":
    main()
