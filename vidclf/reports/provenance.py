"""Where a report's figures come from: command, versions, inputs, and how the ensemble was trained."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any

import yaml

import vidclf
from vidclf import storage
from vidclf.config import ConfigError
from vidclf.features.store import FeatureSpec
from vidclf.learning import ensemble
from vidclf.learning.ensemble import EnsembleInfo

LIBRARIES = ("torch", "numpy", "scikit-learn", "pyarrow", "av")


def command(job: str, config: Any) -> str:
    """The command line that repeats a job: the flags that differ from their defaults."""
    words = ["python", f"jobs/{job}.py"]
    for field in fields(config):
        value = getattr(config, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def versions() -> str:
    """vidclf, Python and the libraries that decide figures, in words for a table."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    named = {"vidclf": vidclf.__version__, "python": platform.python_version(), **libraries}
    return ", ".join(f"{name} {version}" for name, version in named.items())


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


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
        found = ensemble.read_info(given).ensemble_id
        if found != ensemble_id:
            raise ConfigError(f"--ensemble {given}: is ensemble {found}, the predictions are of {ensemble_id}")
        return given, ""
    run_config = storage.join(predictions, "run_config.yaml")
    if not storage.exists(run_config):
        return None, "the predictions do not say where their ensemble is; --ensemble does"
    named = (yaml.safe_load(storage.read_bytes(run_config)) or {}).get("ensemble")
    if not named or not storage.exists(storage.join(named, ensemble.ENSEMBLE_FILE)):
        return None, f"the ensemble is not at {named} any more; --ensemble says where it is"
    try:
        found = ensemble.read_info(named).ensemble_id
    except ConfigError as error:
        return None, f"the ensemble at {named} cannot be read ({error})"
    if found != ensemble_id:
        return None, f"{named} holds another ensemble now ({found}); --ensemble says where this one is"
    return named, ""


def histories(directory: str, info: EnsembleInfo) -> list[list[dict[str, Any]]]:
    """Each member's epochs as training left them in `member_<i>.json`; empty for a member without."""
    found = []
    for member in info.members:
        marker = storage.join(directory, member["file"].removesuffix(".safetensors") + ".json")
        found.append(storage.read_json(marker)["history"] if storage.exists(marker) else [])
    return found


def calibration(info: EnsembleInfo | None, has_views: bool) -> dict[str, Any]:
    """How an ensemble was calibrated for one view, or for the vote of several; empty without an ensemble."""
    if info is None:
        return {}
    fitted = {name: value for name, value in info.calibration.items() if name != "tta"}
    return {**fitted, **info.calibration["tta"]} if has_views else fitted


def member_names(info: EnsembleInfo | None, num_members: int) -> list[str]:
    """Members by number, and by backbone where these differ and the ensemble is known."""
    names = [f"member {index}" for index in range(num_members)]
    if info is None or len(info.backbones) == 1:
        return names
    return [f"{name}, {member['backbone']}" for name, member in zip(names, info.members, strict=True)]


def view_weights(info: EnsembleInfo | None) -> dict[str, float]:
    return {view["name"]: view["weight"] for view in info.views} if info is not None else {}


def settings_text(settings: dict[str, Any]) -> str:
    """What a classification decided by beside the ensemble, in words for a table."""
    told = {name.replace("_", " "): value for name, value in settings.items() if value is not None}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()
    )
