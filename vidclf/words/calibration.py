"""Calibration of labels from words: an ensemble of one model, fitted to the features of a few labelled videos.

Nothing is trained. Temperature, trust score and OOD line are fitted like those of a trained ensemble.
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np

import vidclf
from vidclf.archive import splits
from vidclf.credentials import masked
from vidclf.ensemble import files
from vidclf.ensemble.info import EnsembleInfo, FittedBackbone, MembersInfo, write_info
from vidclf.ensemble.member_record import MemberRecord
from vidclf.ensemble.temporal_model import num_parameters
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet, read_features
from vidclf.features.spec import FeatureSpec
from vidclf.training import class_gaps
from vidclf.training.calibrate import calibrate
from vidclf.training.dataset import training_data
from vidclf.training.member_plan import data_digest
from vidclf.training.publish import known_sources
from vidclf.words.head import MODEL, word_model
from vidclf.words.labels import Labels, described
from vidclf.words.text_embeddings import WordEmbeddings

LEAST_SOURCES = 2
"""Number of sources (recordings) that each label must have: one to know its videos by, one to test with."""


def calibrated_ensemble(
    directory: str, location: str, labels: Labels, words: WordEmbeddings, spec: FeatureSpec, weights: str
) -> EnsembleInfo:
    """Write an ensemble of the model of `words` into `directory`, calibrated on the features at `location`.

    `spec` and `weights` are those of the image tower. Raises ConfigError if the features are not of that tower, if a
    label has too few videos, or a video has another label.
    """
    features = _halved(location, labels, _of_tower(location, spec))
    classes = list(labels)
    data = training_data(features, classes, option=f"--calibrate-with {location}")
    model = word_model(words)
    digest = files.write_member(directory, 0, model.state_dict())
    member = MemberRecord(
        file=files.member_file(0),
        backbone=spec.backbone,
        num_parameters=num_parameters(model),
        digest=digest,
        recipe="words",
    )
    info = MembersInfo(
        classes=classes,
        backbones=[FittedBackbone.of(features.spec, masked(weights))],
        model=MODEL,
        members=[member],
        training={
            "num_train_videos": len(data.train.labels),
            "num_val_videos": len(data.val.labels),
            "sources": asdict(known_sources(features)),
            "class_videos": np.bincount([*data.train.labels, *data.val.labels], minlength=len(classes)).tolist(),
            "data_digest": data_digest([features]),
            "recipe": "words",
            "labels": described(labels),
            "prior_temperature": 1.0,
        },
        versions={
            "vidclf": vidclf.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "open_clip_torch", "numpy")},
        },
    )
    calibrated = calibrate(directory, info, [features])
    write_info(directory, calibrated)
    return calibrated


def _of_tower(location: str, spec: FeatureSpec) -> FeatureSet:
    """The labelled videos at `location` that are in no test split. Raises ConfigError for features of another image
    network, preprocessing or weights."""
    features = class_gaps.labelled(read_features(location))
    fitting = replace(spec, sampling=features.spec.sampling)
    if features.spec.key != fitting.key:
        raise ConfigError(
            f"--calibrate-with {location}: have key {features.spec.key}, --backbone makes {fitting.key} "
            f"({features.spec.differences(fitting)}); extract them with the same --backbone and --weights"
        )
    kept = [index for index, split in enumerate(features.splits) if split != "test"]
    lists = ("video_ids", "video_uris", "labels", "sublabels", "groups", "splits", "content_digests", "features")
    values: dict[str, Any] = {name: [getattr(features, name)[index] for index in kept] for name in lists}
    return replace(features, **values)


def _halved(location: str, labels: Labels, features: FeatureSet) -> FeatureSet:
    """The same videos, half of the sources of each label in the split train, the others in val.

    The first show what known videos look like, the others fit the temperature and the trust score. Raises ConfigError
    for videos whose label is not in the file of labels, and for labels with too few sources.
    """
    for label, uri in zip(features.labels, features.video_uris, strict=True):
        if label not in labels:
            raise ConfigError(
                f"--calibrate-with {location}: labels must be those of --labels ({', '.join(labels)}), {masked(uri)} "
                f"has {label!r}"
            )
    sources = Counter(label for label, _ in set(zip(features.labels, features.groups, strict=True)))
    for label in labels:
        if sources[label] < LEAST_SOURCES:
            raise ConfigError(
                f"--calibrate-with {location}: must hold at least {LEAST_SOURCES} sources (recordings) of each label "
                f"outside the test split, holds {sources[label]} of {label!r}; add videos"
            )
    names, option = [str(label) for label in features.labels], f"--calibrate-with {location}"
    halves = splits.assign(names, [None] * len(names), features.groups, (0.5, 0.5, 0.0), 0, option=option)
    return replace(features, splits=list(halves))
