"""Locations of the ensemble and of the features of a classification, from the `run_config.yaml` in its output.

The module imports no torch, so that `diff` starts quickly.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import yaml

from vidclf import credentials, storage
from vidclf.ensemble.held_out import MeansOf
from vidclf.ensemble.split_record import ENSEMBLE_FILE
from vidclf.errors import ConfigError
from vidclf.features.near_duplicates import means_in
from vidclf.features.spec import read_spec
from vidclf.runs.layout import Run

RUN_CONFIG = "run_config.yaml"


def stated_ensemble(predictions: str) -> tuple[str | None, str]:
    """Directory of the ensemble that made the predictions in a directory, and an empty text; or None and a reason.

    There is an `ensemble.json` in the directory, but it may be that of a later ensemble.
    """
    if not storage.exists(storage.join(predictions, RUN_CONFIG)):
        return None, "the predictions do not record where their ensemble is; give --ensemble"
    config = _run_config(predictions)
    directory = config.get("ensemble")
    if config.get("labels"):
        if not config.get("calibrate_with"):
            return None, "the labels are from words, without an ensemble; their confidence is not calibrated"
        directory = storage.join(predictions, "ensemble")
    if directory and credentials.is_masked(directory):
        return None, f"the ensemble at {directory} was read with credentials, which are not stored; give --ensemble"
    if not directory or not storage.exists(storage.join(directory, ENSEMBLE_FILE)):
        return None, f"the ensemble is no longer at {directory}; give --ensemble"
    return str(directory), ""


def stated_first_ensemble(predictions: str) -> str | None:
    """Directory of the ensemble that took the first look of the classification in a directory (`--first-ensemble`);
    None if there was none, or it is no longer there."""
    config = _run_config(predictions) if storage.exists(storage.join(predictions, RUN_CONFIG)) else {}
    directory = config.get("first_ensemble")
    if not directory or credentials.is_masked(directory):
        return None
    return str(directory) if storage.exists(storage.join(directory, ENSEMBLE_FILE)) else None


def stated_means(predictions: str, feature_key: str) -> MeansOf | None:
    """Function that returns mean features of the classified videos, if the features are still there; None otherwise.

    Only features with the key `feature_key` count. `classify` reads features with --features and writes them with
    --save-features.
    """
    config = _run_config(predictions) if storage.exists(storage.join(predictions, RUN_CONFIG)) else {}
    saved = config.get("save_features")
    locations = [*(config.get("features") or ()), *([saved] if saved else [])]
    for given in [location for location in locations if not credentials.is_masked(location)]:
        # Features of several backbones have a directory each.
        for location in [given, *storage.list_dirs(given)]:
            if Run(location).exists() and _key(location) == feature_key:
                return partial(means_in, Run(location).shards())
    return None


def _run_config(directory: str) -> dict[str, Any]:
    """Content of the `run_config.yaml` in a directory."""
    return dict(yaml.safe_load(storage.read_bytes(storage.join(directory, RUN_CONFIG))) or {})


def _key(location: str) -> str | None:
    """Key of the features in a directory; None if they cannot be read."""
    try:
        return read_spec(location).key
    except ConfigError:
        return None
