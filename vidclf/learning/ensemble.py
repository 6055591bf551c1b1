"""An ensemble on disk and in memory: members, calibration, and how its inputs were made.

An ensemble directory holds `ensemble.json` and `member_<i>.safetensors`; nothing in it is pickled.

Shape suffixes: B videos, T frames, D features, C classes, M members.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from vidclf import storage
from vidclf.config import ConfigError, ModelConfig
from vidclf.features.backbone import FEATURE_DIMS
from vidclf.features.store import FeatureSpec
from vidclf.learning.dataset import pad
from vidclf.learning.model import TemporalClassifier

ENSEMBLE_FILE = "ensemble.json"
TEMPERATURE_RANGE = (0.25, 4.0)
"""Beyond it a temperature says that the validation split is too small, not how sure the model is."""


@dataclass(frozen=True, kw_only=True)
class EnsembleInfo:
    """`ensemble.json`: everything but the weights."""

    classes: list[str]
    feature_spec: FeatureSpec
    weights: str
    """where the backbone's weights were at extraction: DEFAULT, a file, a URI or random"""
    model: ModelConfig
    members: list[dict[str, Any]]
    """per member: file, seed, best epoch and its validation scores, digest of the weights"""
    temperature: float
    training: dict[str, Any]
    """numbers of videos, scores on validation, the digest of the data"""
    preprocessing: dict[str, Any]
    """`Preprocessing` of the frames: spatial transform, mean and standard deviation"""
    versions: dict[str, str]
    """of what trained it"""

    @property
    def ensemble_id(self) -> str:
        """Digest of what decides a prediction: features, classes, weights, temperature."""
        decisive = [
            self.feature_spec.key,
            self.classes,
            [member["digest"] for member in self.members],
            self.temperature,
        ]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class EnsembleOutput:
    probabilities_BC: npt.NDArray[np.float32]
    member_probabilities_MBC: npt.NDArray[np.float32]
    attention: list[npt.NDArray[np.float32]]
    """[T] per video: the members' mean pooling weights"""


class Ensemble:
    """Members that vote by averaging their temperature-scaled probabilities."""

    def __init__(self, info: EnsembleInfo, members: Sequence[TemporalClassifier], device: torch.device) -> None:
        self.info = info
        self._members = [member.eval().to(device) for member in members]
        self._device = device

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[npt.NDArray[np.float16]]) -> EnsembleOutput:
        """Classify feature sequences [T, D] of any lengths."""
        features_BTD, lengths_B = pad(sequences)
        outputs = [member(features_BTD.to(self._device), lengths_B) for member in self._members]
        logits_MBC = torch.stack([output.logits_BC for output in outputs]).float().cpu()
        attention_BT = torch.stack([output.attention_BT for output in outputs]).mean(0).float().cpu().numpy()
        probabilities_MBC = (logits_MBC / self.info.temperature).softmax(dim=2)
        return EnsembleOutput(
            probabilities_BC=probabilities_MBC.mean(0).numpy(),
            member_probabilities_MBC=probabilities_MBC.numpy(),
            attention=[row[: len(sequence)] for row, sequence in zip(attention_BT, sequences, strict=True)],
        )


def fit_temperature(logits_MBC: Tensor, labels_B: Tensor) -> float:
    """Temperature with the lowest negative log-likelihood of the averaged probabilities
    (Guo et al. 2017, arXiv:1706.04599), within TEMPERATURE_RANGE."""

    def loss(temperature: float) -> float:
        mean_BC = (logits_MBC / temperature).softmax(dim=2).mean(0)
        return float(-mean_BC.gather(1, labels_B[:, None]).clamp_min(1e-12).log().mean())

    return round(float(minimize_scalar(loss, bounds=TEMPERATURE_RANGE, method="bounded").x), 4)


def member_file(index: int) -> str:
    return f"member_{index}.safetensors"


def write_member(directory: str, index: int, state: dict[str, Tensor]) -> str:
    """Publish a member's weights; returns their SHA-256."""
    content = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
    storage.publish_bytes(storage.join(directory, member_file(index)), content)
    return hashlib.sha256(content).hexdigest()


def write_info(directory: str, info: EnsembleInfo) -> None:
    """Publish `ensemble.json`, the marker that the ensemble is complete."""
    storage.publish_json(storage.join(directory, ENSEMBLE_FILE), {"ensemble_id": info.ensemble_id, **asdict(info)})


def read_info(directory: str) -> EnsembleInfo:
    """`ensemble.json` of a finished ensemble; ConfigError where it is none."""
    path = storage.join(directory, ENSEMBLE_FILE)
    if not storage.exists(path):
        raise ConfigError(
            f"--ensemble must be a directory that jobs/train.py finished, got {directory!r} (no {ENSEMBLE_FILE})"
        )
    try:
        values = storage.read_json(path)
        stated = values["ensemble_id"]
        values["feature_spec"] = FeatureSpec(**values["feature_spec"])
        values["model"] = ModelConfig(
            **{**values["model"], "classifier_dims": tuple(values["model"]["classifier_dims"])}
        )
        info = EnsembleInfo(**{field.name: values[field.name] for field in fields(EnsembleInfo)})
        is_as_stated = info.ensemble_id == stated
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--ensemble {path}: not an ensemble that jobs/train.py wrote ({error!r})") from error
    _check(info, path)
    if not is_as_stated:
        raise ConfigError(f"--ensemble {path}: was changed since it was written (its ensemble_id is {stated!r})")
    return info


def _check(info: EnsembleInfo, path: str) -> None:
    """ConfigError where a value cannot be, with its name."""
    for name, holds, rule, value in (
        ("classes", len(set(info.classes)) == len(info.classes) >= 2, "at least 2, each once", info.classes),
        ("members", len(info.members) >= 1, "at least 1", len(info.members)),
        ("temperature", info.temperature > 0, "above 0", info.temperature),
        (
            "backbone",
            info.feature_spec.backbone in FEATURE_DIMS,
            f"one of {', '.join(FEATURE_DIMS)}",
            info.feature_spec.backbone,
        ),
    ):
        if not holds:
            raise ConfigError(f"--ensemble {path}: {name} must be {rule}, got {value!r}")


def load(directory: str, device: torch.device) -> Ensemble:
    """The ensemble of a directory, ready to classify. ConfigError where a member is missing or
    does not fit the sizes that `ensemble.json` states."""
    info = read_info(directory)
    members = [load_member(directory, info, index) for index in range(len(info.members))]
    return Ensemble(info, members, device)


def load_member(directory: str, info: EnsembleInfo, index: int) -> TemporalClassifier:
    path = storage.join(directory, info.members[index]["file"])
    model = TemporalClassifier(info.feature_spec.feature_dim, len(info.classes), info.model)
    try:
        content = storage.read_bytes(path)
        if hashlib.sha256(content).hexdigest() != info.members[index]["digest"]:
            raise ConfigError(f"--ensemble {path}: is not the file that {ENSEMBLE_FILE} lists (digest differs)")
        model.load_state_dict(safetensors.torch.load(content))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ConfigError(f"--ensemble {path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    return model
