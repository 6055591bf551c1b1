"""CPU time of an ensemble per video, and the effect of bfloat16 on its probabilities. Two separate measurements.

    python benchmarks/classify.py --archive DIR [--backbone efficientnet_lite0] [--clips 6] [--rounds 3]
    python benchmarks/classify.py --ensemble DIR --features DIR[,DIR]

Cost (`--archive`), in CPU seconds per video on one core, compared with decoding and the CNN. The ensemble has four
members with random weights, which do not influence the cost, and classifies 73 frames per video. The CNN runs in
OpenVINO, in the precision that vidclf chooses on this machine. Columns of the table:

- size: members of the size used in the demo, or of full size; precision: that of the members;
- views: number of test-time variants of a video that are classified and averaged (1 or 4);
- sequences at a time: 1, 4 (as many videos as a CNN worker passes on at once) or 16. "one sequence" is a loop that
  computes each view of each video by itself;
- ensemble, CPU s per video, and this time divided by the time of decoding and CNN together.

Drift (`--ensemble`, an output directory of `jobs/train.py`): the videos of `--features` (one directory per backbone of
the ensemble) are classified in float32 and in bfloat16, from all frames and from fewer. The columns compare the two:
largest and mean difference of a probability, largest difference of a trust score (estimated probability that the label
is right), and number of videos whose most probable class changes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.repeated import clips_of
from vidclf.backbones import openvino_engine
from vidclf.backbones.catalog import FEATURE_DIMS, preprocessing
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights
from vidclf.classification.compatibility import fitted_runs
from vidclf.config import ModelConfig
from vidclf.ensemble import files
from vidclf.ensemble.bf16 import to_bf16
from vidclf.ensemble.inference import run_members
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.ensemble.views import VIEWS
from vidclf.features.feature_set import read_features
from vidclf.uncertainty.early_exit import SUBSET_FRAMES
from vidclf.video.decode import decode_video
from vidclf.video.sampling import SamplingPlan, evenly_spread

NUM_MEMBERS = 4
SIZES = {
    "demo": ModelConfig(hidden_dim=64, num_lstm_layers=1, num_attention_heads=4, classifier_dims=(64,)),
    "full": ModelConfig(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="archive of videos; measures the cost")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="name of the CNN")
    parser.add_argument("--weights", default="DEFAULT", help="weights of the CNN, as for jobs/extract.py")
    parser.add_argument("--clips", type=int, default=6, help="videos that are decoded and passed to the CNN")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions per figure; the median is printed")
    parser.add_argument("--ensemble", help="output directory of jobs/train.py; measures the drift")
    parser.add_argument(
        "--features", help="features that the ensemble was trained on, one directory per backbone, comma-separated"
    )
    arguments = parser.parse_args()
    if not arguments.archive and not arguments.ensemble:
        parser.error("pass --archive to measure the cost, --ensemble with --features to measure the drift, or both")
    if (arguments.ensemble is None) != (arguments.features is None):
        parser.error("--ensemble and --features must be passed together")
    torch.set_num_threads(1)
    print(describe("torch", "openvino", "av"), "\n")
    if arguments.archive is not None:
        report_cost(arguments)
    if arguments.ensemble is not None:
        report_drift(arguments.ensemble, arguments.features.split(","))


def report_cost(arguments: argparse.Namespace) -> None:
    """Measure and print the CPU time of the ensemble per video."""
    name, weights = arguments.backbone, arguments.weights
    cnn = openvino_engine.load(convert(resolve(name, weights), load_weights(name, weights)), name, weights, "auto")
    clips = clips_of(arguments.archive)[: arguments.clips]
    plan, transform = SamplingPlan(), preprocessing(name, weights).transform
    videos = [decode_video(str(clip), plan, transform) for clip in clips]
    decode_s = seconds(lambda: [decode_video(str(clip), plan, transform) for clip in clips], 1) / len(clips)
    cnn_s = seconds(lambda: [cnn(video.frames_THWC) for video in videos], 1) / len(clips)
    print(f"decoding {decode_s:.3f} s, {name} ({cnn.name}) {cnn_s:.3f} s per video, mean of {len(clips)} videos\n")
    print("| size | precision | views | sequences at a time | ensemble, CPU s per video | share of decoding + CNN |")
    print("|---|---|---|---|---|---|")
    generator = np.random.default_rng(0)
    shape = (16, plan.num_frames, FEATURE_DIMS[name])
    sequences = list(np.maximum(generator.normal(size=shape), 0).astype(np.float16))
    for size, config in SIZES.items():
        torch.manual_seed(0)
        members = [TemporalClassifier(FEATURE_DIMS[name], 4, config).eval() for _ in range(NUM_MEMBERS)]
        for precision, precision_members in (
            ("float32", members),
            ("bfloat16", [to_bf16(member) for member in members]),
        ):
            for views in (list(VIEWS)[:1], list(VIEWS)):
                for at_a_time in (1, 4, 16):
                    if at_a_time == 1 and len(views) == 4:
                        loop_s = (
                            seconds(partial(one_by_one, precision_members, sequences[:4], views), arguments.rounds) / 4
                        )
                        row(size, precision, 4, "one sequence", loop_s, decode_s + cnn_s)
                    taken_s = (
                        seconds(partial(batched, precision_members, sequences, views, at_a_time), arguments.rounds) / 16
                    )
                    row(size, precision, len(views), str(at_a_time), taken_s, decode_s + cnn_s)


def report_drift(directory: str, locations: list[str]) -> None:
    """Print how far results in bfloat16 are from those in float32, for the ensemble in `directory`.

    `locations` are the directories of features, one per backbone of the ensemble.
    """
    fp32_ensemble, bf16_ensemble = (
        files.load(directory, torch.device("cpu"), precision) for precision in ("fp32", "bf16")
    )
    runs = fitted_runs(locations, fp32_ensemble.info)
    all_features_S = [read_features(run).features for run in runs]
    print(
        "\n| frames per video, at most | probability: largest drift | mean drift "
        "| trust score: largest drift | changed classes |"
    )
    print("|---|---|---|---|---|")
    for num_frames in (fp32_ensemble.info.backbones[0].feature_spec.plan.num_frames, SUBSET_FRAMES, 3):
        features_S = [
            [rows_TD[evenly_spread(len(rows_TD), num_frames)] for rows_TD in features] for features in all_features_S
        ]
        fp32, bf16 = (loaded(features_S, tta=True) for loaded in (fp32_ensemble, bf16_ensemble))
        drift_B = np.abs(fp32.probabilities_BC - bf16.probabilities_BC).max(axis=1)
        trust_B = np.abs(fp32.trust_score_B - bf16.trust_score_B)
        is_flipped_B = fp32.probabilities_BC.argmax(axis=1) != bf16.probabilities_BC.argmax(axis=1)
        cells = f"{drift_B.max():.4f} | {drift_B.mean():.5f} | {trust_B.max():.4f} | {is_flipped_B.sum()}"
        print(f"| {num_frames} | {cells} |", flush=True)
    print(f"{len(all_features_S[0])} videos")


def batched(members: list[Any], sequences: list[Any], views: list[str], at_a_time: int) -> None:
    """Classify the sequences in batches of `at_a_time`, all views of a batch together."""
    for start in range(0, len(sequences), at_a_time):
        run_members(members, [0] * len(members), [sequences[start : start + at_a_time]], views, torch.device("cpu"))


def one_by_one(members: list[Any], sequences: list[Any], views: list[str]) -> None:
    """Classify each view (test-time variant) of each sequence in a batch of its own."""
    for sequence in sequences:
        for view in views:
            run_members(members, [0] * len(members), [[VIEWS[view](sequence)]], ["original"], torch.device("cpu"))


def row(size: str, precision: str, num_views: int, at_a_time: str, taken_s: float, rest_s: float) -> None:
    """Print a row of the cost table. `rest_s`: CPU seconds of decoding and CNN per video."""
    share = taken_s / rest_s
    print(f"| {size} | {precision} | {num_views} | {at_a_time} | {taken_s:.4f} | {share:.3f} |", flush=True)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of a call of `work`; one call before the measurement warms up."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
