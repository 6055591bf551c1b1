"""A training job for kill tests: `python -m tests.support.training_job OUTPUT` trains one member on random features."""

from __future__ import annotations

import sys

import numpy as np

from vidclf.config import TrainConfig
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.training.train import train

SEED = 3


def features() -> FeatureSet:
    """Sixty videos of six frames in three classes. The class means differ by less than the noise."""
    generator = np.random.default_rng(0)
    labels = ["ABC"[index % 3] for index in range(60)]
    return FeatureSet(
        spec=FeatureSpec(
            backbone="efficientnet_lite0", weights_digest="0", sampling={}, transform={}, decoder="d", dtype="float16"
        ),
        video_ids=[f"{index:03}" for index in range(60)],
        video_uris=[f"/videos/{index:03}.mp4" for index in range(60)],
        labels=labels,
        sublabels=[None] * 60,
        groups=[f"source {index}" for index in range(60)],
        splits=["val" if index % 5 == 4 else "train" for index in range(60)],
        content_digests=[f"{index:03}" for index in range(60)],
        features=[generator.normal("ABC".index(label), 2, (6, 1280)).astype(np.float16) for label in labels],
    )


def config(output: str) -> TrainConfig:
    return TrainConfig(
        features=("made in the test",),
        output=output,
        members=1,
        hidden_dim=64,
        num_lstm_layers=2,
        num_attention_heads=4,
        classifier_dims=(32,),
        epochs=40,
        patience=40,
        batch_size=8,
        seed=SEED,
        calibration="validation",
    )


if __name__ == "__main__":
    train(config(sys.argv[1]), [features()], ["DEFAULT"])
