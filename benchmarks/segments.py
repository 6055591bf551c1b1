"""Calibration error of segments (parts of a video) by their number of frames, on videos that training has not seen.

    python benchmarks/segments.py --features DIR [--folds 5] [--ensembles DIR]

Cross-validates over the sources: each video is in the test split of one fold, and two folds are the validation split.
Segments are taken from test videos as calibration takes them from validation videos: at most 3 per video and length,
without overlap. A segment counts as right if its most probable class is that of its video. Each row of the table pools
all folds. Columns:

- accuracy: share of segments that are right;
- ECE, none: expected calibration error without a temperature;
- ECE, whole videos': with the temperature of whole videos;
- ECE, own: with the temperature for this number of frames.

The last rows are whole videos, with the temperature fitted with a prior around 1 and around the temperature that
corrects the focal loss (`vidclf/uncertainty/focal_optimum.py`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import describe
from benchmarks.trust import fold, of, train
from vidclf.config import FitConfig
from vidclf.ensemble.info import EnsembleInfo, read_info
from vidclf.ensemble.segment_temperature import segment_temperatures
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.metrics.scores import expected_calibration_error
from vidclf.training import segment_calibration
from vidclf.training.member_votes import VoteRequest, Voting
from vidclf.training.publish import prior_temperature
from vidclf.uncertainty.temperature import fit_temperature, tempered

Results = dict[tuple[str, str], list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]]
"""Confidences and correctness of segments, one entry per fold, by row of the table and by temperature."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directory of labelled videos")
    parser.add_argument("--folds", type=int, default=5, help="number of folds of the cross-validation, at least 4")
    parser.add_argument("--ensembles", type=Path, help="directory in which trained members are stored and reused")
    parser.add_argument("--members", type=int, default=2, help="members per ensemble")
    parser.add_argument("--hidden-dim", type=int, default=64, help="like --hidden-dim of jobs/train.py")
    parser.add_argument("--epochs", type=int, default=30, help="epochs per member, at most")
    arguments = parser.parse_args()
    if arguments.folds < 4:
        parser.error(f"--folds must be at least 4 (one for test, two for validation), got {arguments.folds}")
    features = read_features(arguments.features)
    recipe = FitConfig(
        classifier_dims=(64,),
        patience=15,
        num_lstm_layers=1,
        num_attention_heads=4,
        hidden_dim=arguments.hidden_dim,
        epochs=arguments.epochs,
    )
    print(describe("torch"), f"\n{len(features.labels)} videos of {len(set(features.groups))} sources; {recipe}\n")
    results: Results = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        kept_in = arguments.ensembles or Path(scratch)
        for number in range(arguments.folds):
            fresh = fold(features, number, arguments.folds)
            info = train(fresh, recipe, arguments.members, kept_in).info
            directory = next(path.parent for path in kept_in.glob("*/ensemble.json") if _is_of(path.parent, info))
            measure(fresh, str(directory), info, recipe, results)
    print("| frames | segments | accuracy | ECE, none | ECE, whole videos' | ECE, own |\n|---|---|---|---|---|---|")
    for row in dict.fromkeys(name for name, _ in results):
        eces = {kind: _ece(results[row, kind]) for kind in ("none", "whole", "own")}
        correct = np.concatenate([correct_P for _, correct_P in results[row, "none"]])
        print(
            f"| {row} | {len(correct)} | {correct.mean():.3f} | " + " | ".join(f"{e:.3f}" for e in eces.values()), "|"
        )


def measure(features: FeatureSet, directory: str, info: EnsembleInfo, recipe: FitConfig, results: Results) -> None:
    """Add the segments and the whole videos of the test split of one fold to `results`."""
    test, val = (of(features, np.array(features.splits) == name) for name in ("test", "val"))
    samples = segment_calibration.samples([test.features])
    requests = [VoteRequest(sequences_S=sample.sequences_S, views=("original",)) for sample in samples]
    requests += [VoteRequest(sequences_S=[videos.features], views=("original",)) for videos in (test, val)]
    *votes, of_test, of_val = (
        probabilities[0].mean(axis=0) for probabilities in Voting(0.0)(directory, info, requests)
    )
    whole = info.calibration.temperature
    num_frames = info.backbones[0].feature_spec.plan.num_frames
    labels_B, val_labels_B = (np.array([info.classes.index(str(label)) for label in one.labels]) for one in (test, val))
    for sample, probabilities_PC in zip(samples, votes, strict=True):
        (own,) = segment_temperatures(info.segments, num_frames, whole, [sample.num_frames])
        temperatures = {"none": 1.0, "whole": whole, "own": float(own)}
        _add(results, str(sample.num_frames), probabilities_PC, labels_B[sample.video_P], temperatures)
    prior = prior_temperature(recipe, info.members, len(info.classes))
    for name, centre in (("whole videos, prior 1", 1.0), ("whole videos, prior of the loss", prior)):
        fitted = fit_temperature(of_val, val_labels_B, centre)
        _add(results, name, of_test, labels_B, {"none": 1.0, "whole": fitted, "own": fitted})


def _add(
    results: Results,
    row: str,
    probabilities_PC: npt.NDArray[Any],
    labels_P: npt.NDArray[Any],
    temperatures: dict[str, float],
) -> None:
    """Add the confidences at each of `temperatures` to a row of the table."""
    for kind, temperature in temperatures.items():
        confidence_P = tempered(probabilities_PC, temperature).max(axis=1)
        results[row, kind].append((confidence_P, probabilities_PC.argmax(axis=1) == labels_P))


def _ece(parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """Expected calibration error of all folds together."""
    confidence_P, correct_P = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return expected_calibration_error(confidence_P, correct_P)


def _is_of(directory: Path, info: EnsembleInfo) -> bool:
    """Whether `directory` holds the ensemble that `info` describes."""
    return read_info(str(directory)).ensemble_id == info.ensemble_id


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
