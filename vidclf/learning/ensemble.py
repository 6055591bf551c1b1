"""An ensemble on disk and in memory: members, calibration, and how its inputs were made.

An ensemble directory holds `ensemble.json`, `member_<i>.safetensors` and `trust.safetensors` (where
training's videos lie in feature space, and validation's trust scores); nothing in it is pickled.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import safetensors.torch
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from vidclf import storage
from vidclf.config import ConfigError, ModelConfig
from vidclf.features.store import FeatureSpec
from vidclf.learning import views
from vidclf.learning.dataset import pad
from vidclf.learning.model import TemporalClassifier
from vidclf.learning.trust import FeatureSpace, TrustScore, signs

ENSEMBLE_FILE = "ensemble.json"
TRUST_FILE = "trust.safetensors"
MAX_SEQUENCES = 64
"""Sequences that a member sees at a time: larger batches gain nothing and take memory."""
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
    training: dict[str, Any]
    views: list[dict[str, Any]] = field(default_factory=list)
    """per view of test-time augmentation, in the order of `views.VIEWS`: fields of `views.ViewWeight`"""
    calibration: dict[str, Any] = field(default_factory=dict)
    """`num_videos` of validation, `temperature`, expected calibration error `ece_before` (temperature 1)
    and `ece_after` (cross-fitted over sources); under `tta` the last three with the views' votes"""
    trust: dict[str, Any] = field(default_factory=dict)
    """`digest` of `trust.safetensors`; `ood`: the `distance` at which the OOD score is 1, the `level` it
    stands for and the `num_videos` it is from; `plain` and `tta`: fields of `trust.TrustScore`"""

    @property
    def ensemble_id(self) -> str:
        """Digest of what decides a prediction: features, classes, weights, calibration, trust."""
        decisive = [
            self.feature_spec.key,
            self.classes,
            [member["digest"] for member in self.members],
            [[view["name"], view["weight"]] for view in self.views],
            self.calibration,
            self.trust,
        ]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class EnsembleOutput:
    """What an ensemble says of B videos; probabilities are calibrated."""

    probabilities_BC: npt.NDArray[np.float32]
    member_probabilities_MBC: npt.NDArray[np.float32]
    """averaged over the views, by their weights"""
    view_probabilities_VBC: npt.NDArray[np.float32]
    """averaged over the members; one view without test-time augmentation"""
    trust_score_B: npt.NDArray[np.float32]
    ood_score_B: npt.NDArray[np.float32]
    attention: list[npt.NDArray[np.float32]]
    """[T] per video: the members' mean pooling weights, of the original view"""


@dataclass(frozen=True, kw_only=True)
class TrustData:
    """`trust.safetensors`: where training's videos lie, and validation's trust scores in both modes,
    each from a fit that had not seen the video's source."""

    space: FeatureSpace
    validation_trust_B: dict[str, npt.NDArray[np.float32]]
    """by mode, `plain` or `tta`"""
    validation_correct_B: dict[str, npt.NDArray[np.bool_]]


class Ensemble:
    """Members, and with `tta` views, that vote by averaging their temperature-scaled probabilities."""

    def __init__(
        self, info: EnsembleInfo, members: Sequence[TemporalClassifier], trust: TrustData, device: torch.device
    ) -> None:
        self.info = info
        self.trust = trust
        self._members = [member.eval().to(device) for member in members]
        self._device = device

    def __call__(self, sequences: Sequence[npt.NDArray[np.float16]], *, tta: bool = False) -> EnsembleOutput:
        """Classify feature sequences [T, D] of any lengths."""
        names = list(views.VIEWS) if tta else list(views.PLAIN)
        logits_VMBC, attention = run_members(self._members, sequences, names, self._device)
        probabilities_VMBC = (logits_VMBC / self.temperature(tta)).softmax(dim=3).numpy()
        weights_V = self.view_weights(tta)
        member_MBC = np.tensordot(weights_V, probabilities_VMBC, axes=1)
        probabilities_BC = member_MBC.mean(axis=0)
        view_VBC = probabilities_VMBC.mean(axis=1)
        space = self.trust.space
        ood_B = (space.distances(sequences) / self.info.trust["ood"]["distance"]).astype(np.float32)
        agreement_B = space.frame_agreement(sequences, probabilities_BC.argmax(axis=1))
        signs_BK = signs(probabilities_BC, member_MBC, view_VBC, agreement_B, ood_B)
        score = TrustScore(**self.info.trust[mode(tta)])
        return EnsembleOutput(
            probabilities_BC=probabilities_BC,
            member_probabilities_MBC=member_MBC,
            view_probabilities_VBC=view_VBC,
            trust_score_B=score(probabilities_BC.max(axis=1), signs_BK),
            ood_score_B=ood_B,
            attention=attention,
        )

    def probabilities(self, sequences: Sequence[npt.NDArray[np.float16]]) -> npt.NDArray[np.float32]:
        """Calibrated probabilities [B, C] of the original view and nothing else: for parts of videos."""
        logits_VMBC, _ = run_members(self._members, sequences, views.PLAIN, self._device)
        mean_BC: npt.NDArray[np.float32] = (logits_VMBC[0] / self.temperature(False)).softmax(dim=2).mean(0).numpy()
        return mean_BC

    def temperature(self, tta: bool) -> float:
        calibration = self.info.calibration
        return float(calibration["tta"]["temperature"] if tta else calibration["temperature"])

    def view_weights(self, tta: bool) -> npt.NDArray[np.float32]:
        """[V], of the views that are run."""
        return np.array([view["weight"] for view in self.info.views] if tta else [1.0], np.float32)


def mode(tta: bool) -> str:
    """The key of what is fitted apart with and without test-time augmentation."""
    return "tta" if tta else "plain"


@torch.inference_mode()
def run_members(
    members: Sequence[TemporalClassifier],
    sequences: Sequence[npt.NDArray[np.float16]],
    view_names: Sequence[str],
    device: torch.device,
) -> tuple[Tensor, list[npt.NDArray[np.float32]]]:
    """Logits [V, M, B, C] float32 of every view and member, and the members' mean pooling weights [T] of
    each sequence in the first view.

    Sequences of one length, of whatever video and view, make a batch, so that none is padded or packed:
    both cost more than the smaller batches do.
    """
    of_length: dict[int, list[tuple[int, int, npt.NDArray[np.float16]]]] = {}
    for view, name in enumerate(view_names):
        for video, sequence in enumerate(sequences):
            seen_TD = views.VIEWS[name](sequence)
            of_length.setdefault(len(seen_TD), []).append((view, video, seen_TD))
    logits_VMBC: Tensor | None = None
    attention: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(sequences)
    for alike in of_length.values():
        for start in range(0, len(alike), MAX_SEQUENCES):
            batch = alike[start : start + MAX_SEQUENCES]
            features_BTD, lengths_B = pad([seen_TD for _, _, seen_TD in batch])
            features_BTD = features_BTD.to(device)
            outputs = [member(features_BTD, lengths_B) for member in members]
            logits_MBC = torch.stack([output.logits_BC for output in outputs]).float().cpu()
            mean_BT = torch.stack([output.attention_BT for output in outputs]).mean(0).float().cpu().numpy()
            if logits_VMBC is None:
                logits_VMBC = torch.empty(len(view_names), len(members), len(sequences), logits_MBC.shape[2])
            for row, (view, video, _) in enumerate(batch):
                logits_VMBC[view, :, video] = logits_MBC[:, row]
                if view == 0:
                    attention[video] = mean_BT[row]
    if logits_VMBC is None:
        raise ValueError("an ensemble classifies at least one sequence, got none")
    return logits_VMBC, attention


def fit_temperature(logits_NBC: Tensor, labels_B: Tensor, weights_N: Tensor | None = None) -> float:
    """Temperature with the lowest negative log-likelihood of the averaged probabilities of N votes
    (Guo et al. 2017, arXiv:1706.04599), within TEMPERATURE_RANGE; votes count alike without weights."""
    votes_N = torch.full((len(logits_NBC),), 1 / len(logits_NBC)) if weights_N is None else weights_N

    def loss(temperature: float) -> float:
        mean_BC = torch.tensordot(votes_N, (logits_NBC / temperature).softmax(dim=2), dims=1)
        return float(-mean_BC.gather(1, labels_B[:, None]).clamp_min(1e-12).log().mean())

    return round(float(minimize_scalar(loss, bounds=TEMPERATURE_RANGE, method="bounded").x), 4)


def member_file(index: int) -> str:
    return f"member_{index}.safetensors"


def write_member(directory: str, index: int, state: dict[str, Tensor]) -> str:
    """Publish a member's weights; returns their SHA-256."""
    content = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
    storage.publish_bytes(storage.join(directory, member_file(index)), content)
    return hashlib.sha256(content).hexdigest()


def write_trust(directory: str, data: TrustData) -> str:
    """Publish `trust.safetensors`; returns its SHA-256."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "means_CD": np.ascontiguousarray(data.space.means_CD),
        "precision_DD": np.ascontiguousarray(data.space.precision_DD),
    }
    for name, trust_B in data.validation_trust_B.items():
        arrays[f"{name}.trust_B"] = trust_B
        arrays[f"{name}.correct_B"] = data.validation_correct_B[name].astype(np.uint8)
    content = safetensors.numpy.save(arrays)
    storage.publish_bytes(storage.join(directory, TRUST_FILE), content)
    return hashlib.sha256(content).hexdigest()


def read_trust(directory: str, info: EnsembleInfo) -> TrustData:
    """`trust.safetensors`; ConfigError where it is not the file that `ensemble.json` lists."""
    path = storage.join(directory, TRUST_FILE)
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        raise ConfigError(f"--ensemble {path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    if hashlib.sha256(content).hexdigest() != info.trust.get("digest"):
        raise ConfigError(f"--ensemble {path}: is not the file that {ENSEMBLE_FILE} lists (digest differs)")
    arrays = safetensors.numpy.load(content)
    modes = [mode(tta) for tta in (False, True)]
    return TrustData(
        space=FeatureSpace(means_CD=arrays["means_CD"], precision_DD=arrays["precision_DD"]),
        validation_trust_B={name: arrays[f"{name}.trust_B"] for name in modes},
        validation_correct_B={name: arrays[f"{name}.correct_B"].astype(bool) for name in modes},
    )


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
        values["feature_spec"] = FeatureSpec(**values["feature_spec"])
        values["model"] = ModelConfig(
            **{**values["model"], "classifier_dims": tuple(values["model"]["classifier_dims"])}
        )
        return EnsembleInfo(**{field.name: values[field.name] for field in fields(EnsembleInfo)})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--ensemble {path}: not an ensemble that jobs/train.py wrote ({error!r})") from error


def load(directory: str, device: torch.device) -> Ensemble:
    """The ensemble of a directory, ready to classify. ConfigError where a member is missing or
    does not fit the sizes that `ensemble.json` states."""
    info = read_info(directory)
    members = [load_member(directory, info, index) for index in range(len(info.members))]
    return Ensemble(info, members, read_trust(directory, info), device)


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
