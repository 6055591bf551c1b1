"""`ensemble.json`: an ensemble's classes, input features, members and calibration.

The file is the JSON of `EnsembleInfo`, with keys in the order of the fields: the order is part of `ensemble_id`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from vidclf import storage
from vidclf.backbones.catalog import FEATURE_DIMS
from vidclf.config import ModelConfig
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.views import ViewWeight
from vidclf.ensemble.weights_file_check import MAX_MEMBERS, is_plain_name
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.uncertainty.ood import OodLine
from vidclf.uncertainty.trust_score import TrustScore

ENSEMBLE_FILE = "ensemble.json"

MAX_FRAMES = 4096
"""Most frames per video that `ensemble.json` may state."""


@dataclass(frozen=True, kw_only=True)
class FittedBackbone:
    """A backbone whose features the members were trained on."""

    feature_spec: FeatureSpec
    feature_dim: int
    weights: str
    """location of its weights at extraction: DEFAULT, a file, a URI or random"""
    preprocessing: dict[str, Any]
    """spatial transform, mean and standard deviation of the frames (`backbones.catalog.Preprocessing`)"""

    @classmethod
    def of(cls, spec: FeatureSpec, weights: str) -> FittedBackbone:
        """The backbone that extracted features of `spec` with the weights at `weights`."""
        return cls(feature_spec=spec, feature_dim=spec.feature_dim, weights=weights, preprocessing=spec.transform)

    @property
    def name(self) -> str:
        return self.feature_spec.backbone


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Temperature scaling of averaged probabilities, and the calibration error that it leaves."""

    temperature: float
    ece_before: float
    """expected calibration error on the validation split at temperature 1"""
    ece_after: float
    """expected calibration error with temperatures cross-fitted over sources"""


@dataclass(frozen=True, kw_only=True)
class EnsembleCalibration:
    """`Calibration` of the full look without and with test-time augmentation (TTA)."""

    num_videos: int
    """validation videos that both were fitted on"""
    temperature: float
    ece_before: float
    ece_after: float
    tta: Calibration
    """the same three values for the weighted vote of all views"""

    @classmethod
    def of(cls, num_videos: int, plain: Calibration, tta: Calibration) -> EnsembleCalibration:
        return cls(num_videos=num_videos, **asdict(plain), tta=tta)

    def of_mode(self, tta: bool) -> Calibration:
        """The calibration with test-time augmentation, or the one without."""
        if tta:
            return self.tta
        return Calibration(temperature=self.temperature, ece_before=self.ece_before, ece_after=self.ece_after)


@dataclass(frozen=True, kw_only=True)
class TrustInfo:
    """OOD line and trust scores of the full look."""

    digest: str
    """SHA-256 of `trust.safetensors`"""
    ood: OodLine
    plain: TrustScore
    """trust score of predictions from the original view"""
    tta: TrustScore
    """trust score of predictions from the weighted vote of all views"""

    def score(self, tta: bool) -> TrustScore:
        return self.tta if tta else self.plain


@dataclass(frozen=True, kw_only=True)
class LookInfo:
    """The fitted values of one early look of the cascade, which has one view."""

    num_frames: int
    """the most frames of a video at this look"""
    feature_specs: list[FeatureSpec]
    """one per backbone; empty if the look takes its frames from the full look"""
    calibration: Calibration
    ood: OodLine
    trust: TrustScore
    val_accuracy: float
    """accuracy on the validation split if every video were decided at this look"""


@dataclass(frozen=True, kw_only=True)
class MembersInfo:
    """The trained members before calibration: classes, input features, sizes and origin."""

    classes: list[str]
    backbones: list[FittedBackbone]
    """each backbone once; all with the same sampling plan and decoder"""
    model: ModelConfig
    """sizes that all members share"""
    members: list[MemberRecord]
    training: dict[str, Any]
    """numbers of videos, digest of the data, recipe; after calibration also scores on the validation split"""
    versions: dict[str, str]
    """versions of Python and of the packages that trained the members"""

    @property
    def backbone_names(self) -> list[str]:
        return [backbone.name for backbone in self.backbones]

    @property
    def spaces_M(self) -> list[int]:
        """Index into `backbones` per member."""
        return [self.backbone_names.index(member.backbone) for member in self.members]


@dataclass(frozen=True, kw_only=True)
class EnsembleInfo(MembersInfo):
    """`ensemble.json`: everything about an ensemble except its arrays."""

    views: list[ViewWeight]
    """views of test-time augmentation, in the order of `views.VIEWS`"""
    calibration: EnsembleCalibration
    trust: TrustInfo
    stages: dict[str, LookInfo] = field(default_factory=dict)
    """early looks of the cascade (`schema.Look`) that could be fitted"""

    @property
    def ensemble_id(self) -> str:
        """Digest of everything that affects a prediction: features, classes, weights, calibration, trust."""
        looks = {name: asdict(look) for name, look in self.stages.items()}
        decisive = [
            [backbone.feature_spec.key for backbone in self.backbones],
            self.classes,
            [[member.backbone, member.digest] for member in self.members],
            [[view.name, view.weight] for view in self.views],
            asdict(self.calibration),
            asdict(self.trust),
            # Left out when empty, so that ensembles without early looks keep their earlier id.
            *([looks] if looks else []),
        ]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """The content of `ensemble.json`."""
        members = [member.as_json() for member in self.members]
        return {"ensemble_id": self.ensemble_id, **asdict(self), "members": members}


def mode(tta: bool) -> str:
    """Key of values that are fitted separately with test-time augmentation (`tta`) and without (`plain`)."""
    return "tta" if tta else "plain"


def write_info(directory: str, info: EnsembleInfo) -> None:
    """Publish `ensemble.json`. Its presence marks the ensemble as complete."""
    storage.publish_json(storage.join(directory, ENSEMBLE_FILE), info.as_json())


def read_info(directory: str) -> EnsembleInfo:
    """`ensemble.json` of a finished ensemble.

    Raises ConfigError if the file is missing, is not such a file, was edited, or holds a value out of range.
    """
    path = storage.join(directory, ENSEMBLE_FILE)
    if not storage.exists(path):
        raise ConfigError(
            f"--ensemble must be a directory that jobs/train.py finished, got {directory!r} (no {ENSEMBLE_FILE})"
        )
    try:
        values = storage.read_json(path)
        stated_id = values["ensemble_id"]
        info = _parsed(values)
        is_unchanged = info.ensemble_id == stated_id
        violation = _first_invalid(info)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"--ensemble {path}: not an ensemble that jobs/train.py wrote ({error!r})") from error
    if violation:
        raise ConfigError(f"--ensemble {path}: {violation}")
    if not is_unchanged:
        raise ConfigError(f"--ensemble {path}: was changed since it was written (its ensemble_id is {stated_id!r})")
    return info


def _parsed(values: dict[str, Any]) -> EnsembleInfo:
    """The records in the values of `ensemble.json`; KeyError, TypeError or AttributeError if they are not such."""
    calibration, trust = values["calibration"], values["trust"]
    return EnsembleInfo(
        classes=values["classes"],
        backbones=[
            FittedBackbone(**{**backbone, "feature_spec": FeatureSpec(**backbone["feature_spec"])})
            for backbone in values["backbones"]
        ],
        model=ModelConfig(**{**values["model"], "classifier_dims": tuple(values["model"]["classifier_dims"])}),
        members=[MemberRecord.read(member) for member in values["members"]],
        training=values["training"],
        versions=values["versions"],
        views=[ViewWeight(**view) for view in values["views"]],
        calibration=EnsembleCalibration(**{**calibration, "tta": Calibration(**calibration["tta"])}),
        trust=TrustInfo(
            digest=trust["digest"],
            ood=OodLine(**trust["ood"]),
            plain=TrustScore(**trust["plain"]),
            tta=TrustScore(**trust["tta"]),
        ),
        # Ensembles written before there were early looks have no `stages`.
        stages={name: _parsed_look(look) for name, look in values.get("stages", {}).items()},
    )


def _parsed_look(values: dict[str, Any]) -> LookInfo:
    return LookInfo(
        **{
            **values,
            "feature_specs": [FeatureSpec(**spec) for spec in values["feature_specs"]],
            "calibration": Calibration(**values["calibration"]),
            "ood": OodLine(**values["ood"]),
            "trust": TrustScore(**values["trust"]),
        }
    )


Rule = tuple[str, bool, str, Any]
"""Name of a value, whether it is valid, the rule in words, and the value."""


def _first_invalid(info: EnsembleInfo) -> str:
    """A message about the first value that is out of range, with its name and rule; empty if all are valid."""
    rules = itertools.chain(_ensemble_rules(info), _backbone_rules(info), _member_rules(info), _number_rules(info))
    return next((f"{name} must be {rule}, got {value!r}" for name, is_valid, rule, value in rules if not is_valid), "")


def _ensemble_rules(info: EnsembleInfo) -> Iterator[Rule]:
    names, temperature = info.backbone_names, info.calibration.temperature
    yield "classes", len(set(info.classes)) == len(info.classes) >= 2, "at least 2, each once", info.classes
    yield "members", 1 <= len(info.members) <= MAX_MEMBERS, f"between 1 and {MAX_MEMBERS}", len(info.members)
    yield "temperature", 0 < temperature < math.inf, "above 0 and finite", temperature
    yield "backbones", len(set(names)) == len(names) >= 1, "at least 1, each once", names


def _backbone_rules(info: EnsembleInfo) -> Iterator[Rule]:
    """The rules of each backbone; there is at least one."""
    first = info.backbones[0].feature_spec
    with_members = {member.backbone for member in info.members}
    for fitted in info.backbones:
        spec, name = fitted.feature_spec, fitted.name
        dim, num_frames = FEATURE_DIMS.get(name), spec.sampling.get("num_frames", 1)
        transform = f"its feature_spec's transform {spec.transform}"
        yield "backbone", dim is not None, f"one of {', '.join(FEATURE_DIMS)}", name
        yield f"num_frames of {name}", 1 <= num_frames <= MAX_FRAMES, f"between 1 and {MAX_FRAMES}", num_frames
        yield f"feature_dim of {name}", fitted.feature_dim == dim, str(dim), fitted.feature_dim
        yield f"preprocessing of {name}", fitted.preprocessing == spec.transform, transform, fitted.preprocessing
        is_like_first = spec.frames == first.frames
        yield f"sampling and decoder of {name}", is_like_first, f"those of {first.backbone} {first.frames}", spec.frames
        yield f"members of {name}", name in with_members, "at least 1", 0


def _member_rules(info: EnsembleInfo) -> Iterator[Rule]:
    names, files = info.backbone_names, [member.file for member in info.members]
    for index, member in enumerate(info.members):
        file = member.file
        yield f"backbone of member {index}", member.backbone in names, f"one of {names}", member.backbone
        yield f"file of member {index}", is_plain_name(file), "the name of a file in the ensemble's directory", file
        yield f"file of member {index}", files.count(file) == 1, "of no other member", file


def _number_rules(info: EnsembleInfo) -> Iterator[Rule]:
    values = asdict(info)
    for part in ("calibration", "trust", "views", "stages"):
        for name in _nan_names(values[part], part):
            yield name, False, "a number", math.nan


def _nan_names(value: Any, name: str) -> Iterator[str]:
    """Dotted names of the NaN values in `value`, whose own name is `name`."""
    if isinstance(value, float) and math.isnan(value):
        yield name
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nan_names(item, f"{name}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nan_names(item, f"{name}.{index}")
