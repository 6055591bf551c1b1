"""Shapes of the weights of an ensemble member, by its kind and sizes, without building the model.

A job compares them with the header of the member's file before any work, in a process that does not load torch, which
takes longer than the comparison. `tests/unit/ensemble/test_member_shapes.py` compares them with the built models.
"""

from __future__ import annotations

from vidclf.config import ModelConfig
from vidclf.ensemble.weights_file_check import Shapes


def member_shapes(feature_dim: int, num_outputs: int, config: ModelConfig) -> Shapes:
    """Shape of each weight of the temporal model that `model_kinds.build_model` makes of the same arguments."""
    if config.model == "words":
        return {"texts": (num_outputs, feature_dim), "logit_scale": ()}
    if config.model == "attentive":
        return _attentive_probe(feature_dim, num_outputs, config)
    return _bilstm(feature_dim, num_outputs, config)


def _attentive_probe(feature_dim: int, num_outputs: int, config: ModelConfig) -> Shapes:
    width = 2 * config.hidden_dim
    return {
        "query": (1, 1, width),
        **_norm("frame_norm", feature_dim),
        **_attention("attention", width, feature_dim),
        **_norm("pooled_norm", width),
        **_linear("classifier", width, num_outputs),
    }


def _bilstm(feature_dim: int, num_outputs: int, config: ModelConfig) -> Shapes:
    hidden_dim, wide = config.hidden_dim, 2 * config.hidden_dim
    projected, pooling = config.projection_dim or hidden_dim, config.pooling_dim or hidden_dim
    shapes: Shapes = {
        **_linear("input_projection.0", feature_dim, projected),
        **_norm("input_projection.1", projected),
        **_attention("attention", wide, wide),
        **_norm("attention_norm", wide),
        **_linear("attention_pooling.0", wide, pooling),
        **_norm("attention_pooling.1", pooling),
        **_linear("attention_pooling.4", pooling, 1),
    }
    for layer in range(config.num_lstm_layers):
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            shapes[f"lstm.weight_ih_{suffix}"] = (4 * hidden_dim, projected if layer == 0 else wide)
            shapes[f"lstm.weight_hh_{suffix}"] = (4 * hidden_dim, hidden_dim)
            shapes[f"lstm.bias_ih_{suffix}"] = shapes[f"lstm.bias_hh_{suffix}"] = (4 * hidden_dim,)
    has_norm, width, position = config.classifier_norm == "layer", wide, 0
    for next_width in config.classifier_dims:
        shapes |= _linear(f"classifier.{position}", width, next_width)
        if has_norm:
            shapes |= _norm(f"classifier.{position + 1}", next_width)
        position += 3 + has_norm  # the layer, its norm, ReLU and dropout
        width = next_width
    return {**shapes, **_linear(f"classifier.{position}", width, num_outputs)}


def _linear(name: str, width: int, num_outputs: int) -> Shapes:
    """Weights of a linear layer."""
    return {f"{name}.weight": (num_outputs, width), f"{name}.bias": (num_outputs,)}


def _norm(name: str, width: int) -> Shapes:
    """Weights of a LayerNorm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _attention(name: str, width: int, source_width: int) -> Shapes:
    """Weights of an attention of `width` to inputs of `source_width`. Torch keeps three matrices if they differ."""
    if source_width == width:
        matrices: Shapes = {f"{name}.in_proj_weight": (3 * width, width)}
    else:
        sources = {f"{name}.{letter}_proj_weight": (width, source_width) for letter in "kv"}
        matrices = {f"{name}.q_proj_weight": (width, width), **sources}
    return {**matrices, f"{name}.in_proj_bias": (3 * width,), **_linear(f"{name}.out_proj", width, width)}
