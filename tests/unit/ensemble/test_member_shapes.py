"""Shapes of members' weights: equal to those of the models that torch builds."""

from __future__ import annotations

import pytest

from vidclf.config import ModelConfig
from vidclf.ensemble.member_shapes import member_shapes
from vidclf.ensemble.model_kinds import build_model

SMALL = {"hidden_dim": 4, "num_attention_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(**SMALL, num_lstm_layers=1, classifier_dims=()),
        ModelConfig(**SMALL, num_lstm_layers=3, classifier_dims=(7, 5)),
        ModelConfig(**SMALL, projection_dim=3, pooling_dim=6, classifier_dims=(7, 5), classifier_norm="layer"),
        ModelConfig(**SMALL, model="attentive"),
        ModelConfig(**SMALL, model="words"),
    ],
)
@pytest.mark.parametrize("feature_dim", [8, 10])  # 8 is the width of the attention
def test_the_shapes_are_those_of_the_built_model(config: ModelConfig, feature_dim: int) -> None:
    built = build_model(feature_dim, 3, config).state_dict()
    assert member_shapes(feature_dim, 3, config) == {name: tuple(tensor.shape) for name, tensor in built.items()}


def test_an_attentive_probe_has_these_weights() -> None:
    assert member_shapes(6, 3, ModelConfig(**SMALL, model="attentive")) == {
        "query": (1, 1, 8),
        "frame_norm.weight": (6,),
        "frame_norm.bias": (6,),
        "attention.q_proj_weight": (8, 8),
        "attention.k_proj_weight": (8, 6),
        "attention.v_proj_weight": (8, 6),
        "attention.in_proj_bias": (24,),
        "attention.out_proj.weight": (8, 8),
        "attention.out_proj.bias": (8,),
        "pooled_norm.weight": (8,),
        "pooled_norm.bias": (8,),
        "classifier.weight": (3, 8),
        "classifier.bias": (3,),
    }
