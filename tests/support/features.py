"""Features made without a CNN: of videos of two classes, and of the same videos by two backbones."""

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
    """Sequences as videos of the classes A and B by turns, each a source of its own, the first half of them in train
    and the others in val."""
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
    """Of 24 videos of two classes, 12 in train and 12 in val, of 2 or 3 frames. A class is a direction in the
    features of `resnet50` alone."""
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
