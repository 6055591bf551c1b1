"""Synthetic features of videos of two classes, by one backbone or by two, made without a CNN.

Shape suffixes: T frames, D features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.video.sampling import SamplingPlan

LITE0 = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=3))
RESNET = replace(LITE0, backbone="resnet50")


def half_and_half(spec: FeatureSpec, features: list[npt.NDArray[np.float16]]) -> FeatureSet:
    """A set in which `features` are videos of the classes A and B by turns, the first half in train, the rest in val.

    Each video is its own source.
    """
    half = len(features) // 2
    names = [f"{split}{index:02}" for split in ("train", "val") for index in range(half)]
    return FeatureSet(
        spec=spec,
        video_ids=names,
        video_uris=names,
        labels=["AB"[index % 2] for index in range(len(features))],
        sublabels=[None] * len(features),
        groups=names,
        splits=["train"] * half + ["val"] * half,
        content_digests=names,
        features=features,
    )


def pair() -> list[FeatureSet]:
    """Features of the same 24 videos by two backbones: 12 videos in train, 12 in val, 2 or 3 frames each.

    Only the features of `resnet50` depend on the class; those of `efficientnet_lite0` are noise.
    """
    generator = np.random.default_rng(0)
    sets = []
    for spec, strength in ((LITE0, 0), (RESNET, 900)):
        features = [
            strength * np.eye(spec.feature_dim)[index % 2]
            + generator.normal(size=(2 + index % 3 // 2, spec.feature_dim))
            for index in range(24)
        ]
        sets.append(half_and_half(spec, [rows_TD.astype(np.float16) for rows_TD in features]))
    return sets
