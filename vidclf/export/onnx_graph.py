"""Building of ONNX graphs: nodes with constants, and the layers of the temporal model.

The graph is written node by node. torch's own exporters are no help: the present one (torch 2.15) refuses packed
sequences, and the one that takes them is to be removed.

Shape suffixes: B videos, T frames, Q queries, D features, H and W = 2 × hidden_dim, E any width, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from torch import Tensor, nn

from vidclf.ensemble.attentive_probe import AttentiveProbe
from vidclf.ensemble.linear_member import LinearMember
from vidclf.ensemble.temporal_model import TemporalClassifier, TemporalModel
from vidclf.ensemble.word_model import WordModel

OPSET = 17
"""Version of the ONNX operators. It is the first with LayerNormalization, so that old runtimes read the file too."""

IR_VERSION = 8
"""Version of the file format that came with `OPSET`."""

NEVER = np.float32(-1e30)
"""Score of padding before a softmax, whose result there is exactly 0. Some runtimes make NaN of an infinite one."""


class Graph:
    """A graph under construction. Values are named by strings."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}  # by type, shape and digest
        self.tensors: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: npt.ArrayLike, dtype: Any = np.int64) -> str:
        """Name of a constant; by default of whole numbers. Equal constants are stored once."""
        array = np.ascontiguousarray(np.asarray(values, dtype))
        array = array.reshape(np.shape(values))  # `ascontiguousarray` makes a vector of a single number
        key = (str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            name = f"c{len(self.tensors)}"
            self._constants[key] = name
            self.tensors.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def weights(self, tensor: Tensor) -> str:
        """Name of a constant with the values of a torch tensor, in float32."""
        return self.constant(tensor.detach().float().cpu().numpy(), np.float32)

    def axis_size(self, value: str, axis: int) -> str:
        """The size of one axis of `value`, as a vector of one number."""
        return self.add("Shape", value, start=axis, end=axis + 1)

    def positions(self, size: str) -> str:
        """The whole numbers from 0 to `size` - 1 as one row [1, size]; `size` is a vector of one number."""
        numbers = self.add("Range", self.constant(0), self.add("Squeeze", size), self.constant(1))
        return self.add("Unsqueeze", numbers, self.constant([0]))

    def at_frames(self, values_BTD: str, indices_BT: str) -> str:
        """The features [B, N, D] of the frames `indices_BT` [B, N] of each video."""
        width = self.axis_size(values_BTD, 2)
        shape = self.add("Concat", self.add("Shape", indices_BT), width, axis=0)
        return self.add(
            "GatherElements",
            values_BTD,
            self.add("Expand", self.add("Unsqueeze", indices_BT, self.constant([2])), shape),
            axis=1,
        )

    def column(self, lengths_B: str) -> str:
        """A vector of numbers per video as a column [B, 1]."""
        return self.add("Unsqueeze", lengths_B, self.constant([1]))


def member_logits(graph: Graph, model: TemporalModel, features_BTD: str, lengths_B: str) -> str:
    """Class logits [B, C] of padded sequences by one member, as its temporal model computes them."""
    if model.num_frames is not None:
        features_BTD, lengths_B = _thinned(graph, features_BTD, lengths_B, model.num_frames)
    frames = graph.positions(graph.axis_size(features_BTD, 1))
    is_padding_BT = graph.add("GreaterOrEqual", frames, graph.column(lengths_B))
    if isinstance(model, AttentiveProbe):
        return _probe_logits(graph, model, features_BTD, is_padding_BT)
    if isinstance(model, WordModel):
        return _word_logits(graph, model, features_BTD, lengths_B, is_padding_BT)
    assert isinstance(model, TemporalClassifier), model
    return _bilstm_logits(graph, model, features_BTD, lengths_B, is_padding_BT)


def _bilstm_logits(
    graph: Graph, model: TemporalClassifier, features_BTD: str, lengths_B: str, is_padding_BT: str
) -> str:
    """Class logits [B, C] of padded sequences by a BiLSTM."""
    projected_BTH = _sequential(graph, model.input_projection, features_BTD)
    states_BTH = _lstm(graph, model.lstm, projected_BTH, lengths_B)
    projected = _projected(graph, model.attention, states_BTH, states_BTH)
    attended_BTH = _attention(graph, model.attention, projected, is_padding_BT)
    context_BTH = _norm(graph, model.attention_norm, graph.add("Add", states_BTH, attended_BTH))
    scores_BT1 = _sequential(graph, model.attention_pooling, context_BTH)
    padding_BT1 = graph.add("Unsqueeze", is_padding_BT, graph.constant([2]))
    scores_BT1 = graph.add("Where", padding_BT1, graph.constant(NEVER, np.float32), scores_BT1)
    attention_BT1 = graph.add("Softmax", scores_BT1, axis=1)
    weighted_BTH = graph.add("Mul", attention_BT1, context_BTH)
    pooled_BH = graph.add("ReduceSum", weighted_BTH, graph.constant([1]), keepdims=0)
    return _sequential(graph, model.classifier, pooled_BH)


def _probe_logits(graph: Graph, model: AttentiveProbe, features_BTD: str, is_padding_BT: str) -> str:
    """Class logits [B, C] of padded sequences by an attentive probe."""
    padding_BT1 = graph.add("Unsqueeze", is_padding_BT, graph.constant([2]))
    # A weight of 0 times a NaN in the padding would be NaN.
    real_BTD = graph.add("Where", padding_BT1, graph.constant(np.float32(0), np.float32), features_BTD)
    frames_BTD = _norm(graph, model.frame_norm, real_BTD)
    projected = _projected(graph, model.attention, graph.weights(model.query), frames_BTD)
    pooled_B1W = _attention(graph, model.attention, projected, is_padding_BT)
    pooled_BW = graph.add("Squeeze", pooled_B1W, graph.constant([1]))
    return _linear(graph, model.classifier.weight, model.classifier.bias, _norm(graph, model.pooled_norm, pooled_BW))


def _word_logits(graph: Graph, model: WordModel, features_BTD: str, lengths_B: str, is_padding_BT: str) -> str:
    """Class logits [B, C] of padded sequences by similarities to descriptions."""
    padding_BT1 = graph.add("Unsqueeze", is_padding_BT, graph.constant([2]))
    real_BTD = graph.add("Where", padding_BT1, graph.constant(np.float32(0), np.float32), features_BTD)
    least = graph.constant(np.float32(1e-12), np.float32)
    length_BT1 = graph.add("Max", graph.add("ReduceL2", real_BTD, axes=[2], keepdims=1), least)
    scaled_CD = model.logit_scale * model.texts
    logits_BTC = graph.add("MatMul", graph.add("Div", real_BTD, length_BT1), graph.weights(scaled_CD.T))
    sum_BC = graph.add("ReduceSum", logits_BTC, graph.constant([1]), keepdims=0)
    return graph.add("Div", sum_BC, graph.add("Cast", graph.column(lengths_B), to=onnx.TensorProto.FLOAT))


def linear_logits(graph: Graph, member: LinearMember, features_SBTD: Sequence[str], lengths_B: str) -> str:
    """Class logits [B, C] of padded sequences by the linear member, from mean and spread of the real frames.

    `features_SBTD` are the features of each backbone.
    """
    number, one = onnx.TensorProto.FLOAT, graph.constant(1)
    count_B1 = graph.column(lengths_B)
    others_B1 = graph.add("Cast", graph.add("Max", graph.add("Sub", count_B1, one), one), to=number)
    columns = []
    for features_BTD in features_SBTD:
        frames = graph.positions(graph.axis_size(features_BTD, 1))
        is_padding_BT1 = graph.add("Unsqueeze", graph.add("GreaterOrEqual", frames, count_B1), graph.constant([2]))
        nothing, axis = graph.constant(np.float32(0), np.float32), graph.constant([1])
        real_BTD = graph.add("Where", is_padding_BT1, nothing, features_BTD)
        sum_BD = graph.add("ReduceSum", real_BTD, axis, keepdims=0)
        mean_BD = graph.add("Div", sum_BD, graph.add("Cast", count_B1, to=number))
        deviation_BTD = graph.add("Sub", features_BTD, graph.add("Unsqueeze", mean_BD, axis))
        real_BTD = graph.add("Where", is_padding_BT1, nothing, deviation_BTD)
        squares_BD = graph.add("ReduceSum", graph.add("Mul", real_BTD, real_BTD), axis, keepdims=0)
        columns += [mean_BD, graph.add("Sqrt", graph.add("Div", squares_BD, others_B1))]
    rows_BK = graph.add("Concat", *columns, axis=1)
    product_BC = graph.add("MatMul", rows_BK, graph.constant(member.weights_KC, np.float32))
    return graph.add("Add", product_BC, graph.constant(member.offset_C, np.float32))


def _thinned(graph: Graph, features_BTD: str, lengths_B: str, num_frames: int) -> tuple[str, str]:
    """The frames by which a video is represented and how many of them count, as
    `temporal_model.chosen_frames` chooses them."""
    steps, lengths_B1, limit = np.arange(num_frames)[None, :], graph.column(lengths_B), graph.constant(num_frames)
    spread_BN = graph.add(
        "Div", graph.add("Mul", graph.constant(2 * steps + 1), lengths_B1), graph.constant(2 * num_frames)
    )
    last_B1 = graph.add("Sub", lengths_B1, graph.constant(1))
    each_BN = graph.add("Min", graph.constant(steps), last_B1)
    indices_BN = graph.add("Where", graph.add("Greater", lengths_B1, limit), spread_BN, each_BN)
    return graph.at_frames(features_BTD, indices_BN), graph.add("Min", lengths_B, limit)


def _sequential(graph: Graph, layers: nn.Module, value: str) -> str:
    """The layers of an `nn.Sequential`. Dropout does nothing when a model classifies."""
    assert isinstance(layers, nn.Sequential)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            value = _linear(graph, layer.weight, layer.bias, value)
        elif isinstance(layer, nn.LayerNorm):
            value = _norm(graph, layer, value)
        elif isinstance(layer, nn.ReLU | nn.Tanh):
            value = graph.add("Relu" if isinstance(layer, nn.ReLU) else "Tanh", value)
        else:
            assert isinstance(layer, nn.Dropout), layer
    return value


def _linear(graph: Graph, weight: Tensor, bias: Tensor, value: str) -> str:
    """A linear layer over the last axis."""
    return graph.add("Add", graph.add("MatMul", value, graph.weights(weight.T)), graph.weights(bias))


def _norm(graph: Graph, layer: nn.LayerNorm, value: str) -> str:
    """Layer normalisation over the last axis."""
    scale, shift = graph.weights(layer.weight), graph.weights(layer.bias)
    return graph.add("LayerNormalization", value, scale, shift, axis=-1, epsilon=layer.eps)


def _lstm(graph: Graph, lstm: nn.LSTM, values_BTD: str, lengths_B: str) -> str:
    """Outputs [B, T, H] of a bidirectional LSTM. Those of padding mean nothing.

    The backward direction must begin at the last real frame. Its input is therefore turned round per video, and so is
    its output. ONNX has lengths for that (`sequence_lens`), but OpenVINO ignores them and reads the padding.
    """
    mirrored_BT = mirrored(graph, graph.axis_size(values_BTD, 1), lengths_B)
    for layer in range(lstm.num_layers):
        ahead_BTK = _one_direction(graph, lstm, f"_l{layer}", values_BTD)
        back_BTK = _one_direction(graph, lstm, f"_l{layer}_reverse", graph.at_frames(values_BTD, mirrored_BT))
        values_BTD = graph.add("Concat", ahead_BTK, graph.at_frames(back_BTK, mirrored_BT), axis=2)
    return values_BTD


def mirrored(graph: Graph, size: str, lengths_B: str) -> str:
    """Frame indices [B, `size`] that turn the real frames of each video round. Those of padding are 0."""
    last_B1 = graph.add("Sub", graph.column(lengths_B), graph.constant(1))
    return graph.add("Max", graph.add("Sub", last_B1, graph.positions(size)), graph.constant(0))


def _one_direction(graph: Graph, lstm: nn.LSTM, name: str, values_BTD: str) -> str:
    """Outputs [B, T, hidden] of one direction of one layer, read in the order of `values_BTD`."""
    values_TBD = graph.add("Transpose", values_BTD, perm=[1, 0, 2])
    inner, recurrent, bias_inner, bias_recurrent = (
        _gates(getattr(lstm, f"{part}{name}"))[None] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    weights = (inner, recurrent, np.concatenate([bias_inner, bias_recurrent], axis=1))
    constants = [graph.constant(each, np.float32) for each in weights]
    states_T1BK = graph.add("LSTM", values_TBD, *constants, hidden_size=lstm.hidden_size)
    return graph.add("Transpose", graph.add("Squeeze", states_T1BK, graph.constant([1])), perm=[1, 0, 2])


def _gates(weight: Tensor) -> npt.NDArray[np.float32]:
    """Weights of the four gates in the order of ONNX (input, output, forget, cell); torch has (input, forget, cell,
    output)."""
    given, forget, cell, output = np.split(weight.detach().float().cpu().numpy(), 4)
    gates: npt.NDArray[np.float32] = np.concatenate([given, output, forget, cell])
    return gates


def _projected(graph: Graph, layer: nn.MultiheadAttention, queries_BQE: str, frames_BTE: str) -> list[str]:
    """Queries, keys and values of an attention layer, before they are divided among its heads."""
    if layer.in_proj_weight is not None:
        weights = list(layer.in_proj_weight.chunk(3))
    else:  # queries and frames have different widths
        weights = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    inputs = (queries_BQE, frames_BTE, frames_BTE)
    return [
        _linear(graph, weight, bias, value)
        for weight, bias, value in zip(weights, layer.in_proj_bias.chunk(3), inputs, strict=True)
    ]


def _attention(graph: Graph, layer: nn.MultiheadAttention, projected: Sequence[str], is_padding_BT: str) -> str:
    """Attention with several heads, to which padding does not contribute. `projected` holds queries, keys and values;
    the queries may be the same for all videos."""
    size = layer.embed_dim // layer.num_heads
    heads = []
    for value in projected:
        split = graph.add("Reshape", value, graph.constant([0, 0, layer.num_heads, size]))
        heads.append(graph.add("Transpose", split, perm=[0, 2, 1, 3]))
    query, key, value = heads
    scale = graph.constant(np.float32(size**-0.5), np.float32)
    products = graph.add("MatMul", graph.add("Mul", query, scale), graph.add("Transpose", key, perm=[0, 1, 3, 2]))
    padding = graph.add("Unsqueeze", is_padding_BT, graph.constant([1, 2]))
    scores = graph.add("Where", padding, graph.constant(NEVER, np.float32), products)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    joined = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", joined, graph.constant([0, 0, layer.embed_dim]))
    return _linear(graph, layer.out_proj.weight, layer.out_proj.bias, joined)
