"""How many videos progressive classification decides early, and how accurately, over several splits by source.

    python benchmarks/progressive.py --features DIR --first-look DIR[,DIR] [--seeds 0,1,2,3 | --folds N] ...

Progressive classification looks at a few keyframes of a video first, then at a subset of the sampled frames, then at
all of them (the full look), and stops at the first look that is certain enough.

`--features` is a features directory of all sampled frames. Each directory of `--first-look` has features of a few
keyframes of the same videos (made with `jobs/extract.py --sampling keyframes --num-frames 8`). For each seed, the
script splits the videos by source (videos cut from one recording stay in one split), trains an ensemble on the training
split and fits its early looks on the validation split. It then classifies the test videos progressively, as
`jobs/classify.py --progressive` does, and once more with the full look alone. `--folds 12` cross-validates over the
sources instead, so that every video is tested once. `--ensembles DIR` stores the trained members for later runs;
`trust.py` uses the same ones.

The output is one table row per directory of `--first-look`, pooled over the seeds. Columns:

- most keyframes of a video, and number of test videos;
- full look right, as decided right: accuracy of the full look alone and of progressive classification, followed by the
  difference (progressive minus full) with its 95 % interval;
- keyframe look right alone: accuracy if the keyframes decided every video;
- decided by keyframes, decided by subset: number of videos that this look decided, and how many of them are right;
- full look: number of videos that the full look decided;
- accepted, full look alone accepts: number of videos whose label is accepted at `--risk`, even if validation does not
  support the risk, and how many of these labels are wrong;
- CNN frames a video: mean number of frames per video that go through the CNN.

The cost is counted in frames. For seconds, see `end_to_end.py --decided-early SHARE`.
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
from benchmarks.trust import fold, of, split, train
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
    parser.add_argument("--features", required=True, help="features directory of all sampled frames")
    parser.add_argument("--first-look", required=True, help="features directories of keyframes, separated by commas")
    parser.add_argument("--seeds", default="0,1,2,3", help="seeds of the splits, separated by commas")
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        help="cross-validate with this number of folds instead of --seeds (0: no cross-validation)",
    )
    parser.add_argument("--ensembles", type=Path, help="directory in which trained members are stored and reused")
    parser.add_argument("--members", type=int, default=4, help="members per ensemble")
    parser.add_argument(
        "--risk",
        type=float,
        default=0.05,
        help="largest share of wrong labels among accepted videos, like --abstain-risk of jobs/classify.py",
    )
    parser.add_argument("--hidden-dim", type=int, default=128, help="like --hidden-dim of jobs/train.py")
    parser.add_argument("--num-lstm-layers", type=int, default=2, help="like --num-lstm-layers of jobs/train.py")
    parser.add_argument("--epochs", type=int, default=40, help="epochs per member")
    arguments = parser.parse_args()
    names = ("hidden_dim", "num_lstm_layers", "epochs")
    sizes = {name: getattr(arguments, name) for name in names}
    recipe = FitConfig(num_attention_heads=4, classifier_dims=(64,), patience=15, **sizes)
    features = read_features(arguments.features)
    print(describe("torch"), f"\n{len(features.labels)} videos; {recipe}\n")
    print(
        "| most keyframes | test videos | full look right | as decided right | difference, 95 % interval | keyframe "
        "look right alone | decided by keyframes, right | decided by subset, right | full look | accepted, wrong | "
        "full look alone accepts, wrong | CNN frames a video |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for location in arguments.first_look.split(","):
        look = matching.first_look(location, read_features(location), features)
        results_of_seeds = []
        seeds = range(arguments.folds) if arguments.folds else map(int, arguments.seeds.split(","))
        with tempfile.TemporaryDirectory() as scratch:
            for seed in seeds:
                fresh = fold(features, seed, arguments.folds) if arguments.folds else split(features, seed)
                classifier = train(fresh, recipe, arguments.members, arguments.ensembles or scratch, look)
                results_of_seeds.append(decide(classifier, fresh, look, arguments.risk))
        report(
            look,
            {name: np.concatenate([results[name] for results in results_of_seeds]) for name in results_of_seeds[0]},
        )


def decide(classifier: Ensemble, features: FeatureSet, look: FeatureSet, risk: float) -> dict[str, npt.NDArray[Any]]:
    """Classify the test videos progressively.

    Returns arrays with one entry per test video, by name: `stage` (the look that decides the video), `right` (whether
    that decision is right), `frames` (number of frames through the CNN), `groups` (source of the video), `accepted` and
    `full accepted` (whether the label of the cascade, or of the full look alone, is accepted) and, for each look,
    `LOOK right` (whether that look alone is right).
    """
    in_test = np.array(features.splits) == "test"
    test, first = of(features, in_test), of(look, in_test)
    labels_B = np.array([classifier.info.classes.index(str(label)) for label in test.labels])
    looks = {
        Look.KEYFRAMES: first.features,
        Look.SUBSET: [rows_TD[evenly_spread(len(rows_TD), SUBSET_FRAMES)] for rows_TD in test.features],
        Look.FULL: test.features,
    }
    joint = classifier.trust.stage_thresholds(info.mode(False), risk, accept_uncertified=True)
    alone = classifier.trust.threshold(info.mode(False), risk, accept_uncertified=True)
    thresholds = joint.early
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
        else:
            found["full accepted"] = is_accepted(output.trust_score_B, output.ood_score_B, alone.threshold)
            found["accepted"] = ~is_left_B | is_accepted(output.trust_score_B, output.ood_score_B, joint.threshold)
        lengths_B = np.array([len(rows_TD) for rows_TD in sequences])
        # The full look includes the frames of the subset, which are not computed again.
        new_B = lengths_B - (np.array([len(rows_TD) for rows_TD in looks[Look.SUBSET]]) if name == Look.FULL else 0)
        frames_B[is_left_B] += new_B[is_left_B]
        is_decided_B = is_left_B & is_sure_B
        stage_B[is_decided_B], right_B[is_decided_B] = name, found[f"{name} right"][is_decided_B]
        is_left_B &= ~is_decided_B
    return {**found, "stage": stage_B, "right": right_B, "frames": frames_B}


def report(look: FeatureSet, results: dict[str, npt.NDArray[Any]]) -> None:
    """Print the table row of one keyframe look; `results` are arrays as returned by `decide`, of all seeds together."""
    right_B, full_B = results["right"], results[f"{Look.FULL} right"]
    low, high = SourceIntervals(results["groups"].tolist()).difference(right_B, full_B) or (-1.0, 1.0)
    decided = {name: results["stage"] == name for name in (Look.KEYFRAMES, Look.SUBSET, Look.FULL)}
    cells = [
        str(look.spec.plan.num_frames),
        str(len(right_B)),
        f"{full_B.mean():.3f}",
        f"{right_B.mean():.3f}",
        f"{right_B.mean() - full_B.mean():+.3f} ({low:+.3f} to {high:+.3f})",
        f"{results[f'{Look.KEYFRAMES} right'].mean():.3f}",
        *[f"{int(is_in_B.sum())}, {int(right_B[is_in_B].sum())}" for is_in_B in list(decided.values())[:2]],
        str(int(decided[Look.FULL].sum())),
        f"{int(results['accepted'].sum())}, {int((results['accepted'] & ~right_B).sum())}",
        f"{int(results['full accepted'].sum())}, {int((results['full accepted'] & ~full_B).sum())}",
        f"{results['frames'].mean():.1f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
