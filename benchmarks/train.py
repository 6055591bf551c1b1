"""Training benchmarks: collapsed members by recipe, the cures of a collapse, and the speed of training.

    python benchmarks/train.py --features DIR [--seeds 10] [--epochs 150]                    (recipes)
    python benchmarks/train.py --features DIR --ablation all --seeds 4 --epochs 40           (cures)
    python benchmarks/train.py --synthetic [--members 4] [--epochs 10]                       (speed)

A member is one model of an ensemble. It collapses if its training settles on a constant answer. A recipe is a set of
training settings: `robust` is the default; `reference` repeats the training of the older system whose checkpoints
vidclf reads, in which some members collapse.

Recipes: trains one member per seed and recipe, in processes without Ray, one per core. The default sizes suit a laptop.
The table has one row per seed and one column per recipe, with four values: validation accuracy, test accuracy, best
epoch of the epochs trained, F1 of the worst class. A line per recipe summarises its members. A member counts as
collapsed if its validation accuracy is below 0.9 of that of the recipe's best member.

Cures: starts from the reference recipe and adds the cures (`CURES`, settings of the robust recipe) one at a time, and
starts from the robust recipe and removes them one at a time. All members train for all epochs. `--ablation` also
accepts names of `VARIANTS`. The table has one row per variant:

- epochs on the plateau (a low accuracy on which a collapsed member stays for ever): median and maximum over the
  members;
- never off it: members that were still on the plateau after the last epoch;
- collapsed by the draws: members that the check in training would have started again;
- the last three columns: validation accuracy of the epoch that is kept as best by accuracy, the same if it is kept by
  macro F1, and F1 of the worst class for the latter; each as median and minimum over the members.

Speed: trains an ensemble with the code of `jobs/train.py` on synthetic features that can be learnt (`--videos` videos
of 73 frames × 1280 numbers), first with all members in parallel, then one after another, and prints the wall times. It
also prints the time of one training step next to the time of its matrix products alone.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.held_out import held_out
from benchmarks.machine import describe
from vidclf.config import FitConfig, TrainConfig
from vidclf.config.train import RECIPES
from vidclf.ensemble.temporal_model import TemporalClassifier, initialize, num_parameters
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.features.spec import FeatureSpec
from vidclf.training.dataset import Batches, Sequences, training_data
from vidclf.training.loss import focal_loss
from vidclf.training.member_fit import fit_member, has_collapsed, predict, score
from vidclf.training.member_state import Epoch

COLLAPSED = 0.9
"""A member counts as collapsed if its validation accuracy is below this share of the best member's."""

CURES: dict[str, dict[str, Any]] = {
    "warm-up": {"warmup_epochs": FitConfig.warmup_epochs},
    "orthogonal initialisation": {"initialization": FitConfig.initialization},
    "no class weights": {"class_weights": FitConfig.class_weights},
    "multi-scale": {"multi_scale": FitConfig.multi_scale},
    "other augmentation": {
        name: getattr(FitConfig, name) for name in ("min_kept_frames", "max_shift", "feature_noise")
    },
}
"""Settings of the robust recipe that change the training steps of a member, by name.

Two more settings of that recipe are not listed. Selection by macro F1 only changes which epoch is kept, and a restart
only what happens after a collapse; the table reports both for every variant.
"""

VARIANTS: dict[str, dict[str, Any]] = {
    "reference": RECIPES["reference"],
    **{f"reference + {name}": {**RECIPES["reference"], **cure} for name, cure in CURES.items()},
    "robust": {},
    **{f"robust - {name}": {field: RECIPES["reference"][field] for field in cure} for name, cure in CURES.items()},
}
"""Training settings of each row of the ablation table, as changes to the defaults of `FitConfig`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", help="features directory split by source (videos of one recording in one split)")
    parser.add_argument("--synthetic", action="store_true", help="measure the speed of training on synthetic features")
    parser.add_argument("--seeds", type=int, default=10, help="members per recipe or variant")
    parser.add_argument("--members", type=int, default=4, help="members of the synthetic ensemble")
    parser.add_argument("--videos", type=int, default=240, help="number of synthetic videos")
    parser.add_argument("--epochs", type=int, default=150, help="epochs per member, at most")
    parser.add_argument("--patience", type=int, default=25, help="epochs without a better score before training stops")
    parser.add_argument("--hidden-dim", type=int, default=96, help="units of the temporal model")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="recipes, separated by commas")
    parser.add_argument(
        "--ablation", help=f"measure the cures: all, or variants separated by commas: {', '.join(VARIANTS)}"
    )
    arguments = parser.parse_args()
    sizes = {
        "hidden_dim": arguments.hidden_dim,
        "classifier_dims": (arguments.hidden_dim, arguments.hidden_dim * 2 // 3, arguments.hidden_dim // 3),
        "epochs": arguments.epochs,
        "patience": arguments.patience,
    }
    print(describe("torch", "ray", "numpy"), "\n")
    if arguments.synthetic:
        in_parallel(arguments.members, arguments.videos, sizes)
        one_step(sizes)
    elif arguments.ablation is not None:
        names = list(VARIANTS) if arguments.ablation == "all" else arguments.ablation.split(",")
        ablation(arguments.features, names, arguments.seeds, {**sizes, "patience": arguments.epochs})
    else:
        recipes(arguments.features, arguments.recipes.split(","), arguments.seeds, sizes)


def recipes(features: str, names: list[str], num_seeds: int, sizes: dict[str, Any]) -> None:
    """Train `num_seeds` members with each recipe in `names` and print the table and a summary of each recipe."""
    jobs = [(features, name, seed, sizes) for seed in range(num_seeds) for name in names]
    with concurrent.futures.ProcessPoolExecutor(
        os.cpu_count(), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        found = list(pool.map(member, *zip(*jobs, strict=True)))
    print("| seed | " + " | ".join(f"{name}: validation, test, best epoch of, worst class F1" for name in names) + " |")
    print("|---|" + "---|" * len(names))
    for seed in range(num_seeds):
        rows = [found[seed * len(names) + index] for index in range(len(names))]
        print(f"| {seed} | " + " | ".join(row["text"] for row in rows) + " |")
    for index, name in enumerate(names):
        members = found[index :: len(names)]
        accuracies = [row["val"] for row in members]
        num_collapsed = sum(accuracy < COLLAPSED * max(accuracies) for accuracy in accuracies)
        print(
            f"\n{name}: validation accuracy {min(accuracies):.3f} to {max(accuracies):.3f}, {num_collapsed} of "
            f"{num_seeds} under {COLLAPSED} of the best; epochs until half of the best accuracy's error was gone, "
            f"median {statistics.median(row['settled'] for row in members):.0f}; restarts "
            f"{sum(row['attempts'] - 1 for row in members)}; "
            f"test accuracy, median {statistics.median(row['test'] for row in members):.3f}; "
            f"seconds a member, median {statistics.median(row['seconds'] for row in members):.0f}"
        )


def member(features: str, recipe: str, seed: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """Train and test one member (run in a process of its own).

    Returns `val` and `test` (accuracies), `settled` (first epoch whose accuracy is at least halfway from guessing to
    the best), `attempts` (trainings begun, with restarts), `seconds` (time for all of this) and `text` (its table
    cell).
    """
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    found = read_features(features)
    data = training_data(found)
    chosen = held_out(found)
    test = Batches(
        Sequences.of([found.features[i] for i in chosen], [data.classes.index(str(found.labels[i])) for i in chosen]),
        cpu,
    )
    config = FitConfig(**{**RECIPES[recipe], "recipe": recipe, **sizes})
    started = time.perf_counter()
    fitted = fit_member(data, config, seed, cpu)
    model = TemporalClassifier(data.feature_dim, len(data.classes), config)
    model.load_state_dict(fitted.state)
    correct_B = predict(model, test, config.batch_size, cpu).argmax(dim=1) == test.labels_B
    best = fitted.best
    halfway = (1 / len(data.classes) + best.val_accuracy) / 2
    settled = next(number for number, epoch in enumerate(fitted.history, 1) if epoch.val_accuracy >= halfway)
    accuracy = float(correct_B.float().mean())
    print(f"{recipe} {seed}: {best.val_accuracy:.3f} {accuracy:.3f}", file=sys.stderr, flush=True)
    return {
        "val": best.val_accuracy,
        "test": accuracy,
        "settled": settled,
        "attempts": fitted.num_attempts,
        "seconds": time.perf_counter() - started,
        "text": f"{best.val_accuracy:.3f}, {accuracy:.3f}, {best.number} of {len(fitted.history)}, "
        f"{min(best.val_f1):.3f}",
    }


def ablation(features: str, names: list[str], num_seeds: int, sizes: dict[str, Any]) -> None:
    """Train `num_seeds` members of each variant in `names` and print one table row per variant.

    A member leaves the plateau at the first epoch that reaches `COLLAPSED` times the best accuracy of any member of its
    variant.
    """
    jobs = [(features, name, seed, sizes) for name in names for seed in range(num_seeds)]
    with concurrent.futures.ProcessPoolExecutor(
        os.cpu_count(), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        found = list(pool.map(epochs_of, *zip(*jobs, strict=True)))
    print(
        "| recipe | epochs on the plateau: median, most | never off it | collapsed by the draws of epoch "
        f"{FitConfig.collapse_epoch} | kept by accuracy: validation accuracy, median, worst | kept by macro F1 | "
        "its worst class's F1, median, worst |"
    )
    print("|---|" + "---|" * 6)
    for start, name in zip(range(0, len(found), num_seeds), names, strict=True):
        members = found[start : start + num_seeds]
        goal = COLLAPSED * max(epoch.val_accuracy for history in members for epoch in history)
        plateau_epochs = [
            next((number for number, epoch in enumerate(history) if epoch.val_accuracy >= goal), math.inf)
            for history in members
        ]
        at_check = [epoch for history in members for epoch in history if epoch.number == FitConfig.collapse_epoch]
        kept = {
            selection: [max(history, key=partial(score, config=FitConfig(selection=selection))) for history in members]
            for selection in ("accuracy", "macro_f1")
        }
        accuracies = {selection: [epoch.val_accuracy for epoch in epochs] for selection, epochs in kept.items()}
        worst_f1 = [min(epoch.val_f1) for epoch in kept["macro_f1"]]
        print(
            f"| {name} | {_epochs(statistics.median(plateau_epochs))}, {_epochs(max(plateau_epochs))} | "
            f"{plateau_epochs.count(math.inf)} of {num_seeds} | {sum(map(has_collapsed, at_check))} of {num_seeds} | "
            + " | ".join(
                f"{statistics.median(values):.3f}, {min(values):.3f}" for values in (*accuracies.values(), worst_f1)
            )
            + " |",
            flush=True,
        )


def _epochs(number: float) -> str:
    """Number of epochs as text; "all" for infinity."""
    return "all" if math.isinf(number) else f"{number:g}"


def epochs_of(features: str, variant: str, seed: int, sizes: dict[str, Any]) -> list[Epoch]:
    """Train one member without restarts (run in a process of its own); return the figures of all its epochs."""
    torch.set_num_threads(1)
    config = FitConfig(**{**VARIANTS[variant], **sizes, "max_restarts": 0})
    fitted = fit_member(training_data(read_features(features)), config, seed, torch.device("cpu"))
    seconds = sum(epoch.duration_s for epoch in fitted.history)
    print(f"{variant} {seed}: {fitted.best.val_accuracy:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return fitted.history


def in_parallel(num_members: int, num_videos: int, sizes: dict[str, Any]) -> None:
    """Print the wall time of training an ensemble with its members in parallel and one after another, calibration
    included."""
    from vidclf.training.train import train

    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(features=("synthetic",), output=f"{folder}/warm-up", **sizes)
        # The first run starts Ray and is not timed.
        train(replace(config, members=1, epochs=1), [synthetic(num_videos)], ["DEFAULT"])
        started = time.perf_counter()
        train(replace(config, members=num_members, output=f"{folder}/together"), [synthetic(num_videos)], ["DEFAULT"])
        seconds["together"] = time.perf_counter() - started
        started = time.perf_counter()
        for count in range(1, num_members + 1):
            # Each run asks for one member more in the same directory, and trains only that one.
            train(replace(config, members=count, output=f"{folder}/in turn"), [synthetic(num_videos)], ["DEFAULT"])
        seconds["in turn"] = time.perf_counter() - started
    together, in_turn = seconds["together"], seconds["in turn"]
    print(
        f"{num_members} members of {sizes['epochs']} epochs over {num_videos} videos: together {together:.0f} s, one "
        f"after another {in_turn:.0f} s, ratio {in_turn / together:.2f}"
    )


def synthetic(num_videos: int) -> FeatureSet:
    """Random features of `num_videos` videos (73 frames × 1280 numbers) in four classes, each with its own mean."""
    generator = np.random.default_rng(0)
    labels = ["ABCD"[index % 4] for index in range(num_videos)]
    means = generator.normal(0, 0.2, (4, 1280)).astype(np.float32)
    names = [f"{index:05}" for index in range(num_videos)]
    return FeatureSet(
        spec=FeatureSpec(
            backbone="efficientnet_lite0", weights_digest="0", sampling={}, transform={}, decoder="d", dtype="float16"
        ),
        video_ids=names,
        video_uris=names,
        labels=list(labels),
        sublabels=[None] * num_videos,
        groups=names,
        splits=["val" if index % 5 == 4 else "train" for index in range(num_videos)],
        content_digests=names,
        features=[
            (means["ABCD".index(label)] + generator.normal(0, 1, (73, 1280))).astype(np.float16) for label in labels
        ],
    )


def one_step(sizes: dict[str, Any], batch_size: int = 48, num_frames: int = 73, rounds: int = 5) -> None:
    """Print the time of a training step and of the matrix products of its forward and backward pass alone, with one
    thread."""
    torch.set_num_threads(1)
    config = FitConfig(**sizes)
    model = TemporalClassifier(1280, 4, config)
    initialize(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    features_BTD = torch.randn(batch_size, num_frames, 1280)
    lengths_B, labels_B = torch.full((batch_size,), num_frames), torch.randint(4, (batch_size,))

    def step() -> None:
        """Forward pass, backward pass and update of the weights."""
        loss = focal_loss(model(features_BTD, lengths_B).logits_BC, labels_B, gamma=2.0, smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    # Rows, inner size, columns and count of each matrix product of the forward pass. The backward pass has two products
    # of the same cost for each of them.
    width, frames = config.hidden_dim, batch_size * num_frames
    products = [(frames, 1280, width, 1)]
    for layer in range(config.num_lstm_layers):
        products += [(frames, width if layer == 0 else 2 * width, 4 * width, 2)]
        products += [(batch_size, width, 4 * width, 2 * num_frames)]
    products += [(frames, 2 * width, 6 * width, 1), (frames, 2 * width, 2 * width, 1), (frames, 2 * width, width, 1)]
    operands = [(torch.randn(m, k), torch.randn(k, n), 3 * times) for m, k, n, times in products]

    def floor() -> None:
        """Only the matrix products of a step: a lower bound of its time."""
        for left, right, times in operands:
            for _ in range(times):
                left @ right

    taken: dict[str, list[float]] = {"step": [], "floor": []}
    for number in range(rounds + 1):
        for name, act in (("step", step), ("floor", floor)):
            started = time.perf_counter()
            act()
            if number:
                taken[name].append(time.perf_counter() - started)
    step_s, floor_s = (statistics.median(taken[name]) for name in ("step", "floor"))
    print(
        f"a step of {batch_size} videos, {num_parameters(model) / 1e6:.1f} M parameters: {step_s:.2f} s, its matrix "
        f"products alone {floor_s:.2f} s, ratio {step_s / floor_s:.2f}"
    )


if __name__ == "__main__":
    main()
