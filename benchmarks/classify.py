"""CPU seconds a video of the ensemble and its views, beside decoding and the CNN.

    python benchmarks/classify.py --archive DIR [--backbone efficientnet_lite0] [--clips 6] [--rounds 3]

One core. Four members with random weights (a forward pass costs the same, whatever they are), 73 frames,
at the demo's size and at full size; one view and four; one sequence at a time, as many as the CNN hands
over (4 videos) and 16 videos together; at full size also with bfloat16 weights, with the drift of the
probabilities that this brings. The drift is of random weights: a trained ensemble's is to be looked at
before it is relied on.
"""

from __future__ import annotations

import argparse
import copy
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
from vidclf.archive.decode import decode_video
from vidclf.archive.sampling import SamplingPlan
from vidclf.config import ModelConfig
from vidclf.features import backbone
from vidclf.features.preprocessing import FEATURE_DIMS
from vidclf.learning.ensemble import run_members
from vidclf.learning.model import TemporalClassifier
from vidclf.learning.views import VIEWS

NUM_MEMBERS = 4
SIZES = {
    "demo": ModelConfig(hidden_dim=64, num_lstm_layers=1, num_attention_heads=4, classifier_dims=(64,)),
    "full": ModelConfig(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe("torch", "av"), "\n")
    name, weights = arguments.backbone, arguments.weights
    network = backbone.build(name, weights, backbone.load_weights(name, weights), "cpu")
    clips = clips_of(arguments.archive)[: arguments.clips]
    plan, transform = SamplingPlan(), network.preprocessing.transform
    videos = [decode_video(str(clip), plan, transform) for clip in clips]
    decode_s = seconds(lambda: [decode_video(str(clip), plan, transform) for clip in clips], 1) / len(clips)
    cnn_s = seconds(lambda: [network(torch.from_numpy(video.frames_THWC)) for video in videos], 1) / len(clips)
    print(f"decoding {decode_s:.3f} s, {name} {cnn_s:.3f} s a video of {len(clips)}, {plan.num_frames} frames\n")
    print("| size | weights | views | videos at a time | ensemble, s a video | share of decoding + CNN |")
    print("|---|---|---|---|---|---|")
    generator = np.random.default_rng(0)
    shape = (16, plan.num_frames, FEATURE_DIMS[name])
    sequences = list(np.maximum(generator.normal(size=shape), 0).astype(np.float16))
    for size, config in SIZES.items():
        torch.manual_seed(0)
        members = [TemporalClassifier(FEATURE_DIMS[name], 4, config).eval() for _ in range(NUM_MEMBERS)]
        halved = [Halved(copy.deepcopy(member)) for member in members]
        for kind, used in (("float32", members), ("bfloat16", halved)):
            if kind == "bfloat16" and size != "full":
                continue
            for views in (list(VIEWS)[:1], list(VIEWS)):
                for at_a_time in (1, 4, 16):
                    if size == "full" and at_a_time == 1 and len(views) == 4:
                        loop_s = seconds(partial(one_by_one, used, sequences[:4], views), arguments.rounds) / 4
                        row(size, kind, 4, "one sequence", loop_s, decode_s + cnn_s)
                    taken_s = seconds(partial(batched, used, sequences, views, at_a_time), arguments.rounds) / 16
                    row(size, kind, len(views), str(at_a_time), taken_s, decode_s + cnn_s)
        if size == "full":
            exact, near = (
                run_members(used, [0] * NUM_MEMBERS, [sequences], list(VIEWS), torch.device("cpu"))[0]
                for used in (members, halved)
            )
            drift = (exact.softmax(3) - near.softmax(3)).abs().max()
            print(f"\nbfloat16 moves probabilities by {drift:.5f} at most, logits by {(exact - near).abs().max():.5f}")


class Halved(torch.nn.Module):
    """A member with bfloat16 weights."""

    def __init__(self, member: TemporalClassifier) -> None:
        super().__init__()
        self._member = member.to(torch.bfloat16)

    def forward(self, features_BTD: torch.Tensor, lengths_B: torch.Tensor) -> object:
        return self._member(features_BTD.to(torch.bfloat16), lengths_B)


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
