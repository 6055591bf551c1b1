"""CPU seconds a video of the ensemble and its views, beside decoding and the CNN.

    python benchmarks/classify.py --archive DIR [--backbone efficientnet_lite0] [--clips 6] [--rounds 3]
    python benchmarks/classify.py --ensemble DIR --features DIR[,DIR]

One core. Four members with random weights (a forward pass costs the same, whatever they are), 73 frames,
at the demo's size and at full size, in float32 and in bfloat16; one view and four; one sequence at a time, as
many as the CNN hands over (4 videos) and 16 videos together. The backbone runs in OpenVINO, in the precision
that it takes here.

With `--ensemble`, which `jobs/train.py` wrote, what bfloat16 does to the probabilities of the videos of `--features`
(a directory for each of its backbones), of all their frames and of fewer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.repeated import clips_of
from vidclf.backbones import openvino_engine
from vidclf.backbones.catalog import FEATURE_DIMS, preprocessing
from vidclf.backbones.openvino_convert import convert
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
    parser.add_argument("--archive", type=Path, help="of clips, for the cost")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ensemble", help="for the drift")
    parser.add_argument("--features", help="that it was trained on, comma-separated")
    arguments = parser.parse_args()
    if not arguments.archive and not arguments.ensemble:
        parser.error("give --archive for the cost, --ensemble with --features for the drift, or both")
    if (arguments.ensemble is None) != (arguments.features is None):
        parser.error("--ensemble and --features go together")
    torch.set_num_threads(1)
    print(describe("torch", "openvino", "av"), "\n")
    if arguments.archive is not None:
        report_cost(arguments)
    if arguments.ensemble is not None:
        report_drift(arguments.ensemble, arguments.features.split(","))


def report_cost(arguments: argparse.Namespace) -> None:
    name, weights = arguments.backbone, arguments.weights
    cnn = openvino_engine.load(convert(name, weights, load_weights(name, weights)), name, weights, "auto")
    clips = clips_of(arguments.archive)[: arguments.clips]
    plan, transform = SamplingPlan(), preprocessing(name, weights).transform
    videos = [decode_video(str(clip), plan, transform) for clip in clips]
    decode_s = seconds(lambda: [decode_video(str(clip), plan, transform) for clip in clips], 1) / len(clips)
    cnn_s = seconds(lambda: [cnn(video.frames_THWC) for video in videos], 1) / len(clips)
    print(f"decoding {decode_s:.3f} s, {name} ({cnn.name}) {cnn_s:.3f} s a video of {len(clips)}\n")
    print("| size | weights | views | videos at a time | ensemble, s a video | share of decoding + CNN |")
    print("|---|---|---|---|---|---|")
    generator = np.random.default_rng(0)
    shape = (16, plan.num_frames, FEATURE_DIMS[name])
    sequences = list(np.maximum(generator.normal(size=shape), 0).astype(np.float16))
    for size, config in SIZES.items():
        torch.manual_seed(0)
        members = [TemporalClassifier(FEATURE_DIMS[name], 4, config).eval() for _ in range(NUM_MEMBERS)]
        for kind, used in (("float32", members), ("bfloat16", [to_bf16(member) for member in members])):
            for views in (list(VIEWS)[:1], list(VIEWS)):
                for at_a_time in (1, 4, 16):
                    if at_a_time == 1 and len(views) == 4:
                        loop_s = seconds(partial(one_by_one, used, sequences[:4], views), arguments.rounds) / 4
                        row(size, kind, 4, "one sequence", loop_s, decode_s + cnn_s)
                    taken_s = seconds(partial(batched, used, sequences, views, at_a_time), arguments.rounds) / 16
                    row(size, kind, len(views), str(at_a_time), taken_s, decode_s + cnn_s)


def report_drift(directory: str, locations: list[str]) -> None:
    exact, near = (files.load(directory, torch.device("cpu"), precision) for precision in ("fp32", "bf16"))
    runs = fitted_runs(locations, exact.info)
    whole_S = [read_features(run).features for run in runs]
    print(
        "\n| frames, at most | probability, largest drift | mean | trust score, largest drift | classes that change |"
    )
    print("|---|---|---|---|---|")
    for num_frames in (exact.info.backbones[0].feature_spec.plan.num_frames, SUBSET_FRAMES, 3):
        seen_S = [[rows_TD[evenly_spread(len(rows_TD), num_frames)] for rows_TD in own] for own in whole_S]
        one, other = (loaded(seen_S, tta=True) for loaded in (exact, near))
        drift_B = np.abs(one.probabilities_BC - other.probabilities_BC).max(axis=1)
        trust_B = np.abs(one.trust_score_B - other.trust_score_B)
        is_flipped_B = one.probabilities_BC.argmax(axis=1) != other.probabilities_BC.argmax(axis=1)
        cells = f"{drift_B.max():.4f} | {drift_B.mean():.5f} | {trust_B.max():.4f} | {is_flipped_B.sum()}"
        print(f"| {num_frames} | {cells} |", flush=True)
    print(f"{len(whole_S[0])} videos")


def batched(members: list, sequences: list, views: list[str], at_a_time: int) -> None:
    for start in range(0, len(sequences), at_a_time):
        run_members(members, [0] * len(members), [sequences[start : start + at_a_time]], views, torch.device("cpu"))


def one_by_one(members: list, sequences: list, views: list[str]) -> None:
    """Every view of every video by itself, as a loop would do it."""
    for sequence in sequences:
        for view in views:
            run_members(members, [0] * len(members), [[VIEWS[view](sequence)]], ["original"], torch.device("cpu"))


def row(size: str, kind: str, num_views: int, at_a_time: str, taken_s: float, rest_s: float) -> None:
    share = taken_s / rest_s
    print(f"| {size} | {kind} | {num_views} | {at_a_time} | {taken_s:.4f} | {share:.3f} |", flush=True)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds, after one time to warm up."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
