"""Facts about an ensemble that reports show: calibration, members, view weights, training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import yaml

from vidclf import storage
from vidclf.ensemble.info import ENSEMBLE_FILE, EnsembleInfo, read_info
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec


def feature_facts(specs: Sequence[FeatureSpec]) -> dict[str, str]:
    """How features were made, of one backbone or several from the same frames, in words for a table."""
    sampling = ", ".join(f"{name} {value}" for name, value in specs[0].sampling.items() if value is not None)
    return {
        "feature key": ", ".join(spec.key for spec in specs),
        "backbone": "; ".join(f"{spec.backbone}, weights {spec.weights_digest[:16]}" for spec in specs),
        "sampling": sampling,
        "decoder": specs[0].decoder,
    }


def find_ensemble(predictions: str, given: str | None, ensemble_id: str) -> tuple[str | None, str]:
    """The directory of the ensemble that made predictions, or None and why it is not known.

    It is the one `given`, else the one that the classification's `run_config.yaml` names. Raises
    ConfigError where the one given is another ensemble.
    """
    if given is not None:
        found = read_info(given).ensemble_id
        if found != ensemble_id:
            raise ConfigError(f"--ensemble {given}: is ensemble {found}, the predictions are of {ensemble_id}")
        return given, ""
    run_config = storage.join(predictions, "run_config.yaml")
    if not storage.exists(run_config):
        return None, "the predictions do not say where their ensemble is; --ensemble does"
    named = (yaml.safe_load(storage.read_bytes(run_config)) or {}).get("ensemble")
    if not named or not storage.exists(storage.join(named, ENSEMBLE_FILE)):
        return None, f"the ensemble is not at {named} any more; --ensemble says where it is"
    try:
        found = read_info(named).ensemble_id
    except ConfigError as error:
        return None, f"the ensemble at {named} cannot be read ({error})"
    if found != ensemble_id:
        return None, f"{named} holds another ensemble now ({found}); --ensemble says where this one is"
    return named, ""


def histories(directory: str, info: EnsembleInfo) -> list[list[dict[str, Any]]]:
    """Each member's epochs as training left them in `member_<i>.json`; empty for a member without."""
    found = []
    for member in info.members:
        marker = storage.join(directory, member.file.removesuffix(".safetensors") + ".json")
        found.append(storage.read_json(marker)["history"] if storage.exists(marker) else [])
    return found


def calibration(info: EnsembleInfo | None, has_views: bool) -> dict[str, Any]:
    """How an ensemble was calibrated for one view, or for the vote of several; empty without an ensemble."""
    if info is None:
        return {}
    return {"num_videos": info.calibration.num_videos, **asdict(info.calibration.of_mode(has_views))}


def member_names(info: EnsembleInfo | None, num_members: int) -> list[str]:
    """Members by number, and by backbone where these differ and the ensemble is known."""
    names = [f"member {index}" for index in range(num_members)]
    if info is None or len(info.backbones) == 1:
        return names
    return [f"{name}, {member.backbone}" for name, member in zip(names, info.members, strict=True)]


def view_weights(info: EnsembleInfo | None) -> dict[str, float]:
    return {view.name: view.weight for view in info.views} if info is not None else {}
