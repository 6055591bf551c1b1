"""A search for kill tests: `python -m tests.support.tuning_job OUTPUT` searches on random features."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from tests.support.training_job import features
from vidclf.config import TuneConfig
from vidclf.tuning.tune import SearchResult, tune

SPACE = {
    "hidden_dim": 8,
    "num_attention_heads": 2,
    "num_lstm_layers": 1,
    "classifier_dims": [8],
    "lr": {"type": "loguniform", "lower": 1e-3, "upper": 1e-2},
    "dropout": {"type": "uniform", "lower": 0.1, "upper": 0.3},
    "epochs": 16,
    "batch_size": 2,
}
SEARCH = {"algorithm": "random", "scheduler": "none"}


def run(output: Path, space: dict[str, object], search: dict[str, object], **flags: object) -> SearchResult | None:
    """Run a search on sixty random videos. The YAML of the space is written next to the output directory."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({"search": search, "space": space}))
    flags = {"cpus_per_trial": 1.0, **flags}
    config = TuneConfig(features=("/made",), space=str(file), output=str(output), **flags)  # type: ignore[arg-type]
    return tune(config, {"/made": features()}, {"/made": "DEFAULT"})


if __name__ == "__main__":
    # Seconds between two of Ray's own records of the search; 5 by default.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1"
    run(Path(sys.argv[1]), SPACE, SEARCH, num_samples=3)
