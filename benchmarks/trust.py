"""Accuracy, calibration, out-of-distribution (OOD) detection and risk of ensembles, over several splits.

    python benchmarks/trust.py --archive DIR --features DIR [--seeds 0,1,2,3 | --folds N] [--ensembles DIR] ...

For each seed, the script splits the videos by source (videos cut from one recording stay in one split), trains an
ensemble on the training split, fits temperature (calibration), OOD line (distance beyond which
a video is unlike the training videos) and trust score on the validation split and measures the test split. `--folds 12`
cross-validates over the sources instead, so that every video is tested once. `--calibration cross` fits to out-of-fold
probabilities of the train and validation videos instead of the validation split. `--ensembles DIR` stores the trained
members (models); a later run reuses them and only repeats the fits. `--archive` only gives the name of the archive for
the heading.

With `--sources names` or `--sources locations`, training and calibration do not see the manifest's sources (column
`group`), only those that `jobs/index.py` and `jobs/train.py` find without that column. Folds and intervals of the test
videos still use the manifest's sources.

Two kinds of videos belong to no class that the ensemble knows:

- made clips: noise, coarse noise, solid colours, bars, ramps and chequers, encoded as H.264 and sampled like the
  videos;
- videos of a class that is left out of training. Each class in turn is left out for the OOD score, which needs no
  members. For the seeds of `--held-out`, an ensemble is also trained without one class, to compare the other scores.

Trust score, confidence and the reference formula are compared. The last is the fixed trust formula of the reference
system (the older system whose checkpoints vidclf reads), computed from the same predictions; that system abstains below
0.45: 0.25 · confidence + 0.20 · gap to the second class + 0.20 · (1 - entropy / log C) + 0.15 · focus of the attention
+ 0.20 · frame agreement, where the focus is 1 - entropy of the pooling weights / log T, for C classes and T frames.

Output:

- one line per seed or fold, then a table with mean, lowest and highest value of each figure over the seeds. ECE is the
  expected calibration error; "views" are test-time variants of a video. "accepted" is the share of videos whose label
  is accepted at a risk (allowed share of wrong labels) of `RISK`, even if validation does not support the risk. "risk
  certified" and "risk estimated" are the shares of the seeds in which it does. "abstained on" is the share of the
  videos that are not accepted, "flagged" the share beyond the OOD line. AUROC measures how well a score separates test
  videos from videos of no class.
- figures of all test videos together ("pooled"), with 95 % intervals that count sources. Few test videos show a
  calibration error of several points even if the model is calibrated perfectly; this lower limit is printed next to the
  ECE.
- a table of risk over coverage: error among the given share (number) of videos with the highest score, by each score,
  and the area under that curve.

Shape suffixes: B videos, N numbers of accepted videos, M members, C classes, T frames.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.held_out import joined_groups
from benchmarks.machine import describe
from vidclf.archive import splits
from vidclf.archive.source_names import find_sources
from vidclf.backbones import cnn
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights
from vidclf.config import FitConfig, ModelConfig
from vidclf.ensemble import info as info_module
from vidclf.ensemble.files import load, member_file, write_member
from vidclf.ensemble.inference import Ensemble, EnsembleOutput
from vidclf.ensemble.info import ENSEMBLE_FILE, FittedBackbone, MembersInfo, write_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.features.spec import read_weights_location
from vidclf.metrics.intervals import SourceIntervals
from vidclf.metrics.scores import expected_calibration_error
from vidclf.training.calibrate import calibrate
from vidclf.training.calibration_fit import NUM_FOLDS
from vidclf.training.dataset import TrainingData, training_data
from vidclf.training.feature_sources import found_sources
from vidclf.training.member_fit import fit_member
from vidclf.training.member_folds import plan_member_folds
from vidclf.training.member_folds import recipe as fold_recipe
from vidclf.training.member_plan import data_digest
from vidclf.training.publish import prior_temperature
from vidclf.uncertainty.folds import group_folds
from vidclf.uncertainty.ood import fit_line, fit_space
from vidclf.uncertainty.prediction_sets import in_sets
from vidclf.uncertainty.risk_threshold import CERTIFIED, ESTIMATED, is_accepted
from vidclf.video.decode import decode_video

FRACTIONS = (0.7, 0.2, 0.1)
"""Shares of the videos in the training, validation and test split."""
REFERENCE_THRESHOLD = 0.45
"""Score of the reference formula below which the reference system (the older system) abstains."""
RISK = 0.05
"""Allowed share of wrong labels among accepted videos."""
COVERAGE = 0.95
"""Asked probability that a prediction set holds the true class."""
SIDE = 256
"""Width and height of made clips, in pixels."""
NUM_FRAMES = 40
"""Frames of a made clip."""
CLIPS_A_KIND = 6
"""Made clips of each kind."""
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Shares of the videos, most trusted first, whose error is printed."""


@dataclass(frozen=True, kw_only=True)
class VideoScores:
    """Scores and decisions of an ensemble for a list of videos."""

    confidence_B: npt.NDArray[Any]
    """highest class probability"""
    trust_B: npt.NDArray[Any]
    """trust score"""
    ood_B: npt.NDArray[Any]
    """OOD score; above 1 a video is flagged"""
    reference_B: npt.NDArray[Any]
    """score of the reference formula"""
    accepted_B: npt.NDArray[Any]
    """whether the label is accepted at `RISK`"""
    correct_B: npt.NDArray[Any]
    """whether the label is right; empty for videos of no class"""
    is_held_B: npt.NDArray[Any]
    """whether the prediction set holds the class; empty for videos of no class"""
    set_size_B: npt.NDArray[Any]
    """number of classes in the prediction set"""
    linear_correct_B: npt.NDArray[Any]
    """whether the linear member alone is right; empty for videos of no class, and without a linear member"""
    groups: list[str]
    """source (recording) of each video; empty for videos of no class"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--archive", type=Path, required=True, help="archive of the features; only its name is used, in the heading"
    )
    parser.add_argument("--features", required=True, help="features directory of labelled videos")
    parser.add_argument("--seeds", default="0,1,2,3", help="seeds of the splits, separated by commas")
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        help="cross-validate with this number of folds instead of --seeds (0: no cross-validation)",
    )
    parser.add_argument("--ensembles", type=Path, help="directory in which trained members are stored and reused")
    parser.add_argument(
        "--held-out",
        default="",
        help="seeds for which an ensemble without one class is also trained, separated by commas",
    )
    parser.add_argument(
        "--calibration", default="validation", help="like --calibration of jobs/train.py: validation or cross"
    )
    parser.add_argument(
        "--sources",
        choices=("manifest", "names", "locations"),
        default="manifest",
        help="sources that training and calibration see: those of the manifest; those that file names show; or each "
        "video as its own, as where names show nothing. names and locations need --folds and --calibration cross",
    )
    parser.add_argument("--linear-member", default="auto", help="like --linear-member of jobs/train.py: auto or none")
    parser.add_argument("--model", default="bilstm", help="like --model of jobs/train.py: bilstm or attentive")
    parser.add_argument("--members", type=int, default=4, help="members per ensemble")
    parser.add_argument("--hidden-dim", type=int, default=128, help="like --hidden-dim of jobs/train.py")
    parser.add_argument("--num-lstm-layers", type=int, default=2, help="like --num-lstm-layers of jobs/train.py")
    parser.add_argument(
        "--num-attention-heads", type=int, default=4, help="like --num-attention-heads of jobs/train.py"
    )
    parser.add_argument("--epochs", type=int, default=40, help="epochs per member, at most")
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate")
    arguments = parser.parse_args()
    if 0 < arguments.folds < 4:
        parser.error(f"--folds must be at least 4 (one for test, two for validation), got {arguments.folds}")
    if arguments.sources != "manifest" and not (arguments.folds and arguments.calibration == "cross"):
        parser.error(f"--sources {arguments.sources} needs --folds and --calibration cross")
    features = read_features(arguments.features)
    names = ("model", "hidden_dim", "num_lstm_layers", "num_attention_heads", "epochs", "lr")
    recipe = FitConfig(classifier_dims=(64,), patience=15, **{name: getattr(arguments, name) for name in names})
    print(describe("torch", "scikit-learn"), f"\n{len(features.labels)} videos of {arguments.archive.name}; {recipe}\n")
    made = clips_of_no_class(features, read_weights_location(arguments.features))
    classes = sorted({str(label) for label in features.labels})
    held_out = {int(seed) for seed in arguments.held_out.split(",") if seed}
    rows: list[dict[str, float]] = []
    pooled: list[VideoScores] = []
    with tempfile.TemporaryDirectory() as scratch:
        train_in = partial(
            train,
            recipe=recipe,
            num_members=arguments.members,
            kept_in=arguments.ensembles or scratch,
            has_linear_member=arguments.linear_member == "auto",
            is_crossed=arguments.calibration == "cross",
        )
        seeds = range(arguments.folds) if arguments.folds else map(int, arguments.seeds.split(","))
        for seed in seeds:
            fresh = fold(features, seed, arguments.folds) if arguments.folds else split(features, seed)
            if arguments.sources != "manifest":
                fresh = with_found_sources(fresh, in_names=arguments.sources == "names")
            classifier = train_in(fresh)
            test = of(fresh, np.array(fresh.splits) == "test")
            known, unknown = look(classifier, test.features, test), look(classifier, made)
            row = {"seed": float(seed), **measure(classifier, test, known), **against(known, unknown, "made clips")}
            row.update(space_without(fresh, classes))
            if seed in held_out:
                is_held = np.array(fresh.labels) == classes[seed % len(classes)]
                lacking = train_in(of(fresh, ~is_held))
                others = look(lacking, of(test, np.array(test.labels) != classes[seed % len(classes)]).features)
                row.update(against(others, look(lacking, of(fresh, is_held).features), "class held out of an ensemble"))
            rows.append(row)
            pooled.append(known)
            print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    print("\n| | mean | lowest | highest | seeds |\n|---|---|---|---|---|")
    for name in dict.fromkeys(name for row in rows for name in row if name != "seed"):
        values = [row[name] for row in rows if name in row]
        print(f"| {name} | {np.mean(values):.3f} | {min(values):.3f} | {max(values):.3f} | {len(values)} |")
    report_pooled(pooled)


def look(
    classifier: Ensemble, sequences: Sequence[npt.NDArray[np.float16]], labelled: FeatureSet | None = None
) -> VideoScores:
    """Classify videos, given as feature sequences; `labelled` has their labels and sources, if they belong to classes.
    Acceptance is decided as by `jobs/classify.py --abstain-risk`, at `RISK`."""
    output, validation, mode = classifier([sequences]), classifier.trust, info_module.mode(False)
    found = validation.threshold(mode, RISK, accept_uncertified=True)
    truth = [classifier.info.classes.index(str(label)) for label in labelled.labels] if labelled else []
    sets = validation.set_thresholds(mode, len(classifier.info.classes), COVERAGE)
    assert sets is not None
    inside_BC = in_sets(output.probabilities_BC, sets.lowest_C)
    linear_BC = output.member_probabilities_MBC[len(classifier.info.members) :]
    return VideoScores(
        is_held_B=inside_BC[np.arange(len(truth)), truth] if truth else np.zeros(0, bool),
        set_size_B=inside_BC.sum(axis=1),
        linear_correct_B=(linear_BC.argmax(axis=2) == truth)[0] if truth and len(linear_BC) else np.zeros(0, bool),
        confidence_B=output.probabilities_BC.max(axis=1),
        trust_B=output.trust_score_B,
        ood_B=output.ood_score_B,
        reference_B=reference(classifier, output, sequences),
        accepted_B=is_accepted(output.trust_score_B, output.ood_score_B, found.threshold),
        correct_B=output.probabilities_BC.argmax(axis=1)[: len(truth)] == truth,
        groups=labelled.groups if labelled else [],
    )


def measure(classifier: Ensemble, test: FeatureSet, known: VideoScores) -> dict[str, float]:
    """Figures of one test split: accuracy, calibration and acceptance; `known` are the scores of the test videos."""
    calibration, tta = classifier.info.calibration, look_with_views(classifier, test)
    accepted_by_reference_B = known.reference_B >= REFERENCE_THRESHOLD
    basis = classifier.trust.threshold(info_module.mode(False), RISK, accept_uncertified=False).basis
    return {
        "test accuracy": float(known.correct_B.mean()),
        "test ECE": expected_calibration_error(known.confidence_B, known.correct_B),
        "test ECE if calibrated perfectly": calibrated_ece(known.confidence_B),
        **tta,
        **members_alone(classifier, test),
        "validation ECE before": calibration.ece_before,
        "validation ECE after": calibration.ece_after,
        f"risk {CERTIFIED}": float(basis == CERTIFIED),
        f"risk {ESTIMATED}": float(basis == ESTIMATED),
        "test coverage of sets": float(known.is_held_B.mean()),
        "test size of sets": float(known.set_size_B.mean()),
        "test accepted": float(known.accepted_B.mean()),
        "test error of accepted": error_of(known.correct_B[known.accepted_B]),
        "reference formula: test accepted": float(accepted_by_reference_B.mean()),
        "reference formula: test error of accepted": error_of(known.correct_B[accepted_by_reference_B]),
        "test flagged as OOD": float((known.ood_B > 1).mean()),
    }


def look_with_views(classifier: Ensemble, test: FeatureSet) -> dict[str, float]:
    """Accuracy and calibration error on the test videos, each classified in several views (test-time variants)."""
    probabilities_BC = classifier([test.features], tta=True).probabilities_BC
    correct_B = probabilities_BC.argmax(axis=1) == [classifier.info.classes.index(str(name)) for name in test.labels]
    error = expected_calibration_error(probabilities_BC.max(axis=1), correct_B)
    return {"test accuracy, views": float(correct_B.mean()), "test ECE, views": error}


def members_alone(classifier: Ensemble, test: FeatureSet) -> dict[str, float]:
    """Mean and lowest test accuracy of the single members (models) of the ensemble; with a linear member also its
    accuracy, that of the temporal members together, and its weight."""
    truth = [classifier.info.classes.index(str(name)) for name in test.labels]
    votes_MBC = classifier([test.features]).member_probabilities_MBC
    accuracy_M = (votes_MBC.argmax(axis=2) == truth).mean(axis=1)
    num_temporal, linear = len(classifier.info.members), classifier.info.linear
    temporal_M = accuracy_M[:num_temporal]
    found = {"test accuracy, members' mean": temporal_M.mean(), "test accuracy, least member": temporal_M.min()}
    if linear is not None:
        # All votes have the same temperature, which hardly changes which class their average prefers.
        is_right_B = votes_MBC[:num_temporal].mean(axis=0).argmax(axis=1) == truth
        found["test accuracy, temporal members"] = is_right_B.mean()
        found["test accuracy, linear member"] = accuracy_M[-1]
        found["weight of the linear member"] = linear.looks["full"].weight
    return found


def against(known: VideoScores, unknown: VideoScores, name: str) -> dict[str, float]:
    """How well the scores tell test videos (`known`) from videos of no class (`unknown`, described by `name`)."""
    return {
        f"AUROC of OOD score, {name}": auroc(known.ood_B, unknown.ood_B),
        f"AUROC of 1 - trust, {name}": auroc(-known.trust_B, -unknown.trust_B),
        f"AUROC of 1 - reference formula, {name}": auroc(-known.reference_B, -unknown.reference_B),
        f"flagged as OOD, {name}": float((unknown.ood_B > 1).mean()),
        f"abstained on, {name}": float(1 - unknown.accepted_B.mean()),
        f"reference formula: abstained on, {name}": float((unknown.reference_B < REFERENCE_THRESHOLD).mean()),
    }


def space_without(features: FeatureSet, classes: list[str]) -> dict[str, float]:
    """How well the distance behind the OOD score finds the videos of an unknown class: each class in turn is left out
    when the distribution of the training videos is fitted."""
    found = {}
    for label in classes:
        is_held = np.array(features.labels) == label
        others, splits_B = of(features, ~is_held), np.array(features.splits)[~is_held]
        in_train, in_val = np.flatnonzero(splits_B == "train"), np.flatnonzero(splits_B == "val")
        known = [name for name in classes if name != label]
        of_train = [known.index(str(others.labels[index])) for index in in_train]
        folds_B = group_folds(of_train, [others.groups[index] for index in in_train], NUM_FOLDS)
        space, unseen_distances_B = fit_space(others.features, of_train, folds_B, in_train, in_val)
        ood, _ = fit_line([unseen_distances_B])
        known_B = space.distances(of(others, splits_B == "test").features)
        unknown_B = space.distances(of(features, is_held).features)
        found[f"AUROC of OOD score, {label} held out"] = auroc(known_B, unknown_B)
        found[f"flagged as OOD, {label} held out"] = float((unknown_B > ood.distances[0]).mean())
    for figure in ("AUROC of OOD score", "flagged as OOD"):
        found[f"{figure}, class held out"] = float(np.mean([found[f"{figure}, {label} held out"] for label in classes]))
    return found


def report_pooled(of_splits: list[VideoScores]) -> None:
    """Print the figures of the test videos of all splits together. Each video is classified by an ensemble that was not
    trained on its source."""
    correct_B = np.concatenate([split_scores.correct_B for split_scores in of_splits])
    confidence_B, trust_B, reference_B = (
        np.concatenate([getattr(split_scores, name) for split_scores in of_splits])
        for name in ("confidence_B", "trust_B", "reference_B")
    )
    sources = SourceIntervals([group for split_scores in of_splits for group in split_scores.groups])
    low, high = sources.share(correct_B) or (0.0, 1.0)
    of_sources, of_sources_95 = sources.mean_of_sources(correct_B)
    between = " to ".join(f"{bound:.3f}" for bound in of_sources_95 or (0.0, 1.0))
    print(
        f"\n{len(correct_B)} test videos of {sources.num_sources} sources, all splits together: accuracy "
        f"{correct_B.mean():.3f} ({low:.3f} to {high:.3f}), mean of the sources {of_sources:.3f} ({between}); ECE "
        f"{expected_calibration_error(confidence_B, correct_B):.3f}, "
        f"if calibrated perfectly {calibrated_ece(confidence_B):.3f}; mean confidence {confidence_B.mean():.3f}"
    )
    report_decisions(of_splits)
    num_accepted = sum(int(split_scores.accepted_B.sum()) for split_scores in of_splits)
    scores = {"trust score": trust_B, "confidence": confidence_B, "reference formula": reference_B}
    errors = {}
    for name, score_B in scores.items():
        wrong_B = ~correct_B[np.argsort(-score_B, kind="stable")]
        errors[name] = np.cumsum(wrong_B) / np.arange(1, len(wrong_B) + 1)
    print("\n| error among the most trusted, by | " + " | ".join(errors) + " |\n|---|" + "---|" * len(errors))
    accepted_by_reference = int((reference_B >= REFERENCE_THRESHOLD).sum())
    counts = {f"{share:.2f}": max(1, round(share * len(correct_B))) for share in COVERAGES}
    counts |= {
        "as many as vidclf accepts": num_accepted,
        "as many as the reference formula accepts": accepted_by_reference,
    }
    for name, count in counts.items():
        print(f"| {name} ({count}) | " + " | ".join(f"{risk_N[count - 1]:.3f}" for risk_N in errors.values()) + " |")
    print("| area under this curve | " + " | ".join(f"{risk_N.mean():.4f}" for risk_N in errors.values()) + " |")


def report_decisions(of_splits: list[VideoScores]) -> None:
    """Print what was accepted, how often prediction sets hold the class, and the accuracy of the linear member, for the
    test videos of all splits together."""
    sources = SourceIntervals([group for split_scores in of_splits for group in split_scores.groups])
    correct_B, accepted_B, held_B, size_B, linear_B = (
        np.concatenate([getattr(split_scores, name) for split_scores in of_splits])
        for name in ("correct_B", "accepted_B", "is_held_B", "set_size_B", "linear_correct_B")
    )
    lines = [
        (f"error among accepted at a risk of {RISK:g}", ~correct_B, accepted_B),
        ("accepted", accepted_B, None),
        (f"coverage of the sets ({COVERAGE:g} asked)", held_B, None),
    ]
    if len(linear_B):
        lines.append(("accuracy of the linear member alone", linear_B, None))
    for name, counted_B, inside_B in lines:
        share = counted_B.mean() if inside_B is None else error_of(~counted_B[inside_B])
        low, high = sources.share(counted_B, inside_B) or (0.0, 1.0)
        print(f"{name} {share:.3f} ({low:.3f} to {high:.3f})")
    print(f"mean size of the sets {size_B.mean():.2f}, share of sets of one class {(size_B == 1).mean():.3f}")


def calibrated_ece(confidence_B: npt.NDArray[Any], num_draws: int = 1000) -> float:
    """Expected calibration error that a perfectly calibrated model would show on so few videos: the mean over random
    draws in which each video is right with the probability of its confidence."""
    generator = np.random.default_rng(0)
    draws = generator.uniform(size=(num_draws, len(confidence_B))) < confidence_B
    return float(np.mean([expected_calibration_error(confidence_B, correct_B) for correct_B in draws]))


def error_of(correct_B: npt.NDArray[Any]) -> float:
    """Share of wrong labels; 0 if there are no videos."""
    return float(1 - correct_B.mean()) if len(correct_B) else 0.0


def split(features: FeatureSet, seed: int) -> FeatureSet:
    """The same features, split anew by source (recording) into training, validation and test. Sources that share near
    duplicates count as one."""
    features = replace(features, groups=joined_groups(features))
    labels = [str(label) for label in features.labels]
    names = splits.assign(labels, features.sublabels, features.groups, FRACTIONS, seed)
    return replace(features, splits=list(names))


def fold(features: FeatureSet, number: int, num_folds: int) -> FeatureSet:
    """The same features, split for round `number` of a cross-validation over the sources: that fold is the test split,
    the next two folds are the validation split. Sources that share near duplicates count as one."""
    features = replace(features, groups=joined_groups(features))
    labels = sorted({str(label) for label in features.labels})
    folds_B = group_folds([labels.index(str(label)) for label in features.labels], features.groups, num_folds)
    names = np.array(["test", "val", "val", *["train"] * (num_folds - 3)])[(folds_B - number) % num_folds]
    return replace(features, splits=names.tolist())


def with_found_sources(features: FeatureSet, *, in_names: bool) -> FeatureSet:
    """The same features without the manifest's sources of train and validation videos: with `in_names` those that file
    names show, otherwise each video as its own source. Sources that share near duplicates count as one."""
    groups = list(features.video_uris)
    if in_names:
        columns = zip(features.video_uris, features.labels, features.sublabels, strict=True)
        rows = [{"video_uri": uri, "label": label, "sublabel": sublabel} for uri, label, sublabel in columns]
        found = find_sources(rows, in_directories=True).found
        groups = [source.name if source else uri for source, uri in zip(found, groups, strict=True)]
    joined = joined_groups(replace(features, groups=groups))
    chosen = zip(features.groups, joined, features.splits, strict=True)
    return replace(features, groups=[known if split == "test" else group for known, group, split in chosen])


def of(features: FeatureSet, keep: npt.NDArray[np.bool_]) -> FeatureSet:
    """The features of only those videos for which `keep` is True."""
    chosen = np.flatnonzero(keep).tolist()
    lists = [field.name for field in fields(FeatureSet) if field.name != "spec"]
    kept: dict[str, Any] = {name: [getattr(features, name)[index] for index in chosen] for name in lists}
    return replace(features, **kept)


def train(
    features: FeatureSet,
    recipe: FitConfig,
    num_members: int,
    kept_in: str | Path,
    first_look: FeatureSet | None = None,
    *,
    has_linear_member: bool = False,
    is_crossed: bool = False,
    keeps_fits: bool = False,
) -> Ensemble:
    """Train an ensemble, one member per core, and fit it on the validation split, or with `is_crossed` by a cross
    calibration on train and validation videos.

    Members are stored below the directory `kept_in`; those that are there already are not trained again. With
    `keeps_fits`, the fits that are there are not repeated either, whatever their linear member. With
    `first_look` (features of a few keyframes of the same videos), the early looks of progressive classification are
    fitted too; with `has_linear_member` the ensemble gets a linear member.
    """
    found = [found_sources(features).clusters]  # sources without a name, by features
    member_folds = plan_member_folds(features, num_members, found) if is_crossed else None
    if member_folds is None:
        data = [training_data(features)] * num_members
    else:
        recipe = fold_recipe(recipe)
        data = [member_folds.data(features, member_folds.left_out_by(index)) for index in range(num_members)]
    settings = asdict(recipe)
    if recipe.model == "bilstm":
        del settings["model"]  # members that were stored before there was a choice are found again
    classes, decisive = data[0].classes, [settings, data_digest([features])]
    if member_folds is not None:
        decisive.append(member_folds.fold_N.tolist())
    key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]
    directory = Path(kept_in) / key
    if keeps_fits and (directory / ENSEMBLE_FILE).exists():
        return load(str(directory), torch.device("cpu"))
    files = [directory / member_file(index) for index in range(num_members)]
    missing = [index for index, file in enumerate(files) if not file.exists()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        before_s = cpu_of_children_s()
        with concurrent.futures.ProcessPoolExecutor(min(len(missing), os.cpu_count() or 1), spawn) as pool:
            list(pool.map(partial(train_member, str(directory), data, recipe), missing))
        print(f"{len(missing)} members trained in {cpu_of_children_s() - before_s:.1f} CPU seconds", flush=True)
    members = [
        MemberRecord(
            file=file.name,
            backbone=features.spec.backbone,
            digest=hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for file in files
    ]
    info = MembersInfo(
        classes=classes,
        backbones=[FittedBackbone.of(features.spec, "")],
        model=ModelConfig(**{name: getattr(recipe, name) for name in ModelConfig.__dataclass_fields__}),
        members=members,
        training=(
            {"calibration": "cross", "num_left_out_folds": member_folds.num_folds} if member_folds is not None else {}
        ),
        versions={},
    )
    first_looks = [first_look] if first_look else None
    info = calibrate(
        str(directory),
        info,
        [features],
        first_looks,
        prior_temperature=prior_temperature(recipe, members, len(classes)),
        has_linear_member=has_linear_member,
        member_folds=member_folds,
    )
    write_info(str(directory), info)
    return load(str(directory), torch.device("cpu"))


def cpu_of_children_s() -> float:
    """CPU seconds of all processes that this process has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def train_member(directory: str, data: Sequence[TrainingData], recipe: FitConfig, index: int) -> None:
    """Train one member (model) in a process of its own and write it into `directory`. `data` has one entry per
    member."""
    torch.set_num_threads(1)
    write_member(directory, index, fit_member(data[index], recipe, index, torch.device("cpu")).state)


def auroc(known_B: npt.NDArray[Any], unknown_B: npt.NDArray[Any]) -> float:
    """Area under the ROC curve (probability that a random unknown video has a higher score than a known one)."""
    return float(roc_auc_score([0] * len(known_B) + [1] * len(unknown_B), np.concatenate([known_B, unknown_B])))


def reference(
    classifier: Ensemble, output: EnsembleOutput, sequences: Sequence[npt.NDArray[np.float16]]
) -> npt.NDArray[np.float64]:
    """Trust score by the formula of the reference system (the older system), as an array [videos]; see the module's
    docstring."""
    sorted_BC = np.sort(output.probabilities_BC.astype(np.float64), axis=1)
    entropy_B = -(sorted_BC * np.log(np.maximum(sorted_BC, 1e-12))).sum(axis=1) / np.log(sorted_BC.shape[1])
    focus_B = np.array([focus(weights_T.astype(np.float64)) for weights_T in output.attention])
    agreement_B = classifier.trust.discriminants[0].agreement(sequences, output.probabilities_BC.argmax(axis=1))
    gap_B = sorted_BC[:, -1] - sorted_BC[:, -2]
    score_B: npt.NDArray[np.float64] = (
        0.25 * sorted_BC[:, -1] + 0.20 * gap_B + 0.20 * (1 - entropy_B) + 0.15 * focus_B + 0.20 * agreement_B
    )
    return score_B


def focus(weights_T: npt.NDArray[np.float64]) -> float:
    """Focus of the attention on few frames: 1 - entropy of the pooling weights / log T; 1 for a single frame."""
    if len(weights_T) < 2:
        return 1.0
    return float(1 + (weights_T * np.log(np.maximum(weights_T, 1e-12))).sum() / np.log(len(weights_T)))


def clips_of_no_class(features: FeatureSet, weights: str) -> list[npt.NDArray[np.float16]]:
    """Features of the made clips. Each clip is encoded to a file, decoded and put through the backbone, like the videos
    of `features`."""
    state = load_weights(features.spec.backbone, weights)
    network = cnn.build(resolve(features.spec.backbone, weights), state, "cpu")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, frames_THWC in enumerate(made_clips()):
            path = Path(folder) / f"{number}.mp4"
            encode(path, frames_THWC)
            video = decode_video(str(path), features.spec.plan, network.model.preprocessing.transform)
            found.append(network(torch.from_numpy(video.frames_THWC)).numpy().astype(np.float16))
    return found


def made_clips() -> list[npt.NDArray[np.uint8]]:
    """Frames of the made clips: noise, coarse noise, solid colours, bars, ramps and chequers."""
    generator = np.random.default_rng(0)
    clips: list[npt.NDArray[np.uint8]] = []
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(CLIPS_A_KIND):
        clips.append(generator.integers(0, 256, (NUM_FRAMES, SIDE, SIDE, 3), dtype=np.uint8))
        cells = generator.integers(0, 256, (NUM_FRAMES, 16 * (number + 1), 16 * (number + 1), 3), dtype=np.uint8)
        clips.append(np.stack([np.asarray(cv2.resize(frame, (SIDE, SIDE)), np.uint8) for frame in cells]))
        colours = generator.integers(0, 256, (4 + number, 3), dtype=np.uint8)
        ramp = np.rot90((x * 255 // (SIDE - 1)).astype(np.uint8), number)
        squares = ((y // (8 * (number + 1)) + x // (8 * (number + 1))) % 2 * 255).astype(np.uint8)
        stills = (colours[np.zeros_like(x)], colours[x * len(colours) // SIDE], ramp, squares)
        for still in stills:
            image = still if still.ndim == 3 else np.repeat(still[:, :, None], 3, axis=2)
            clips.append(np.repeat(image[None], NUM_FRAMES, axis=0))
    return clips


def encode(path: Path, frames_THWC: npt.NDArray[np.uint8]) -> None:
    """Encode frames as an H.264 file at `path`, with 10 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for image in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
