"""How often drift is found: in test videos of random splits, in made clips, in the videos of a class held out, and in
those of a family of sources held out.

    python benchmarks/drift.py --features DIR [--folds 12] [--seeds 0,1,2,3] [--families ALL] [--calibration cross] ...

The ensembles are those of `benchmarks/trust.py`, with the same directory for `--ensembles`. For each of the `--folds`
of a cross-validation over the sources, the test videos and the made clips are compared with the calibration videos. For
each of the `--seeds`, an ensemble is trained without one class, and the videos of that class are compared; so are the
test videos of the other classes. For each of the `--families`, one member is trained without the videos whose source
begins with the name of the family and a colon (as in `atari:pong`), and these videos are compared; so are the test
videos of the other families.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt

from benchmarks import trust
from benchmarks.machine import describe
from vidclf.config import FitConfig
from vidclf.ensemble.fold_confidence import FoldConfidence, fold_of_run
from vidclf.ensemble.inference import Ensemble
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.features.spec import read_weights_location
from vidclf.schema import Look
from vidclf.uncertainty import drift
from vidclf.uncertainty.drift import Drift, Scores

RECIPE = FitConfig(
    classifier_dims=(64,), patience=15, hidden_dim=128, num_lstm_layers=2, num_attention_heads=4, epochs=40, lr=1e-3
)
"""Training settings: the defaults of `benchmarks/trust.py`."""
SMALL = replace(RECIPE, hidden_dim=32, num_lstm_layers=1)
"""Training settings of `--small-held-out`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directory of labelled videos")
    parser.add_argument("--folds", type=int, default=12, help="number of folds")
    parser.add_argument(
        "--seeds", default="0,1,2,3", help="seeds of the splits with a class held out, or an empty text"
    )
    parser.add_argument("--only-folds", default="", help="folds to test, separated by commas (default: all)")
    parser.add_argument(
        "--families", default="", help="families of sources, separated by commas; ALL: each of at least 5 sources"
    )
    parser.add_argument(
        "--calibration", default="validation", help="like --calibration of jobs/train.py: validation or cross"
    )
    parser.add_argument("--linear-member", default="none", help="like --linear-member of jobs/train.py: auto or none")
    parser.add_argument(
        "--small-held-out",
        action="store_true",
        help="train one small member instead of four without a class or family; OOD line and scores need no member",
    )
    parser.add_argument("--ensembles", type=Path, help="directory in which trained members are stored and reused")
    parser.add_argument(
        "--keep-fits", action="store_true", help="use the fits in --ensembles too, for example those of trust.py"
    )
    arguments = parser.parse_args()
    features = read_features(arguments.features)
    made = trust.clips_of_no_class(features, read_weights_location(arguments.features))
    classes = sorted({str(label) for label in features.labels})
    results: dict[str, list[Drift]] = defaultdict(list)
    print(describe("torch", "scipy"))
    with tempfile.TemporaryDirectory() as scratch:
        train_in = partial(
            trust.train,
            recipe=RECIPE,
            num_members=4,
            kept_in=arguments.ensembles or scratch,
            has_linear_member=arguments.linear_member == "auto",
            is_crossed=arguments.calibration == "cross",
            keeps_fits=arguments.keep_fits,
        )
        chosen = [int(number) for number in arguments.only_folds.split(",") if number]
        for number in chosen or range(arguments.folds):
            fold = trust.fold(features, number, arguments.folds)
            classifier = train_in(fold)
            test = trust.of(fold, np.array(fold.splits) == "test")
            results["test videos of a fold"].append(compared(classifier, test.features, test.groups))
            results["made clips"].append(compared(classifier, made, [str(index) for index in range(len(made))]))
        for seed in [int(seed) for seed in arguments.seeds.split(",") if seed]:
            split = trust.split(features, seed)
            is_held = np.array(split.labels) == classes[seed % len(classes)]
            without = trust.of(split, ~is_held)
            if arguments.small_held_out:
                classifier = train_in(without, recipe=SMALL, num_members=1, is_crossed=False)
            else:
                classifier = train_in(without)
            held, rest = trust.of(split, is_held), trust.of(split, ~is_held & (np.array(split.splits) == "test"))
            print(f"without {classes[seed % len(classes)]}", flush=True)
            results["videos of a class held out"].append(compared(classifier, held.features, held.groups))
            results["test videos of the other classes"].append(compared(classifier, rest.features, rest.groups))
        for family in families(features, arguments.families):
            split = trust.split(features, 0)
            is_held = np.array([source.split(":")[0] == family for source in features.groups])
            recipe = SMALL if arguments.small_held_out else RECIPE
            classifier = train_in(trust.of(split, ~is_held), recipe=recipe, num_members=1, is_crossed=False)
            held, rest = trust.of(split, is_held), trust.of(split, ~is_held & (np.array(split.splits) == "test"))
            results["videos of a family held out"].append(compared(classifier, held.features, held.groups))
            results["test videos of the other families"].append(compared(classifier, rest.features, rest.groups))
            print(f"without {family}: found {results['videos of a family held out'][-1].found}", flush=True)
    print("| videos | comparisons | drift found | by OOD line | by OOD score | by trust | beyond the line |")
    print("|---|---|---|---|---|---|---|")
    for name, found in results.items():
        tests = Counter(test for result in found for test in result.found)
        beyond = np.mean([result.beyond for result in found])
        cells = [len(found), sum(bool(result.found) for result in found)]
        cells += [tests[drift.BEYOND], tests[drift.OOD], tests[drift.TRUST] + tests[drift.CONFIDENCE]]
        print(f"| {name} | {' | '.join(map(str, cells))} | {beyond:.2f} |")


def compared(classifier: Ensemble, sequences: Sequence[npt.NDArray[Any]], groups: list[str]) -> Drift:
    """Comparison of videos, given as feature sequences with their sources, with the calibration videos."""
    output: Any = classifier([list(sequences)])
    validation, line = classifier.trust.full["plain"], classifier.info.trust.ood
    confidence = FoldConfidence.of(classifier.info, Look.FULL, tta=False)
    known_B, seen_B, measure = validation.trust_B, output.trust_score_B, drift.TRUST
    if confidence is not None and validation.confidence_B is not None:
        folds_B = fold_of_run([f"{index} of {source}" for index, source in enumerate(groups)], confidence.num_folds)
        known_B, measure = validation.confidence_B, drift.CONFIDENCE
        seen_B = confidence(output.member_probabilities_MBC, folds_B)
    return drift.compare(
        Scores.of(known_B, validation.ood_B, validation.source_B.tolist(), measure),
        Scores.of(seen_B, output.ood_score_B, groups, measure),
        line.level,
        line.num_videos,
    )


def families(features: FeatureSet, chosen: str) -> list[str]:
    """Names of the families of sources: those of `chosen`, or with ALL each that has enough sources for a test and
    whose class has other videos."""
    if chosen != "ALL":
        return [name for name in chosen.split(",") if name]
    found = []
    for name in sorted({source.split(":")[0] for source in features.groups}):
        is_held = np.array([source.split(":")[0] == name for source in features.groups])
        sources = [source for source, held in zip(features.groups, is_held, strict=True) if held]
        others = {label for label, held in zip(features.labels, is_held, strict=True) if not held}
        if round(drift.effective_number(sources)) >= drift.MIN_SOURCES and others == set(features.labels):
            found.append(name)
    return found


if __name__ == "__main__":
    main()
