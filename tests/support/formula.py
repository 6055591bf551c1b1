"""The temporal model's forward pass from its formulas, in numpy and float64, independent of vidclf's code.

LSTM: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000. Self-attention: Vaswani et
al. 2017, section 3.2. Pooling: Lin et al. 2017, equations 5 and 6 with one hop.

Shape suffixes: T frames, D features, H both directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
State = Mapping[str, Array]


def logits_and_attention(
    state: State,
    features_TD: Array,
    num_heads: int,
    classifier: Sequence[tuple[str, int]],
    pooling: tuple[int, int, int] = (0, 1, 4),
) -> tuple[Array, Array]:
    """Logits [C] and pooling weights [T] of one video without padding, at inference, so without dropout.

    `classifier` lists kind (linear, layer_norm, batch_norm or relu) and number of each layer. `pooling` holds the
    numbers of the linear, the norm and the linear layer.
    """
    x = relu(layer_norm(state, "input_projection.1", linear(state, "input_projection.0", features_TD)))
    layer = 0
    while f"lstm.weight_ih_l{layer}" in state:
        x = np.concatenate([lstm(state, f"l{layer}", x), lstm(state, f"l{layer}_reverse", x[::-1])[::-1]], axis=1)
        layer += 1
    context_TH = layer_norm(state, "attention_norm", x + self_attention(state, x, num_heads))
    first, norm, last = (f"attention_pooling.{number}" for number in pooling)
    hidden = np.tanh(layer_norm(state, norm, linear(state, first, context_TH)))
    weights_T = softmax(linear(state, last, hidden)[:, 0])
    out = weights_T @ context_TH
    for kind, number in classifier:
        name = f"classifier.{number}"
        if kind == "relu":
            out = relu(out)
        else:
            out = {"linear": linear, "layer_norm": layer_norm, "batch_norm": batch_norm}[kind](state, name, out)
    return out, weights_T


def linear(state: State, name: str, x: Array) -> Array:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def layer_norm(state: State, name: str, x: Array) -> Array:
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def batch_norm(state: State, name: str, x: Array) -> Array:
    deviation = np.sqrt(state[f"{name}.running_var"] + 1e-5)
    return (x - state[f"{name}.running_mean"]) / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def lstm(state: State, suffix: str, x: Array) -> Array:
    """Hidden states of one direction of one layer, over x from its first row to its last."""
    input_weight, state_weight = state[f"lstm.weight_ih_{suffix}"], state[f"lstm.weight_hh_{suffix}"]
    bias = state[f"lstm.bias_ih_{suffix}"] + state[f"lstm.bias_hh_{suffix}"]
    hidden = cell = np.zeros(state_weight.shape[1])
    rows = []
    for row in x:
        input_gate, forget_gate, candidate, output_gate = np.split(input_weight @ row + state_weight @ hidden + bias, 4)
        cell = sigmoid(forget_gate) * cell + sigmoid(input_gate) * np.tanh(candidate)
        hidden = sigmoid(output_gate) * np.tanh(cell)
        rows.append(hidden)
    return np.stack(rows)


def self_attention(state: State, x: Array, num_heads: int) -> Array:
    query, key, value = np.split(x @ state["attention.in_proj_weight"].T + state["attention.in_proj_bias"], 3, axis=1)
    width = x.shape[1] // num_heads
    heads = []
    for start in range(0, x.shape[1], width):
        q, k, v = (matrix[:, start : start + width] for matrix in (query, key, value))
        heads.append(softmax(q @ k.T / np.sqrt(width)) @ v)
    return linear(state, "attention.out_proj", np.concatenate(heads, axis=1))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
