"""How near altered copies of a clip are to it, and how near clips of different sources are to each other.

    python benchmarks/near_duplicates.py --features DIR [--clips 3] [--backbone efficientnet_lite0]

Some of each sublabel's clips are written again with libx264: cut by a tenth at each end, only the first
half, cropped by a twentieth at each side (CRF 28), and at half the width and height with CRF 36. The
copies' features are extracted as the originals' were (`--features`, of `--backbone` and 73 frames), and the
cosines of mean features counted, centred by the mean of the originals as `vidclf/training/leakage.py` does,
and as they are. This is what the default of `--near-duplicate-cosine` rests on.
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
    parser.add_argument("--features", required=True, help="features of an archive whose clips are still there")
    parser.add_argument("--clips", type=int, default=3, help="clips of each sublabel that are copied")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    arguments = parser.parse_args()
    originals = read_features(arguments.features)
    with tempfile.TemporaryDirectory() as work:
        copies = copies_of(originals, arguments, Path(work))
    print(describe("torch", "av"))
    report(originals, copies)


def copies_of(originals: FeatureSet, arguments: argparse.Namespace, work: Path) -> FeatureSet:
    """Features of the copies; `sublabels` say how each was altered, `groups` what it is a copy of."""
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
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


def write_copies(video: str, directory: Path) -> Iterator[tuple[str, Path]]:
    """Write each copy of a clip; its kind and its path."""
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
    height, width = (side // scale // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def report(originals: FeatureSet, copies: FeatureSet) -> None:
    """A table for centred means and one for means as they are: quantiles, and shares above thresholds."""
    means_ND, copies_ND = (
        np.stack([video_TD.mean(axis=0, dtype=np.float32) for video_TD in features.features])
        for features in (originals, copies)
    )
    of = np.array([int(group) for group in copies.groups])
    first, second = np.triu_indices(len(means_ND), 1)
    groups, labels = np.array(originals.groups), np.array(originals.labels)
    same = groups[first] == groups[second]
    same_label = labels[first] == labels[second]
    for title, centre_D in (("centred", means_ND.mean(axis=0)), ("as they are", np.zeros_like(means_ND[0]))):
        unit_ND, unit_copies_ND = (unit(rows - centre_D) for rows in (means_ND, copies_ND))
        to_original = np.einsum("nd,nd->n", unit_copies_ND, unit_ND[of])
        between = (unit_ND @ unit_ND.T)[first, second]
        rows = {
            f"a clip and its copy, {kind}": to_original[[own == kind for own in copies.sublabels]]
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
    lengths_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return rows_ND / np.maximum(lengths_N, np.finfo(np.float32).tiny)


if __name__ == "__main__":
    main()
