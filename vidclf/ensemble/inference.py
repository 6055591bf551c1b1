"""An ensemble on disk and in memory: members, calibration, and how its inputs were made.

An ensemble directory holds `ensemble.json`, `member_<i>.safetensors` and `trust.safetensors` (where
training's videos lie in feature space, and validation's trust scores); nothing in it is pickled.

Members may see features of different backbones; what an ensemble classifies comes as one list of
sequences for each of them, in the order of `EnsembleInfo.backbones`, of the same frames.

Shape suffixes: B videos, T frames, D features, C classes, M members, V views, S backbones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor

from vidclf import storage
from vidclf.config import ConfigError, ModelConfig
from vidclf.features.engine import has_bf16
from vidclf.features.preprocessing import FEATURE_DIMS
from vidclf.features.store import FeatureSpec
from vidclf.learning import views
from vidclf.learning.cascade import EARLY_STAGES, FULL, StageData, stage_thresholds
from vidclf.learning.dataset import pad
from vidclf.learning.discriminant import FrameDiscriminant, frame_agreement
from vidclf.learning.halved import Probe, halved
from vidclf.learning.model import TemporalClassifier
from vidclf.learning.ood import FeatureSpace, ood_score
from vidclf.learning.temperature import tempered
from vidclf.learning.trust import RiskThreshold, TrustScore, signs

ENSEMBLE_FILE = "ensemble.json"
TRUST_FILE = "trust.safetensors"
MAX_SEQUENCES = 64
"""Sequences that a member sees at a time: larger batches gain nothing and take memory."""


Place = TypeVar("Place", FeatureSpace, FrameDiscriminant)

BySpace = Sequence[Sequence[npt.NDArray[np.float16]]]
"""For each backbone the videos' features [T, D]; a video has as many frames in all of them."""


class OutdatedEnsembleError(ConfigError):
    """An ensemble whose members are good and whose calibration is not."""


@dataclass(frozen=True, kw_only=True)
class FittedBackbone:
    """A backbone whose features members were fitted on."""

    feature_spec: FeatureSpec
    feature_dim: int
    weights: str
    """where its weights were at extraction: DEFAULT, a file, a URI or random"""
    preprocessing: dict[str, Any]
    """`Preprocessing` of the frames: spatial transform, mean and standard deviation"""

    @classmethod
    def of(cls, spec: FeatureSpec, weights: str) -> FittedBackbone:
        return cls(feature_spec=spec, feature_dim=spec.feature_dim, weights=weights, preprocessing=spec.transform)

    @property
    def name(self) -> str:
        return self.feature_spec.backbone


@dataclass(frozen=True, kw_only=True)
class EnsembleInfo:
    """`ensemble.json`: everything but the weights."""

    classes: list[str]
    backbones: list[FittedBackbone]
    """each once, of one sampling plan and decoder"""
    model: ModelConfig
    members: list[dict[str, Any]]
    """per member: file, backbone, seed, best epoch and its validation scores, digest of the weights"""
    training: dict[str, Any]
    """numbers of videos, scores on validation, the digest of the data"""
    versions: dict[str, str]
    """of what trained it"""
    views: list[dict[str, Any]] = field(default_factory=list)
    """per view of test-time augmentation, in the order of `views.VIEWS`: fields of `views.ViewWeight`"""
    calibration: dict[str, Any] = field(default_factory=dict)
    """`num_videos` of validation, `temperature`, expected calibration error `ece_before` (temperature 1)
    and `ece_after` (cross-fitted over sources); under `tta` the last three with the views' votes"""
    trust: dict[str, Any] = field(default_factory=dict)
    """`digest` of `trust.safetensors`; `ood`: the arguments of `ood.ood_score`, the `level` that its line
    stands for and the `num_videos` it is from; `plain` and `tta`: fields of `trust.TrustScore`"""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """of each early stage of the cascade that could be fitted: `num_frames`, `feature_specs` (one a backbone;
    none for frames of the full look), `calibration` (`temperature`, `ece_before`, `ece_after`), `ood` and
    `trust` as above, `val_accuracy`"""

    @property
    def backbone_names(self) -> list[str]:
        return [backbone.name for backbone in self.backbones]

    @property
    def spaces_M(self) -> list[int]:
        """For each member the index of its backbone."""
        return [self.backbone_names.index(member["backbone"]) for member in self.members]

    @property
    def ensemble_id(self) -> str:
        """Digest of what decides a prediction: features, classes, weights, calibration, trust."""
        decisive = [
            [backbone.feature_spec.key for backbone in self.backbones],
            self.classes,
            [[member["backbone"], member["digest"]] for member in self.members],
            [[view["name"], view["weight"]] for view in self.views],
            self.calibration,
            self.trust,
            *([self.stages] if self.stages else []),
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
    signs_BK: npt.NDArray[np.floating[Any]]
    """what the trust score is made of beside the confidence, in the order of `trust.SIGNS`"""


@dataclass(frozen=True, kw_only=True)
class TrustData:
    """`trust.safetensors`: where training's videos lie, what is said of validation's, and a probe of these."""

    spaces: dict[str, list[FeatureSpace]]
    """for the full look and each early stage, of each backbone"""
    discriminants: list[FrameDiscriminant]
    """of each backbone"""
    full: dict[str, StageData]
    """the full look at validation's videos, by mode, `plain` or `tta`"""
    stages: dict[str, StageData] = field(default_factory=dict)
    """the early stages' looks at them"""
    probe: Probe | None = None
    """without one members compute in fp32 unless told otherwise"""

    def threshold(self, mode: str, risk: float) -> RiskThreshold:
        """What `--abstain-risk` comes to in a mode, `plain` or `tta`."""
        return self.full[mode].threshold(risk)

    def stage_thresholds(self, mode: str, risk: float) -> dict[str, RiskThreshold]:
        """The same of the early stages that may decide, before a full look in that mode."""
        return stage_thresholds(self.stages, self.full[mode], risk)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What makes predictions of the members' votes."""

    weights_V: npt.NDArray[np.float32]
    temperature: float
    ood: dict[str, Any]
    trust_score: TrustScore


class Ensemble:
    """Members, and with `tta` views, that vote by averaging their probabilities."""

    def __init__(
        self, info: EnsembleInfo, members: Sequence[TemporalClassifier], trust: TrustData, device: torch.device
    ) -> None:
        self.info = info
        self.trust = trust
        self._members = [member.eval().to(device) for member in members]
        self._device = device

    @property
    def dtype(self) -> torch.dtype:
        """What the members compute in."""
        return self._members[0].dtype

    def __call__(self, sequences_S: BySpace, *, tta: bool = False, stage: str = FULL) -> EnsembleOutput:
        """Classify feature sequences of any lengths, as what they are of the video at `stage`."""
        names = list(views.VIEWS) if tta else list(views.PLAIN)
        fitted = self.fitted(tta, stage)
        logits_VMBC, attention = run_members(self._members, self.info.spaces_M, sequences_S, names, self._device)
        votes = vote(logits_VMBC.softmax(dim=3).numpy(), fitted.weights_V, fitted.temperature)
        probabilities_BC = votes.probabilities_BC
        spaces = self.trust.spaces[stage]
        distances_SB = [space.distances(seen) for space, seen in zip(spaces, sequences_S, strict=True)]
        ood_B = ood_score(distances_SB, fitted.ood["distances"], fitted.ood["line"]).astype(np.float32)
        agreement_B = frame_agreement(self.trust.discriminants, sequences_S, probabilities_BC.argmax(axis=1))
        signs_BK = signs(probabilities_BC, votes.member_MBC, votes.view_VBC, agreement_B, ood_B)
        return EnsembleOutput(
            probabilities_BC=probabilities_BC,
            member_probabilities_MBC=votes.member_MBC,
            view_probabilities_VBC=votes.view_VBC,
            trust_score_B=fitted.trust_score(probabilities_BC.max(axis=1), signs_BK),
            ood_score_B=ood_B,
            attention=attention,
            signs_BK=signs_BK,
        )

    def probabilities(self, sequences_S: BySpace) -> npt.NDArray[np.float32]:
        """Calibrated probabilities [B, C] of the original view and nothing else: for parts of videos."""
        logits_VMBC, _ = run_members(self._members, self.info.spaces_M, sequences_S, views.PLAIN, self._device)
        return tempered(logits_VMBC[0].softmax(dim=2).mean(0).numpy(), self.fitted(False).temperature)

    def fitted(self, tta: bool, stage: str = FULL) -> Fitted:
        """What is fitted for the full look in one mode, or for an early stage, which has one view."""
        info = self.info
        if stage != FULL:
            early = info.stages[stage]
            return Fitted(
                weights_V=np.ones(1, np.float32),
                temperature=float(early["calibration"]["temperature"]),
                ood=early["ood"],
                trust_score=TrustScore(**early["trust"]),
            )
        calibration = info.calibration["tta"] if tta else info.calibration
        return Fitted(
            weights_V=np.array([view["weight"] for view in info.views] if tta else [1.0], np.float32),
            temperature=float(calibration["temperature"]),
            ood=info.trust["ood"],
            trust_score=TrustScore(**info.trust[mode(tta)]),
        )


@dataclass(frozen=True, kw_only=True)
class Votes:
    """The average of members and views, and what each of them says, all at the ensemble's temperature."""

    probabilities_BC: npt.NDArray[np.float32]
    member_MBC: npt.NDArray[np.float32]
    view_VBC: npt.NDArray[np.float32]


def vote(
    probabilities_VMBC: npt.NDArray[np.float32],
    weights_V: npt.NDArray[np.float32],
    temperature: float | npt.NDArray[np.floating[Any]],
) -> Votes:
    """Average first, then temper: over the views by their weights, over the members evenly. One temperature,
    or [B, 1], one for each video."""
    member_MBC = np.tensordot(weights_V, probabilities_VMBC, axes=1)
    return Votes(
        probabilities_BC=tempered(member_MBC.mean(axis=0), temperature),
        member_MBC=tempered(member_MBC, temperature),
        view_VBC=tempered(probabilities_VMBC.mean(axis=1), temperature),
    )


def mode(tta: bool) -> str:
    """The key of what is fitted apart with and without test-time augmentation."""
    return "tta" if tta else "plain"


@torch.inference_mode()
def run_members(
    members: Sequence[TemporalClassifier],
    spaces_M: Sequence[int],
    sequences_S: BySpace,
    view_names: Sequence[str],
    device: torch.device,
) -> tuple[Tensor, list[npt.NDArray[np.float32]]]:
    """Logits [V, M, B, C] float32 of every view and member, and the members' mean pooling weights [T] of
    each sequence in the first view. Each member sees the sequences of its backbone, by `spaces_M`.

    Sequences of one length, of whatever video and view, make a batch, so that none is padded or packed:
    both cost more than the smaller batches do.
    """
    of_length: dict[int, list[tuple[int, int, list[npt.NDArray[np.float16]]]]] = {}
    for view, name in enumerate(view_names):
        for video, of_video in enumerate(zip(*sequences_S, strict=True)):
            seen_S = [views.VIEWS[name](sequence) for sequence in of_video]
            of_length.setdefault(len(seen_S[0]), []).append((view, video, seen_S))
    num_videos = len(sequences_S[0])
    logits_VMBC: Tensor | None = None
    attention: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * num_videos
    for alike in of_length.values():
        for start in range(0, len(alike), MAX_SEQUENCES):
            batch = alike[start : start + MAX_SEQUENCES]
            padded_S = [pad([seen_S[space] for _, _, seen_S in batch]) for space in range(len(sequences_S))]
            inputs_S = [(features_BTD.to(device), lengths_B) for features_BTD, lengths_B in padded_S]
            outputs = []
            for member, space in zip(members, spaces_M, strict=True):
                features_BTD, lengths_B = inputs_S[space]
                outputs.append(member(features_BTD.to(member.dtype), lengths_B))
            logits_MBC = torch.stack([output.logits_BC for output in outputs]).float().cpu()
            mean_BT = torch.stack([output.attention_BT for output in outputs]).mean(0).float().cpu().numpy()
            if logits_VMBC is None:
                logits_VMBC = torch.empty(len(view_names), len(members), num_videos, logits_MBC.shape[2])
            for row, (view, video, _) in enumerate(batch):
                logits_VMBC[view, :, video] = logits_MBC[:, row]
                if view == 0:
                    attention[video] = mean_BT[row]
    if logits_VMBC is None:
        raise ValueError("an ensemble classifies at least one sequence, got none")
    return logits_VMBC, attention


def member_file(index: int) -> str:
    return f"member_{index}.safetensors"


def write_member(directory: str, index: int, state: dict[str, Tensor]) -> str:
    """Publish a member's weights; returns their SHA-256."""
    content = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
    storage.publish_bytes(storage.join(directory, member_file(index)), content)
    return hashlib.sha256(content).hexdigest()


def write_trust(directory: str, data: TrustData) -> str:
    """Publish `trust.safetensors`; returns its SHA-256."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, spaces in data.spaces.items():
        for index, space in enumerate(spaces):
            arrays.update(_named(space, f"{name}.{index}."))
    for index, discriminant in enumerate(data.discriminants):
        arrays.update(_named(discriminant, f"{index}."))
    for name, stage in (data.full | data.stages).items():
        arrays[f"{name}.trust_B"] = stage.trust_B
        arrays[f"{name}.correct_B"] = stage.correct_B.astype(np.uint8)
        arrays[f"{name}.ood_B"] = stage.ood_B
    if data.probe is not None:
        arrays.update(data.probe.arrays())
    # safetensors writes an array's memory as it lies.
    content = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
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
    modes, indices = [mode(tta) for tta in (False, True)], range(len(info.backbones))
    if f"{FULL}.0.centres_CD" not in arrays:
        raise OutdatedEnsembleError(
            f"--ensemble {path}: was calibrated by an earlier version, whose OOD score was another; run jobs/train.py "
            "with its flags again, which calibrates anew and leaves the members as they are"
        )
    return TrustData(
        spaces={
            name: [_read(FeatureSpace, arrays, f"{name}.{index}.") for index in indices]
            for name in (FULL, *info.stages)
        },
        discriminants=[_read(FrameDiscriminant, arrays, f"{index}.") for index in indices],
        full={name: _stage(arrays, name) for name in modes},
        stages={name: _stage(arrays, name) for name in EARLY_STAGES if name in info.stages},
        probe=Probe.read(arrays, len(info.backbones)),
    )


def _named(fitted: FeatureSpace | FrameDiscriminant, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a file, named as the fields are; `_read` takes them back."""
    return {prefix + field.name: getattr(fitted, field.name) for field in fields(fitted)}


def _read(kind: type[Place], arrays: dict[str, npt.NDArray[Any]], prefix: str) -> Place:
    return kind(**{field.name: arrays[prefix + field.name] for field in fields(kind)})


def _stage(arrays: dict[str, npt.NDArray[Any]], name: str) -> StageData:
    return StageData(
        trust_B=arrays[f"{name}.trust_B"],
        correct_B=arrays[f"{name}.correct_B"].astype(bool),
        ood_B=arrays[f"{name}.ood_B"],
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
        stated = values["ensemble_id"]
        values["backbones"] = [
            FittedBackbone(**{**backbone, "feature_spec": FeatureSpec(**backbone["feature_spec"])})
            for backbone in values["backbones"]
        ]
        values["model"] = ModelConfig(
            **{**values["model"], "classifier_dims": tuple(values["model"]["classifier_dims"])}
        )
        # Ensembles from before there were stages have none.
        values = {"stages": {}, **values}
        info = EnsembleInfo(**{field.name: values[field.name] for field in fields(EnsembleInfo)})
        is_as_stated = info.ensemble_id == stated
        wrong = _wrong(info)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--ensemble {path}: not an ensemble that jobs/train.py wrote ({error!r})") from error
    if wrong:
        raise ConfigError(f"--ensemble {path}: {wrong}")
    if not is_as_stated:
        raise ConfigError(f"--ensemble {path}: was changed since it was written (its ensemble_id is {stated!r})")
    return info


def _wrong(info: EnsembleInfo) -> str:
    """The first value that cannot be, with its name and rule; empty where there is none."""
    names, first = info.backbone_names, info.backbones[0].feature_spec if info.backbones else None
    temperature = info.calibration["temperature"]
    rules: list[tuple[str, bool, str, Any]] = [
        ("classes", len(set(info.classes)) == len(info.classes) >= 2, "at least 2, each once", info.classes),
        ("members", len(info.members) >= 1, "at least 1", len(info.members)),
        ("temperature", temperature > 0, "above 0", temperature),
        ("backbones", len(set(names)) == len(names) >= 1, "at least 1, each once", names),
    ]
    for fitted in info.backbones:
        spec = fitted.feature_spec
        dim = FEATURE_DIMS.get(spec.backbone)
        rules += [
            ("backbone", dim is not None, f"one of {', '.join(FEATURE_DIMS)}", spec.backbone),
            (f"feature_dim of {spec.backbone}", fitted.feature_dim == dim, str(dim), fitted.feature_dim),
            (
                f"preprocessing of {spec.backbone}",
                fitted.preprocessing == spec.transform,
                f"its feature_spec's transform {spec.transform}",
                fitted.preprocessing,
            ),
            (
                f"sampling and decoder of {spec.backbone}",
                first is not None and spec.frames == first.frames,
                f"those of {names[0]} {first and first.frames}",
                spec.frames,
            ),
            (
                f"members of {spec.backbone}",
                any(member["backbone"] == spec.backbone for member in info.members),
                "at least 1",
                0,
            ),
        ]
    for index, member in enumerate(info.members):
        rules.append(
            (f"backbone of member {index}", member["backbone"] in names, f"one of {names}", member["backbone"])
        )
    broken = [f"{name} must be {rule}, got {value!r}" for name, holds, rule, value in rules if not holds]
    return broken[0] if broken else ""


def load(directory: str, device: torch.device, precision: str = "fp32") -> Ensemble:
    """The ensemble of a directory, ready to classify. ConfigError where a member is missing or
    does not fit the sizes that `ensemble.json` states.

    `precision` is what members compute in on a CPU: fp32, bf16 or auto, which takes bf16 where the processor has
    it and the ensemble's probe agrees. On a GPU it is fp32.
    """
    info = read_info(directory)
    members = [load_member(directory, info, index).eval() for index in range(len(info.members))]
    trust = read_trust(directory, info)
    may_choose = precision == "auto" and trust.probe is not None and has_bf16()
    if device.type == "cpu" and (precision == "bf16" or may_choose):
        halves = Ensemble(info, [halved(member) for member in members], trust, device)
        if precision == "bf16" or (trust.probe is not None and _agrees(halves, trust.probe)):
            return halves
    return Ensemble(info, members, trust, device)


def _agrees(halves: Ensemble, probe: Probe) -> bool:
    return probe.agrees(halves(probe.sequences_S, tta=True).view_probabilities_VBC)


def load_member(directory: str, info: EnsembleInfo, index: int) -> TemporalClassifier:
    path = storage.join(directory, info.members[index]["file"])
    feature_dim = info.backbones[info.spaces_M[index]].feature_dim
    model = TemporalClassifier(feature_dim, len(info.classes), info.model)
    try:
        content = storage.read_bytes(path)
        if hashlib.sha256(content).hexdigest() != info.members[index]["digest"]:
            raise ConfigError(f"--ensemble {path}: is not the file that {ENSEMBLE_FILE} lists (digest differs)")
        model.load_state_dict(safetensors.torch.load(content))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ConfigError(f"--ensemble {path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    return model
