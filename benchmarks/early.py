"""Cost of progressive classification compared with a single pass over all videos, measured on whole jobs.

    python benchmarks/early.py --features DIR --ensemble DIR [--clips DIR] [--sources 24] [--rounds 2]

Progressive classification (`jobs/classify.py --progressive`) first classifies each video from a few keyframes. Only
uncertain videos are classified again from more frames. `--ensemble` must come from `jobs/train.py --first-look`, unless
`--first-ensemble` names another ensemble, which then takes the first look.

The videos are those of `--features` that the ensemble's own record shows to be held out. Each is repeated until
it is 60 s long (640×360, 30 frames/s, H.264) and listed under several names. The two kinds of job take turns over N and
over 2N videos. The cost of a video is the difference divided by N, so start and end of a job do not count. Columns:

- CPU seconds a video, and the same relative to one pass; seconds a video: elapsed time;
- CPU seconds of a job, once: the part that does not depend on the number of videos. A progressive job starts two
  pipelines;
- right: clips whose label is predicted correctly; accepted: clips that the ensemble does not leave to a person.

Below the table: number of clips with different labels, number of clips that each stage (part of the frames) decided,
and the cost of each pass.
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
from vidclf.ensemble.held_out import held_out_rows
from vidclf.ensemble.split_record import read_record
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.schema import Look

WAYS: dict[str, list[str]] = {"one pass": [], "in stages": ["--progressive"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="output directory of jobs/extract.py")
    parser.add_argument("--ensemble", required=True, help="output directory of jobs/train.py")
    parser.add_argument("--first-ensemble", help="ensemble for the first look (default: --ensemble)")
    parser.add_argument(
        "--clips",
        type=Path,
        default=Path("benchmark_clips"),
        help="directory in which the test clips are stored and reused",
    )
    parser.add_argument("--sources", type=int, default=24, help="largest number of held-out videos to take")
    parser.add_argument(
        "--times", type=int, default=4, help="number of names under which the smaller job lists each clip"
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="rounds in which the jobs take turns; the median is printed"
    )
    arguments = parser.parse_args()
    of_first = ["--first-ensemble", arguments.first_ensemble] if arguments.first_ensemble else []
    ways = {name: [*flags, *(of_first if flags else [])] for name, flags in WAYS.items()}
    features = read_features(arguments.features)
    tested = np.array(held_out_rows(features, read_record(arguments.ensemble)))
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
            for name, flags in ways.items():
                for times in (1, 2):
                    job_folder = Path(folder) / f"{name.replace(' ', '-')}-{number}-{times}"
                    manifest = repeat(clips, arguments.times * times, job_folder / "archive")
                    outputs[name] = job_folder / "output"
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
        print_passes(json.loads((outputs["in stages"] / "summary.json").read_text())["passes"])


def lengthened(features: FeatureSet, index: int, folder: Path) -> Path:
    """Path of a clip of 60 s that repeats the video number `index` of the features."""
    source = Path(features.video_uris[index].removeprefix("file://"))
    alone = folder / "alone" / features.video_ids[index]
    alone.mkdir(parents=True, exist_ok=True)
    link = alone / source.name
    if not link.is_symlink():
        link.symlink_to(source)
    return make_clip(replace(CLIP, first=int(index)), alone, folder / "lengthened")


def predicted(output: Path) -> dict[str, dict[str, Any]]:
    """Prediction of a job per clip name, as a row. All names of a clip have the same prediction."""
    columns = ["video_uri", "top_label", "verdict", "stage"]
    rows = [row for path in output.glob("part-*.parquet") for row in pq.read_table(path, columns=columns).to_pylist()]
    return {Path(row["video_uri"].removeprefix("file://")).resolve().name: row for row in rows}


def report(
    num_videos: int,
    cpu_s: dict[tuple[str, int], list[float]],
    wall_s: dict[tuple[str, int], list[float]],
    predictions: dict[str, dict[str, dict[str, Any]]],
    labels: dict[str, str],
) -> None:
    """Print the table of costs and correct predictions, and how the stages decided.

    `cpu_s` and `wall_s` hold the times of the jobs, by way and by 1 (N videos) or 2 (2N videos).
    """
    print("| | CPU seconds a video | of one pass | seconds a video | CPU seconds of a job, once | right | accepted |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    for name, rows in predictions.items():
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
    one_pass, in_stages = predictions["one pass"], predictions["in stages"]
    changed = sum(row["top_label"] != in_stages[clip]["top_label"] for clip, row in one_pass.items())
    print(
        f"\n{changed} predicted labels differ; clips decided per stage: "
        f"{dict(Counter(row['stage'] for row in in_stages.values()))}",
        flush=True,
    )


def print_passes(passes: dict[str, dict[str, Any]]) -> None:
    """Print number of videos and time per video of each pass of a progressive job, from its `summary.json`."""
    for name, figures in passes.items():
        seconds = ", ".join(f"{key} {value:.3f}" for key, value in figures["worker_s_per_video"].items())
        print(
            f"{name}: {figures['num_videos']} videos, {figures['num_decided']} decided; "
            f"worker seconds per video: {seconds}"
        )
    if Look.KEYFRAMES not in passes:
        print("the keyframes decide no video, because the validation videos do not support an early decision")


if __name__ == "__main__":
    main()
