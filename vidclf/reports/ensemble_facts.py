"""Facts about an ensemble that reports show: calibration, members, weights of test-time views, training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vidclf import storage
from vidclf.ensemble.cross_validation import RECORD, CrossValidation
from vidclf.ensemble.info import EnsembleInfo, read_info
from vidclf.ensemble.linear_member import LINEAR_NAME, LinearWeight
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.reports.stated_locations import stated_ensemble
from vidclf.schema import Look


def feature_facts(specs: Sequence[FeatureSpec]) -> dict[str, str]:
    """Texts for a table about how features were made: backbones, sampling, decoder, and a digest of all settings.

    `specs` has one entry per backbone; all backbones embedded the same frames.
    """
    sampling = ", ".join(f"{name} {value}" for name, value in specs[0].sampling.items() if value is not None)
    return {
        "feature key": ", ".join(spec.key for spec in specs),
        "backbone": "; ".join(
            f"{spec.backbone}, weights {spec.weights_digest[:16]}"
            + (f", their licence {spec.licence}" if spec.licence is not None else "")
            for spec in specs
        ),
        "sampling": sampling,
        "decoder": specs[0].decoder,
    }


def find_ensemble(predictions: str, given: str | None, ensemble_id: str) -> tuple[str | None, str]:
    """Directory of the ensemble that made the classification in `predictions`, and an empty text; or None and a reason.

    The directory is `given`, or the one in `run_config.yaml` of the classification. Raises ConfigError if `given` holds
    an ensemble with another id than `ensemble_id`.
    """
    if given is not None:
        given_id = read_info(given).ensemble_id
        if given_id != ensemble_id:
            raise ConfigError(f"--ensemble {given}: is ensemble {given_id}, but {ensemble_id} made the predictions")
        return given, ""
    directory, note = stated_ensemble(predictions)
    if directory is None:
        return None, note
    try:
        current_id = read_info(directory).ensemble_id
    except ConfigError as error:
        return None, f"the ensemble at {directory} cannot be read ({error})"
    if current_id != ensemble_id:
        return None, f"{directory} now holds another ensemble ({current_id}); give --ensemble"
    return directory, ""


def histories(directory: str, info: EnsembleInfo) -> list[list[dict[str, Any]]]:
    """Training epochs of each ensemble member from its `member_<i>.json`; an empty list if the file is missing."""
    epochs = []
    for member in info.members:
        marker = storage.join(directory, member.file.removesuffix(".safetensors") + ".json")
        epochs.append(storage.read_json(marker)["history"] if storage.exists(marker) else [])
    return epochs


def calibration(info: EnsembleInfo | None, has_views: bool) -> dict[str, Any]:
    """Calibration figures of an ensemble as a dict; empty if `info` is None (the ensemble is unknown).

    `has_views` tells whether predictions are averaged over test-time variants of a video, which has its own
    calibration.
    """
    if info is None:
        return {}
    return {"num_videos": info.calibration.num_videos, **asdict(info.calibration.of_mode(has_views))}


def cross_validation(info: EnsembleInfo | None) -> CrossValidation | None:
    """Figures of the cross-validation of the ensemble's recipe; None if there was none, or the ensemble is unknown."""
    return CrossValidation.read(info.training.get(RECORD)) if info is not None else None


def member_names(info: EnsembleInfo | None, num_members: int) -> list[str]:
    """Names of the ensemble members for display: `member 0` and so on, plus the backbone if there are several. The
    linear member, if there is one, comes last. If the ensemble is unknown, any of the `num_members` may be it, and they
    are called `vote 0` and so on."""
    if info is None:
        return [f"vote {index}" for index in range(num_members)]
    has_several = len(info.backbones) > 1
    names = [f"member {index}{f', {one.backbone}' if has_several else ''}" for index, one in enumerate(info.members)]
    return [*names, LINEAR_NAME] if info.linear is not None else names


def linear_weight(info: EnsembleInfo | None) -> LinearWeight | None:
    """Weight of the linear member in the average over all frames, with its evidence; None if there is none."""
    return info.linear.looks[Look.FULL] if info is not None and info.linear is not None else None


def view_weights(info: EnsembleInfo | None) -> dict[str, float]:
    """Weight of each test-time view (variant of a video) in the average, by name; empty if the ensemble is unknown."""
    return {view.name: view.weight for view in info.views} if info is not None else {}
