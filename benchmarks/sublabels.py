"""Weight of the loss of the sublabels: what it teaches about sublabels, and what it costs the classes.

    python benchmarks/sublabels.py --features DIR [--weights 0,0.1,0.3,1] [--seeds 0,1,2]

Trains a small member per weight and seed, with sublabels from the train split. Sublabels are judged within the true
class, so that errors of the class do not count twice. With weight 0 the head of the sublabels is not trained. The
output is a table of means over the seeds, on the validation videos (which select the epoch) and the test videos.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.machine import describe
from vidclf.config import FitConfig
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.sublabels import split_probabilities
from vidclf.features.feature_set import read_features
from vidclf.training import sublabels
from vidclf.training.dataset import Batches, Sequences, TrainingData, training_data
from vidclf.training.member_fit import fit_member, predict
from vidclf.uncertainty.hierarchy import UNKNOWN

RECIPE = FitConfig(
    hidden_dim=64,
    num_attention_heads=4,
    num_lstm_layers=1,
    classifier_dims=(64,),
    epochs=20,
    patience=20,
    num_frames=16,
)
"""The small member."""

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features directory of videos with labels and sublabels")
    parser.add_argument("--weights", default="0,0.1,0.3,1", help="weights to compare, separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    features = read_features(arguments.features)
    taxonomy = sublabels.taxonomy_of(features)
    data = training_data(features, taxonomy=taxonomy)
    # The test videos in the place of the validation videos.
    as_val = ["val" if split == "test" else None if split == "val" else split for split in features.splits]
    test = training_data(replace(features, splits=as_val), data.classes, taxonomy=taxonomy).val
    print(describe("torch"), f"\n{len(data.val.labels)} validation and {len(test.labels)} test videos\n")
    print(
        "| weight | accuracy of classes, val | test | log loss of classes, val | test | sublabels right, val | test |"
    )
    print("|---|---|---|---|---|---|---|")
    for weight in map(float, arguments.weights.split(",")):
        rows = []
        for seed in map(int, arguments.seeds.split(",")):
            with mock.patch.object(sublabels, "LOSS_WEIGHT", weight):
                state = fit_member(data, RECIPE, seed, CPU).state
            on_val, on_test = (judged(data, state, part) for part in (data.val, test))
            rows.append([value for pair in zip(on_val, on_test, strict=True) for value in pair])
        means = (statistics.mean(column) for column in zip(*rows, strict=True))
        print(f"| {weight:g} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |", flush=True)


def judged(data: TrainingData, state: dict[str, torch.Tensor], part: Sequences) -> tuple[float, float, float]:
    """Accuracy and log loss of the classes, and the share of videos whose sublabel is right within the true class."""
    model = build_model(data.feature_dim, data.hierarchy.num_outputs, RECIPE)
    model.load_state_dict(state)
    logits = predict(model, Batches(part, CPU), 32, CPU)
    probabilities_BC, conditional_BL = split_probabilities(logits, data.hierarchy)
    assert conditional_BL is not None, "the features have no sublabels to learn"
    labels_B, sublabels_B = np.array(part.labels), np.array(part.sublabels)
    of_truth_B = probabilities_BC[np.arange(len(labels_B)), labels_B]
    top_B = data.hierarchy.top_sublabels(conditional_BL, labels_B)
    is_known_B = sublabels_B != UNKNOWN
    return (
        float((probabilities_BC.argmax(axis=1) == labels_B).mean()),
        float(-np.log(of_truth_B).mean()),
        float((top_B == sublabels_B)[is_known_B].mean()),
    )


if __name__ == "__main__":
    main()
