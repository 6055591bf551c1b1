"""What progressive classification decides early, and at what accuracy, over several splits by source.

    python benchmarks/progressive.py --features DIR --first-look DIR[,DIR] [--seeds 0,1,2,3] [--ensembles DIR]

`--features` are of all sampled frames, each `--first-look` of a few keyframes of the same videos (`jobs/extract.py
--sampling keyframes --num-frames 8`). For each seed the videos are split by source, an ensemble is trained on train
and its stages are fitted on validation; test's videos are then classified in stages, as `jobs/classify.py
--progressive` does, and in full. `--ensembles DIR` keeps the members, the same ones as `trust.py`.

Cost is in frames: those decoded alone (keyframes), those decoded in a full pass, and those the CNN sees.
`end_to_end.py --decided-early SHARE` measures seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt

from benchmarks.machine import describe
from benchmarks.trust import of, split, train
from vidclf.config import FitConfig
from vidclf.ensemble import info
from vidclf.ensemble.inference import Ensemble
from vidclf.features import matching
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.metrics.intervals import SourceIntervals
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import SUBSET_FRAMES
from vidclf.uncertainty.risk_threshold import is_accepted
from vidclf.video.sampling import evenly_spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True)
    parser.add_argument("--first-look", required=True)
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--ensembles", type=Path, help="keep the members here, and take those that are here")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--risk", type=float, default=0.05, help="as --abstain-risk of jobs/classify.py")
    arguments = parser.parse_args()
    recipe = FitConfig(
        hidden_dim=128, num_lstm_layers=2, num_attention_heads=4, classifier_dims=(64,), patience=15, epochs=40
    )
    features = read_features(arguments.features)
    print(describe("torch"), f"\n{len(features.labels)} videos; {recipe}\n")
    print(
        "| keyframes at most | test videos | full look right | as decided right | difference, 95 % interval | keyframe "
        "look right alone | decided by keyframes, right | decided by subset, right | full look | CNN frames a video |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for location in arguments.first_look.split(","):
        look = matching.first_look(location, read_features(location), features)
        seen = []
        with tempfile.TemporaryDirectory() as scratch:
            for seed in map(int, arguments.seeds.split(",")):
                fresh = split(features, seed)
                classifier = train(fresh, recipe, arguments.members, arguments.ensembles or scratch, look)
                seen.append(decide(classifier, fresh, look, arguments.risk))
        report(look, {name: np.concatenate([part[name] for part in seen]) for name in seen[0]})


def decide(classifier: Ensemble, features: FeatureSet, look: FeatureSet, risk: float) -> dict[str, npt.NDArray[Any]]:
    """Test's videos: the stage that decides, and whether each look is right."""
    in_test = np.array(features.splits) == "test"
    test, first = of(features, in_test), of(look, in_test)
    labels_B = np.array([classifier.info.classes.index(str(label)) for label in test.labels])
    looks = {
        Look.KEYFRAMES: first.features,
        Look.SUBSET: [rows_TD[evenly_spread(len(rows_TD), SUBSET_FRAMES)] for rows_TD in test.features],
        Look.FULL: test.features,
    }
    thresholds = classifier.trust.stage_thresholds(info.mode(False), risk, accept_uncertified=True).early
    stage_B, right_B = np.full(len(labels_B), Look.FULL, dtype=object), np.zeros(len(labels_B), bool)
    frames_B = np.zeros(len(labels_B))
    is_left_B = np.ones(len(labels_B), bool)
    found: dict[str, npt.NDArray[Any]] = {"groups": np.array(test.groups, dtype=object)}
    for name, sequences in looks.items():
        output = classifier([sequences], stage=name)
        found[f"{name} right"] = output.probabilities_BC.argmax(axis=1) == labels_B
        if name not in thresholds and name != Look.FULL:
            continue
        is_sure_B = np.ones(len(labels_B), bool)
        if name != Look.FULL:
            is_sure_B = is_accepted(output.trust_score_B, output.ood_score_B, thresholds[name])
        lengths_B = np.array([len(rows_TD) for rows_TD in sequences])
        # The subset's frames are among those of the full look.
        new_B = lengths_B - (np.array([len(rows_TD) for rows_TD in looks[Look.SUBSET]]) if name == Look.FULL else 0)
        frames_B[is_left_B] += new_B[is_left_B]
        is_decided_B = is_left_B & is_sure_B
        stage_B[is_decided_B], right_B[is_decided_B] = name, found[f"{name} right"][is_decided_B]
        is_left_B &= ~is_decided_B
    return {**found, "stage": stage_B, "right": right_B, "frames": frames_B}


def report(look: FeatureSet, seen: dict[str, npt.NDArray[Any]]) -> None:
    right_B, full_B = seen["right"], seen[f"{Look.FULL} right"]
    low, high = SourceIntervals(seen["groups"].tolist()).difference(right_B, full_B) or (-1.0, 1.0)
    decided = {name: seen["stage"] == name for name in (Look.KEYFRAMES, Look.SUBSET, Look.FULL)}
    cells = [
        str(look.spec.plan.num_frames),
        str(len(right_B)),
        f"{full_B.mean():.3f}",
        f"{right_B.mean():.3f}",
        f"{right_B.mean() - full_B.mean():+.3f} ({low:+.3f} to {high:+.3f})",
        f"{seen[f'{Look.KEYFRAMES} right'].mean():.3f}",
        *[f"{int(is_in_B.sum())}, {int(right_B[is_in_B].sum())}" for is_in_B in list(decided.values())[:2]],
        str(int(decided[Look.FULL].sum())),
        f"{seen['frames'].mean():.1f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
