"""Classification in stages beside one of a single pass, as whole jobs.

    python benchmarks/early.py --features DIR --ensemble DIR [--clips DIR] [--sources 24] [--rounds 2]

The videos are `--features`' test split, which the ensemble (`jobs/train.py --first-look`) has not seen, each shown over
and over for 60 s at 640×360, 30 frames/s, H.264, and listed under several names. `jobs/classify.py` runs over N and
over 2N of them with and without `--progressive`, in turn; what a video costs is the difference over N, so starting and
stopping fall out, though a job in stages starts two pipelines. What a job costs once is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow.parquet as pq

from benchmarks.decode import make_clip
from benchmarks.end_to_end import CLIP, ROOT
from benchmarks.machine import describe
from benchmarks.pipeline import run
from benchmarks.repeated import repeat
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.schema import Look

WAYS: dict[str, list[str]] = {"one pass": [], "in stages": ["--progressive"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True)
    parser.add_argument("--ensemble", required=True)
    parser.add_argument("--clips", type=Path, default=Path("benchmark_clips"), help="where the clips are kept")
    parser.add_argument("--sources", type=int, default=24, help="videos of the test split, at most")
    parser.add_argument("--times", type=int, default=4, help="names that each is listed under in the smaller job")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    features = read_features(arguments.features)
    tested = np.flatnonzero(np.array(features.splits) == "test")
    chosen = tested[np.linspace(0, len(tested) - 1, min(arguments.sources, len(tested))).astype(int)]
    clips = [lengthened(features, index, arguments.clips).resolve() for index in chosen]
    labels = {clip.name: str(features.labels[index]) for clip, index in zip(clips, chosen, strict=True)}
    print(describe("ray", "openvino", "torch", "av"), "\n", flush=True)
    num_videos = arguments.times * len(clips)
    cpu_s: dict[tuple[str, int], list[float]] = {}
    wall_s: dict[tuple[str, int], list[float]] = {}
    outputs: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for name, flags in WAYS.items():
                for times in (1, 2):
                    place = Path(folder) / f"{name.replace(' ', '-')}-{number}-{times}"
                    manifest = repeat(clips, arguments.times * times, place / "archive")
                    outputs[name] = place / "output"
                    taken_s, used_s = run(
                        [
                            *[str(ROOT / "jobs/classify.py"), "--manifest", manifest, "--output", str(outputs[name])],
                            *["--ensemble", arguments.ensemble, *flags],
                        ]
                    )
                    cpu_s.setdefault((name, times), []).append(used_s.total())
                    wall_s.setdefault((name, times), []).append(taken_s)
                    print(f"round {number}: {name} × {times}: {used_s.total():.1f} CPU s", file=sys.stderr, flush=True)
        report(num_videos, cpu_s, wall_s, {name: predicted(output) for name, output in outputs.items()}, labels)
        tell_stages(json.loads((outputs["in stages"] / "summary.json").read_text())["passes"])


def lengthened(features: FeatureSet, index: int, folder: Path) -> Path:
    """A video of the features as a clip of 60 s, over and over."""
    source = Path(features.video_uris[index].removeprefix("file://"))
    alone = folder / "alone" / features.video_ids[index]
    alone.mkdir(parents=True, exist_ok=True)
    link = alone / source.name
    if not link.is_symlink():
        link.symlink_to(source)
    return make_clip(replace(CLIP, first=int(index)), alone, folder / "lengthened")


def predicted(output: Path) -> dict[str, dict[str, Any]]:
    """What was said of each clip; under all its names it is the same."""
    columns = ["video_uri", "top_label", "verdict", "stage"]
    rows = [row for path in output.glob("part-*.parquet") for row in pq.read_table(path, columns=columns).to_pylist()]
    return {Path(row["video_uri"].removeprefix("file://")).resolve().name: row for row in rows}


def report(
    num_videos: int,
    cpu_s: dict[tuple[str, int], list[float]],
    wall_s: dict[tuple[str, int], list[float]],
    said: dict[str, dict[str, dict[str, Any]]],
    labels: dict[str, str],
) -> None:
    print("| | CPU seconds a video | of one pass | seconds a video | CPU seconds of a job, once | right | accepted |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    for name, rows in said.items():
        cpu, wall = ([statistics.median(times[name, n]) for n in (1, 2)] for times in (cpu_s, wall_s))
        found[name] = (cpu[1] - cpu[0]) / num_videos
        cells = [
            name,
            f"{found[name]:.3f}",
            f"{found[name] / found['one pass']:.2f}",
            f"{(wall[1] - wall[0]) / num_videos:.3f}",
            f"{2 * cpu[0] - cpu[1]:.0f}",
            f"{sum(row['top_label'] == labels[clip] for clip, row in rows.items())} of {len(labels)}",
            f"{sum(row['verdict'] == 'accepted' for row in rows.values())}",
        ]
        print(f"| {' | '.join(cells)} |")
    one, other = said["one pass"], said["in stages"]
    changed = sum(row["top_label"] != other[clip]["top_label"] for clip, row in one.items())
    print(f"\n{changed} classes differ; decided by {dict(Counter(row['stage'] for row in other.values()))}", flush=True)


def tell_stages(passes: dict[str, dict[str, Any]]) -> None:
    for name, told in passes.items():
        seconds = ", ".join(f"{key} {value:.3f}" for key, value in told["worker_s_per_video"].items())
        print(
            f"{name}: {told['num_videos']} videos, {told['num_decided']} decided; workers' seconds a video: {seconds}"
        )
    if Look.KEYFRAMES not in passes:
        print("validation allows the keyframes no decision")


if __name__ == "__main__":
    main()
