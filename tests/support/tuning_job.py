"""A search to kill: `python -m tests.support.tuning_job OUTPUT`, on data made here."""

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
    """A search on sixty made videos; the space's YAML lies beside the output."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({"search": search, "space": space}))
    flags = {"cpus_per_trial": 1.0, **flags}
    config = TuneConfig(features=("/made",), space=str(file), output=str(output), **flags)  # type: ignore[arg-type]
    return tune(config, {"/made": features()}, {"/made": "DEFAULT"})


if __name__ == "__main__":
    # Ray's own record of the search, which it writes every 5 seconds otherwise.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1"
    run(Path(sys.argv[1]), SPACE, SEARCH, num_samples=3)
