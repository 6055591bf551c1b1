"""Features of the same videos by two backbones, made without a CNN, for the tests of ensembles of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vidclf.archive.sampling import SamplingPlan
from vidclf.features.store import FeatureSet, FeatureSpec

LITE0 = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "digest", SamplingPlan(num_frames=3))
RESNET = replace(LITE0, backbone="resnet50")


def pair() -> list[FeatureSet]:
    """Of 24 videos of two classes, 12 in train and 12 in val, of 2 or 3 frames. A class is a direction in the
    features of `resnet50` alone."""
    generator = np.random.default_rng(0)
    names = [f"{split}{index:02}" for split in ("train", "val") for index in range(12)]
    labels: list[str | None] = ["AB"[index % 2] for index in range(24)]
    lengths = [2 + index % 3 // 2 for index in range(24)]
    sets = []
    for spec, strength in ((LITE0, 0), (RESNET, 9)):
        means = [strength * np.eye(spec.feature_dim)[int(label == "B")] for label in labels]
        sets.append(
            FeatureSet(
                spec=spec,
                video_ids=names,
                video_uris=names,
                labels=labels,
                sublabels=[None] * 24,
                groups=names,
                splits=["train"] * 12 + ["val"] * 12,
                content_digests=names,
                features=[
                    (mean + generator.normal(size=(length, spec.feature_dim))).astype(np.float16)
                    for mean, length in zip(means, lengths, strict=True)
                ],
            )
        )
    return sets
