"""`ensemble.json`: an ensemble's classes, features, members and calibration; reading and writing.

The file is the JSON of `EnsembleInfo`, with keys in the order of the fields: the order is part of `ensemble_id`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

from vidclf import storage
from vidclf.config import ModelConfig
from vidclf.ensemble.info_rules import first_invalid, first_not_finite
from vidclf.ensemble.linear_member import LinearInfo, LinearWeight
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.outdated import OutdatedEnsembleError
from vidclf.ensemble.segment_temperature import SegmentCalibration
from vidclf.ensemble.split_record import ENSEMBLE_FILE as ENSEMBLE_FILE
from vidclf.ensemble.split_record import SplitsInfo
from vidclf.ensemble.sublabels import SublabelInfo
from vidclf.ensemble.views import ViewWeight
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.json_text import json_text
from vidclf.uncertainty.hierarchy import Hierarchy
from vidclf.uncertainty.ood import OodLine
from vidclf.uncertainty.trust_score import TrustScore


@dataclass(frozen=True, kw_only=True)
class FittedBackbone:
    """A backbone (image network) on whose features the ensemble's members were trained."""

    feature_spec: FeatureSpec
    """all settings that decide the features"""
    feature_dim: int
    """number of features per frame"""
    weights: str
    """location of the backbone's weights at extraction: DEFAULT, a file, a URI or random"""
    preprocessing: dict[str, Any]
    """how frames were prepared: spatial transform, mean and standard deviation (`backbones.catalog.Preprocessing`)"""

    @classmethod
    def of(cls, spec: FeatureSpec, weights: str) -> FittedBackbone:
        """Build the record of the backbone that extracted features with the settings `spec` and the weights at location
        `weights`."""
        return cls(feature_spec=spec, feature_dim=spec.feature_dim, weights=weights, preprocessing=spec.transform)

    @property
    def name(self) -> str:
        """Name of the backbone, such as `resnet50`."""
        return self.feature_spec.backbone


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Temperature that makes averaged probabilities match the observed accuracy, and the calibration error before and
    after."""

    temperature: float
    """probabilities are raised to the power 1 / temperature and normalised"""
    ece_before: float
    """expected calibration error on the validation split at temperature 1"""
    ece_after: float
    """expected calibration error on the validation split, where the temperature for each video was fitted on videos of
    other sources (recordings)"""


@dataclass(frozen=True, kw_only=True)
class EnsembleCalibration:
    """Calibration of predictions from all sampled frames, once without and once with test-time augmentation (TTA)."""

    num_videos: int
    """validation videos on which both calibrations were fitted"""
    temperature: float
    """temperature without TTA"""
    ece_before: float
    """expected calibration error without TTA at temperature 1"""
    ece_after: float
    """expected calibration error without TTA after calibration, as in `Calibration`"""
    tta: Calibration
    """the same three values with TTA: for the weighted vote of all views (variants of a video)"""

    @classmethod
    def of(cls, num_videos: int, plain: Calibration, tta: Calibration) -> EnsembleCalibration:
        """Combine the calibrations without TTA (`plain`) and with TTA."""
        return cls(num_videos=num_videos, **asdict(plain), tta=tta)

    def of_mode(self, tta: bool) -> Calibration:
        """The calibration with test-time augmentation if `tta` is True, else the one without."""
        if tta:
            return self.tta
        return Calibration(temperature=self.temperature, ece_before=self.ece_before, ece_after=self.ece_after)


@dataclass(frozen=True, kw_only=True)
class TrustInfo:
    """The fitted OOD line (distance beyond which a video is unlike the training videos) and trust scores, for
    predictions from all sampled frames."""

    digest: str
    """SHA-256 of `trust.safetensors`"""
    ood: OodLine
    plain: TrustScore
    """trust score of predictions without test-time augmentation"""
    tta: TrustScore
    """trust score of predictions with test-time augmentation, from the weighted vote of all views (variants of a
    video)"""

    def score(self, tta: bool) -> TrustScore:
        """The trust score with test-time augmentation if `tta` is True, else the one without."""
        return self.tta if tta else self.plain


@dataclass(frozen=True, kw_only=True)
class LookInfo:
    """The fitted values of one early look: a classification from few frames that may decide a video before all frames
    are used.

    Early looks have no test-time augmentation.
    """

    num_frames: int
    """largest number of frames that this look uses of a video"""
    feature_specs: list[FeatureSpec]
    """settings of the features, one per backbone; empty if the look uses some of the frames that are sampled for the
    full one"""
    calibration: Calibration
    ood: OodLine
    trust: TrustScore
    val_accuracy: float
    """accuracy on the validation split if every video were decided from the frames of this look"""

    def as_json(self) -> dict[str, Any]:
        """The values as a dictionary for `ensemble.json`."""
        return {**asdict(self), "feature_specs": [spec.as_json() for spec in self.feature_specs]}


@dataclass(frozen=True, kw_only=True)
class MembersInfo:
    """What is known of an ensemble before calibration: classes, input features, model sizes, and the trained
    members."""

    classes: list[str]
    backbones: list[FittedBackbone]
    """each backbone once; all with the same sampling plan of frames and the same decoder"""
    model: ModelConfig
    """kind and layer sizes, which all members share"""
    members: list[MemberRecord]
    training: dict[str, Any]
    """numbers of videos, digest of the data, digest of the training settings; after calibration also validation
    scores"""
    versions: dict[str, str]
    """versions of Python and of the packages that trained the members"""
    taxonomy: dict[str, list[str]] = field(default_factory=dict)
    """sublabels (finer classes) by class, in the order of the members' outputs; empty if the members predict none"""

    @property
    def hierarchy(self) -> Hierarchy:
        """The classes with their sublabels."""
        return Hierarchy(classes=self.classes, sublabels=self.taxonomy)

    @property
    def is_cross_calibrated(self) -> bool:
        """Whether calibration is fitted to all train and validation videos, each as judged by the members that left it
        out, instead of the validation split."""
        return self.training.get("calibration") == "cross"

    @property
    def backbone_names(self) -> list[str]:
        """Names of the backbones, in the order of `backbones`."""
        return [backbone.name for backbone in self.backbones]

    @property
    def spaces_M(self) -> list[int]:
        """For each member the index in `backbones` of the backbone whose features it takes."""
        return [self.backbone_names.index(member.backbone) for member in self.members]


@dataclass(frozen=True, kw_only=True)
class EnsembleInfo(MembersInfo):
    """Content of `ensemble.json`: everything about an ensemble except its arrays."""

    views: list[ViewWeight]
    """weights of the views (variants of a video for test-time augmentation), in the order of `views.VIEWS`"""
    calibration: EnsembleCalibration
    trust: TrustInfo
    stages: dict[str, LookInfo] = field(default_factory=dict)
    """values fitted for early looks (classifications from few frames, named as in `schema.Look`); looks that could not
    be fitted are absent"""
    segments: list[SegmentCalibration] = field(default_factory=list)
    """temperatures of segments (parts of a video), by increasing number of frames"""
    splits: SplitsInfo | None = None
    """digest of `splits.parquet`, the record of the videos and their splits; None in ensembles of earlier versions"""
    linear: LinearInfo | None = None
    """the linear member; None if the ensemble has none"""
    sublabels: SublabelInfo | None = None
    """calibration of the sublabels; None without a taxonomy"""

    @property
    def ensemble_id(self) -> str:
        """Digest of everything that affects a prediction: features, classes, model sizes, weights, calibration, trust
        scores. 16 hexadecimal digits."""
        decisive: list[Any] = [
            [backbone.feature_spec.key for backbone in self.backbones],
            self.classes,
            # Some sizes leave no trace in the weights: attention heads, number of frames.
            self.model.sizes,
            [[member.backbone, member.digest] for member in self.members],
            [[view.name, view.weight] for view in self.views],
            asdict(self.calibration),
            asdict(self.trust),
            {name: look.as_json() for name, look in self.stages.items()},
            [[segment.num_frames, segment.temperature] for segment in self.segments],
        ]
        # Left out without a linear member, so that ensembles of earlier versions keep their digest.
        if self.linear is not None:
            weights = {name: look.weight for name, look in self.linear.looks.items()}
            decisive.append([self.linear.digest, weights, self.linear.segments])
        if self.sublabels is not None:
            decisive.append([self.taxonomy, self.sublabels.temperatures])
        return hashlib.sha256(json_text(decisive).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """The content of `ensemble.json` as a dictionary."""
        members = [member.as_json() for member in self.members]
        values = {
            "ensemble_id": self.ensemble_id,
            **asdict(self),
            "backbones": [
                {**asdict(backbone), "feature_spec": backbone.feature_spec.as_json()} for backbone in self.backbones
            ],
            "members": members,
            "stages": {name: look.as_json() for name, look in self.stages.items()},
        }
        if self.model.model == "bilstm":
            del values["model"]["model"]  # the only kind of earlier versions, which read such an ensemble too
        for name in ("splits", "linear", "taxonomy", "sublabels"):
            if not values[name]:
                del values[name]
        return values


def mode(tta: bool) -> str:
    """Name under which values with test-time augmentation (`tta`) or without it (`plain`) are stored."""
    return "tta" if tta else "plain"


def write_info(directory: str, info: EnsembleInfo) -> None:
    """Write `ensemble.json` into the ensemble's directory. Its presence marks the ensemble as complete.

    Raises ConfigError if a fitted value is not finite: JSON has no such numbers, and the file could not be read.
    """
    check_finite(info)
    storage.publish_json(storage.join(directory, ENSEMBLE_FILE), info.as_json())


def check_finite(info: EnsembleInfo) -> None:
    """Raise ConfigError if a fitted value of an ensemble is not finite."""
    violation = first_not_finite(info)
    if violation:
        raise ConfigError(
            f"the ensemble cannot be published: {violation}; look for videos with equal features, or for classes with "
            "a single source"
        )


def read_info(directory: str, *, accepts_outdated: bool = False) -> EnsembleInfo:
    """Read and check `ensemble.json` of a finished ensemble. With `accepts_outdated`, one that an earlier version
    calibrated is read too.

    Raises ConfigError if the file is missing, does not describe an ensemble, was edited, or holds a value out of range,
    and OutdatedEnsembleError if an earlier version wrote it.
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
        violation = first_invalid(info)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"--ensemble {path}: not an ensemble that jobs/train.py wrote ({error!r})") from error
    is_outdated = "segments" not in values
    if is_outdated and not accepts_outdated:
        raise OutdatedEnsembleError(path, "without temperatures of segments")
    if violation:
        raise ConfigError(f"--ensemble {path}: {violation}")
    # Earlier versions had another digest.
    if not is_unchanged and not is_outdated:
        raise ConfigError(f"--ensemble {path}: was changed since it was written (its ensemble_id is {stated_id!r})")
    return info


def _parsed(values: dict[str, Any]) -> EnsembleInfo:
    """Build an `EnsembleInfo` from the JSON values of `ensemble.json`.

    Raises KeyError, TypeError or AttributeError if the values do not have that structure.
    """
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
        segments=[SegmentCalibration(**segment) for segment in values.get("segments", [])],
        splits=SplitsInfo(**values["splits"]) if values.get("splits") is not None else None,
        linear=_parsed_linear(values["linear"]) if values.get("linear") is not None else None,
        taxonomy=values.get("taxonomy", {}),
        sublabels=SublabelInfo(**values["sublabels"]) if values.get("sublabels") is not None else None,
    )


def _parsed_linear(values: dict[str, Any]) -> LinearInfo:
    """Build a `LinearInfo` from the JSON values of the linear member."""
    return LinearInfo(**{**values, "looks": {name: LinearWeight(**look) for name, look in values["looks"].items()}})


def _parsed_look(values: dict[str, Any]) -> LookInfo:
    """Build a `LookInfo` from the JSON values of one early look (a classification from few frames)."""
    return LookInfo(
        **{
            **values,
            "feature_specs": [FeatureSpec(**spec) for spec in values["feature_specs"]],
            "calibration": Calibration(**values["calibration"]),
            "ood": OodLine(**values["ood"]),
            "trust": TrustScore(**values["trust"]),
        }
    )
