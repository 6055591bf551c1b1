"""Costs and benefits of a hyperparameter search: overhead per trial, parallel trials, ASHA, best trial against default.

    python benchmarks/tune.py --synthetic [--trials 32]                  (overhead, parallel)
    python benchmarks/tune.py --features DIR [--trials 32]               (scores)

A trial is the training of one model with one choice of hyperparameters. ASHA is a scheduler that stops poor trials
early.

Overhead: searches on synthetic features with the code of `jobs/tune.py`. First it runs trials of one epoch, whose wall
time is almost all overhead; then longer trials (`--epochs`), one at a time with all cores and again with one trial on
each core. It prints the wall times, the seconds of training and the ratio of the two ways.

Scores: searches `SPACE` (small models that train on a laptop) with ASHA, then without ASHA for the same wall time, with
the same seed. The first table has one row per search: trials begun, epochs of all trials together, wall time, best
macro F1 on the validation split, and the number of the trial that reached it (in order of their start). Then the script
trains the best trial of each search and the default settings (`SIZES`) again with `--retrained` seeds, because the
validation score by which a trial was chosen is too optimistic. The second table has the validation and test scores of
these trainings. The last line has the test scores of an ensemble of the four trials chosen from the ASHA search.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import yaml

from benchmarks.held_out import held_out
from benchmarks.machine import describe
from benchmarks.train import synthetic
from vidclf import ray_cluster
from vidclf.config import FitConfig, TuneConfig
from vidclf.ensemble import files
from vidclf.ensemble.held_out import held_out_rows
from vidclf.ensemble.split_record import read_record
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.features.spec import read_weights_location
from vidclf.metrics.scores import evaluate
from vidclf.training.dataset import Batches, Sequences, training_data
from vidclf.training.member_fit import fit_member, predict
from vidclf.tuning import trial_files
from vidclf.tuning.tune import SearchResult, tune

SIZES = {"hidden_dim": 64, "num_lstm_layers": 2, "num_attention_heads": 4, "classifier_dims": [64, 32], "epochs": 40}
"""Model sizes and epochs used as the default settings here, because the real default sizes take hours on two cores."""

SPACE: dict[str, Any] = {
    "hidden_dim": {"type": "choice", "categories": [32, 48, 64, 96]},
    "num_lstm_layers": {"type": "choice", "categories": [1, 2]},
    "num_attention_heads": {"type": "choice", "categories": [1, 2, 4, 6, 8]},
    "pooling_dim": {"type": "choice", "categories": [32, 64]},
    "classifier_dims": {"type": "choice", "categories": [[64], [64, 32]]},
    "num_frames": {"type": "choice", "categories": [24, 48, 73]},
    "dropout": {"type": "uniform", "lower": 0.1, "upper": 0.6},
    "lr": {"type": "loguniform", "lower": 2e-4, "upper": 1e-2},
    "weight_decay": {"type": "loguniform", "lower": 1e-5, "upper": 1e-1},
    "warmup_epochs": {"type": "randint", "lower": 0, "upper": 9},
    "batch_size": {"type": "choice", "categories": [16, 32, 48]},
    "focal_gamma": {"type": "uniform", "lower": 0.0, "upper": 3.0},
    "label_smoothing": {"type": "uniform", "lower": 0.0, "upper": 0.2},
    "multi_scale": {"type": "choice", "categories": [[1.0], [0.85, 1.0, 1.15]]},
    "epochs": 40,
}
"""Search space of the scores benchmark, in the format of a `--space` file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", help="features directory split by source (videos of one recording in one split)")
    parser.add_argument("--synthetic", action="store_true", help="measure overhead on synthetic features")
    parser.add_argument(
        "--trials", type=int, default=32, help="trials per search; a quarter as many of the longer synthetic ones"
    )
    parser.add_argument("--epochs", type=int, default=8, help="epochs of a longer synthetic trial")
    parser.add_argument("--seed", type=int, default=0, help="seed of the searches")
    parser.add_argument(
        "--retrained",
        type=int,
        default=5,
        help="number of seeds with which the best trials and the default are trained again",
    )
    arguments = parser.parse_args()
    print(describe("torch", "ray", "optuna", "numpy"), "\n")
    ray_cluster.connect()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.synthetic:
            overhead(folder, arguments.trials, arguments.epochs)
        else:
            scores(folder, arguments.features, arguments.trials, arguments.seed, arguments.retrained)


def searched(
    folder: str,
    name: str,
    features: Mapping[str, FeatureSet],
    space: dict[str, Any],
    search: dict[str, Any],
    **flags: Any,
) -> tuple[SearchResult, float]:
    """Run a search with the output directory `folder`/`name`; return its result and its wall time in seconds, without
    the start of Ray. `space` and `search` are the two parts of a `--space` file, `flags` further options of
    `jobs/tune.py`."""
    file = Path(folder, f"{name}.yaml")
    file.write_text(yaml.safe_dump({"search": search, "space": space}))
    config = TuneConfig(features=tuple(features), space=str(file), output=f"{folder}/{name}", **flags)
    weights = {
        at: read_weights_location(at) if Path(at, "run_identity.json").exists() else "DEFAULT" for at in features
    }
    started = time.perf_counter()
    found = tune(config, features, weights)
    assert found is not None
    return found, time.perf_counter() - started


def overhead(folder: str, num_trials: int, epochs: int) -> None:
    """Measure overhead and parallel trials on synthetic features and print the figures."""
    num_cores = os.cpu_count() or 1
    features = {f"{folder}/features": synthetic(120)}
    tiny = {
        "lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-2},
        "hidden_dim": 8,
        "num_lstm_layers": 1,
        "num_attention_heads": 2,
        "classifier_dims": [8],
        "epochs": 1,
        "num_frames": 8,
    }
    longer = {
        **tiny,
        "hidden_dim": 64,
        "num_attention_heads": 4,
        "epochs": epochs,
        "patience": epochs,
        "num_frames": 73,
    }
    fifo = {"algorithm": "random", "scheduler": "none"}
    searched(folder, "warm-up", features, tiny, fifo, num_samples=2)
    found, seconds = searched(folder, "tiny", features, tiny, fifo, num_samples=num_trials)
    busy = sum(found.trials["duration_s"].to_pylist())
    print(
        f"{num_trials} trials of one epoch on {num_cores} cores: {seconds:.1f} s, training {busy:.1f} core "
        f"seconds; per trial {(seconds * num_cores - busy) / num_trials:.2f} core seconds of overhead and "
        f"{seconds / num_trials:.2f} s of wall time in total"
    )
    taken, num_longer = {}, max(num_trials // 4, 2)
    for name, cpus in (("one after another", num_cores), ("in parallel", 1)):
        found, taken[name] = searched(
            folder, name, features, longer, fifo, num_samples=num_longer, cpus_per_trial=float(cpus)
        )
        busy = sum(found.trials["duration_s"].to_pylist())
        print(f"{num_longer} trials of {epochs} epochs {name}: {taken[name]:.1f} s, of which training {busy:.1f} s")
    ratio = taken["one after another"] / taken["in parallel"]
    print(f"wall time one after another / in parallel: {ratio:.2f}, on {num_cores} cores")


def scores(folder: str, directory: str, num_trials: int, seed: int, num_retrained: int) -> None:
    """Search with and without ASHA on the features in `directory`, train the winners again and print both tables."""
    features = {directory: read_features(directory)}
    asha = {"algorithm": "tpe", "scheduler": "asha", "grace_epochs": 5, "reduction_factor": 3.0}
    with_asha, seconds = searched(
        folder, "asha", features, SPACE, asha, num_samples=num_trials, seed=seed, ensemble_from_trials=4
    )
    without, seconds_without = searched(
        folder,
        "none",
        features,
        SPACE,
        {"algorithm": "tpe", "scheduler": "none"},
        num_samples=num_trials,
        seed=seed,
        time_budget=seconds,
    )
    print("| | trials begun | epochs spent | wall time, s | best macro F1 on validation | of trial |")
    print("|---|---|---|---|---|---|")
    for name, found, wall in (("ASHA", with_asha, seconds), ("none, as long", without, seconds_without)):
        rows = found.trials.to_pylist()
        order = sorted(rows, key=lambda row: row["started_s"])
        place = [row["trial_id"] for row in order].index(rows[0]["trial_id"]) + 1
        print(
            f"| {name} | {len(rows)} | {sum(row['num_epochs'] for row in rows)} | {wall:.0f} | "
            f"{rows[0]['macro_f1']:.3f} | {place} |"
        )
    configs = {
        "default": FitConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in SIZES.items()}),  # type: ignore[arg-type]
        "best with ASHA": trial_files.fit_config(with_asha.trials.slice(0, 1).to_pylist()[0]),
        "best without": trial_files.fit_config(without.trials.slice(0, 1).to_pylist()[0]),
    }
    for name, config in configs.items():
        values = trial_files.settings_of(config)
        print(f"\n{name}: " + ", ".join(f"{key} {values[key]}" for key in SPACE))
    jobs = [(directory, config, number) for config in configs.values() for number in range(num_retrained)]
    with concurrent.futures.ProcessPoolExecutor(
        os.cpu_count(), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        measured = list(pool.map(trained, *zip(*jobs, strict=True)))
    print(f"\n| {num_retrained} seeds | validation macro F1 | mean | test macro F1 | mean | test accuracy, mean |")
    print("|---|---|---|---|---|---|")
    for index, name in enumerate(configs):
        results = measured[index * num_retrained : (index + 1) * num_retrained]
        cells = [
            f"{', '.join(f'{row[key]:.3f}' for row in results)} | {statistics.mean(row[key] for row in results):.3f}"
            for key in ("val", "test")
        ]
        print(f"| {name} | {' | '.join(cells)} | {statistics.mean(row['accuracy'] for row in results):.3f} |")
    assert with_asha.ensemble is not None
    ensemble_scores = of_ensemble(with_asha.ensemble, features[directory])
    print(
        f"\nensemble of {ensemble_scores['members']:.0f} trials: test macro F1 {ensemble_scores['test']:.3f}, "
        f"accuracy {ensemble_scores['accuracy']:.3f}"
    )


def trained(directory: str, config: FitConfig, seed: int) -> dict[str, float]:
    """Train one model with the given settings and seed (run in a process of its own); return its macro F1 on the
    validation (`val`) and test (`test`) split and its test accuracy."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    features = read_features(directory)
    data = training_data(features)
    fitted = fit_member(data, config, seed, cpu)
    model = TemporalClassifier(data.feature_dim, len(data.classes), config)
    model.load_state_dict(fitted.state)
    sequences, labels = of_videos(features, held_out(features), data.classes)
    found = predict(model, Batches(Sequences.of(sequences, labels), cpu), config.batch_size, cpu).argmax(dim=1).tolist()
    test = evaluate(labels, found, data.classes)
    return {"val": fitted.best.val_macro_f1, "test": test.macro_f1, "accuracy": test.accuracy}


def of_ensemble(directory: str, features: FeatureSet) -> dict[str, float]:
    """Number of members of the ensemble in `directory`, its macro F1 (`test`) and its accuracy on the test split."""
    loaded = files.load(directory, torch.device("cpu"))
    sequences, labels = of_videos(features, held_out_rows(features, read_record(directory)), loaded.info.classes)
    found = loaded([sequences]).probabilities_BC.argmax(axis=1).tolist()
    test = evaluate(labels, found, loaded.info.classes)
    return {"members": float(len(loaded.info.members)), "test": test.macro_f1, "accuracy": test.accuracy}


def of_videos(features: FeatureSet, chosen: list[int], classes: list[str]) -> tuple[list[Any], list[int]]:
    """Features and class indices of the videos with the indices `chosen`."""
    return [features.features[i] for i in chosen], [classes.index(str(features.labels[i])) for i in chosen]


if __name__ == "__main__":
    main()
