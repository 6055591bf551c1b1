"""`ensemble.json`: how an ensemble was trained and calibrated, and which features it accepts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vidclf import storage
from vidclf.backbones.catalog import FEATURE_DIMS
from vidclf.config import ModelConfig
from vidclf.ensemble.member_file import MAX_MEMBERS, is_plain_name
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec

ENSEMBLE_FILE = "ensemble.json"


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


def mode(tta: bool) -> str:
    """The key of what is fitted apart with and without test-time augmentation."""
    return "tta" if tta else "plain"


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
        wrong = _first_invalid(info)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--ensemble {path}: not an ensemble that jobs/train.py wrote ({error!r})") from error
    if wrong:
        raise ConfigError(f"--ensemble {path}: {wrong}")
    if not is_as_stated:
        raise ConfigError(f"--ensemble {path}: was changed since it was written (its ensemble_id is {stated!r})")
    return info


def _first_invalid(info: EnsembleInfo) -> str:
    """The first value that cannot be, with its name and rule; empty where there is none."""
    names, first = info.backbone_names, info.backbones[0].feature_spec if info.backbones else None
    temperature = info.calibration["temperature"]
    rules: list[tuple[str, bool, str, Any]] = [
        ("classes", len(set(info.classes)) == len(info.classes) >= 2, "at least 2, each once", info.classes),
        ("members", 1 <= len(info.members) <= MAX_MEMBERS, f"between 1 and {MAX_MEMBERS}", len(info.members)),
        ("temperature", 0 < temperature < math.inf, "above 0 and finite", temperature),
        ("backbones", len(set(names)) == len(names) >= 1, "at least 1, each once", names),
    ]
    for fitted in info.backbones:
        spec = fitted.feature_spec
        dim = FEATURE_DIMS.get(spec.backbone)
        num_frames = spec.sampling.get("num_frames", 1)
        rules += [
            ("backbone", dim is not None, f"one of {', '.join(FEATURE_DIMS)}", spec.backbone),
            (f"num_frames of {spec.backbone}", 1 <= num_frames <= 4096, "between 1 and 4096", num_frames),
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
    files = [member["file"] for member in info.members]
    for index, member in enumerate(info.members[:MAX_MEMBERS]):
        file = member["file"]
        rules += [
            (f"backbone of member {index}", member["backbone"] in names, f"one of {names}", member["backbone"]),
            (f"file of member {index}", is_plain_name(file), "the name of a file in the ensemble's directory", file),
            (f"file of member {index}", files.count(file) == 1, "of no other member", file),
        ]
    not_numbers = [
        name for part in ("calibration", "trust", "views", "stages") for name in _not_numbers(getattr(info, part), part)
    ]
    rules += [(name, False, "a number", math.nan) for name in not_numbers]
    broken = [f"{name} must be {rule}, got {value!r}" for name, holds, rule, value in rules if not holds]
    return broken[0] if broken else ""


def _not_numbers(value: Any, name: str) -> Iterator[str]:
    """Dotted names of the values that are NaN, below one that is called `name`."""
    if isinstance(value, float) and math.isnan(value):
        yield name
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _not_numbers(one, f"{name}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _not_numbers(one, f"{name}.{index}")
