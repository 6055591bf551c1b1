"""An ensemble as one ONNX file: all members, the views of test-time augmentation, the average and the calibration.

Inputs are the padded features of a video's frames, one input per backbone, and the numbers of real frames. Outputs are
the calibrated probabilities of the ensemble and of each member alone, the linear member last, and the conditional
probabilities of the sublabels within their classes, if the ensemble predicts any. Scores of trust and
out-of-distribution are not part of the file, so it gives no verdict.

Shape suffixes: B videos, T frames, D features, C classes, M members.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx
from onnx import helper

import vidclf
from vidclf import storage
from vidclf.ensemble import calibration_file, files
from vidclf.ensemble.info import EnsembleInfo, mode, read_info
from vidclf.ensemble.linear_member import member_weights
from vidclf.ensemble.views import PLAIN
from vidclf.errors import ConfigError
from vidclf.export.onnx_graph import IR_VERSION, OPSET, Graph, linear_logits, member_logits, mirrored
from vidclf.json_text import json_text
from vidclf.schema import Look
from vidclf.uncertainty.temperature import LEAST_PROBABILITY

MAX_BYTES = 2**31 - 1
"""Largest size of an ONNX file in bytes: protobuf stores no larger message."""

FEATURES, LENGTHS = "features", "num_frames"
"""Names of the inputs. With several backbones the first is followed by `_` and the name of the backbone."""


def export_ensemble(directory: str, location: str, *, tta: bool, dry_run: bool) -> str:
    """Write the ensemble in a directory as an ONNX file, and return a line about it.

    With `tta` the file contains the views of test-time augmentation. A file with the same content is left alone. Raises
    ConfigError if the ensemble cannot be read or is too large.
    """
    info = read_info(directory)
    num_weights = sum(member.num_parameters or 0 for member in info.members)
    check_size(4 * num_weights, location)
    content = onnx_bytes(directory, info, tta=tta)
    check_size(len(content), location)
    head = f"{location}: ensemble {info.ensemble_id} with {len(info.members)} members, {len(content):,} bytes"
    if storage.exists(location) and storage.size(location) == len(content) and storage.read_bytes(location) == content:
        return f"{head}: unchanged, it is there already"
    if dry_run:
        return f"{head}: would be written"
    storage.publish_bytes(location, content)
    return f"{head}: written"


def check_size(num_bytes: int, location: str) -> None:
    """Raise ConfigError if a file of this size is no valid ONNX file."""
    if num_bytes > MAX_BYTES:
        raise ConfigError(
            f"--output {location}: an ONNX file has at most {MAX_BYTES:,} bytes, the ensemble needs {num_bytes:,}; "
            "train fewer or smaller members (--members, --hidden-dim)"
        )


def onnx_bytes(directory: str, info: EnsembleInfo, *, tta: bool) -> bytes:
    """Content of the ONNX file. The same ensemble gives the same bytes."""
    # An ensemble whose other files are damaged is refused too.
    calibration_file.read_trust(directory, info)
    graph = Graph()
    inputs = input_names(info)
    views = [(view.name, view.weight) for view in info.views] if tta else [(name, 1.0) for name in PLAIN]
    linear = files.load_linear(directory, info)
    weighted: list[list[str]] = [[] for _ in range(num_votes(info))]
    conditional: list[list[str]] = []
    members = [files.load_member(directory, info, index).eval() for index in range(len(info.members))]
    for name, weight in views:
        if not weight:
            continue
        shown = {backbone: _view(graph, name, value) for backbone, value in inputs.items()}
        lengths_B = _view_lengths(graph, name)
        for index, (record, model) in enumerate(zip(info.members, members, strict=True)):
            outputs = member_logits(graph, model, shown[record.backbone], lengths_B)
            logits_BC = _class_logits(graph, outputs, info)
            weighted[index].append(_share(graph, logits_BC, weight))
            conditional += _sublabel_shares(graph, outputs, info, weight / len(members))
        if linear is not None:
            logits_BC = linear_logits(graph, linear, list(shown.values()), lengths_B)
            weighted[-1].append(_share(graph, logits_BC, weight))
    zero = graph.constant([0])
    stacked = [
        graph.add("Unsqueeze", graph.add("Sum", *terms) if len(terms) > 1 else terms[0], zero) for terms in weighted
    ]
    member_MBC = graph.add("Concat", *stacked, axis=0)
    temperature = float(info.calibration.of_mode(tta).temperature)
    weights_M = member_weights(len(members), info.linear.looks[Look.FULL].weight if info.linear is not None else None)
    shares_MBC = graph.add("Mul", member_MBC, graph.constant(weights_M[:, None, None], np.float32))
    mean_BC = graph.add("ReduceSum", shares_MBC, zero, keepdims=0)
    _tempered(graph, mean_BC, temperature, "probabilities")
    _tempered(graph, member_MBC, temperature, "member_probabilities")
    if info.sublabels is not None:
        _sublabel_output(graph, conditional, info.sublabels.temperatures[mode(tta)])
    model_proto = _model(graph, info, inputs, tta)
    return bytes(model_proto.SerializeToString(deterministic=True))


def _class_logits(graph: Graph, outputs: str, info: EnsembleInfo) -> str:
    """The logits of the classes among the outputs of a member. Those of the sublabels follow."""
    if not info.taxonomy:
        return outputs
    return _columns(graph, outputs, 0, len(info.classes))


def _columns(graph: Graph, values: str, start: int, end: int) -> str:
    """The columns from `start` to just before `end`."""
    return graph.add("Slice", values, graph.constant([start]), graph.constant([end]), graph.constant([1]))


def _sublabel_shares(graph: Graph, outputs: str, info: EnsembleInfo, weight: float) -> list[list[str]]:
    """The conditional probabilities of the sublabels by one member in one view, times the weight of this vote: a list
    with one value per class that has sublabels; empty without sublabels."""
    ends = [len(info.classes), *np.cumsum(info.hierarchy.sizes) + len(info.classes)]
    blocks = [_columns(graph, outputs, int(start), int(end)) for start, end in itertools.pairwise(ends)]
    return [[_share(graph, block, weight) for block in blocks]] if blocks else []


def _sublabel_output(graph: Graph, votes: list[list[str]], temperature: float) -> None:
    """The output `sublabel_probabilities`: the votes added up, at the temperature of the sublabels."""
    blocks = []
    for number, terms in enumerate(zip(*votes, strict=True)):
        mean = graph.add("Sum", *terms) if len(terms) > 1 else terms[0]
        blocks.append(f"sublabels_{number}")
        _tempered(graph, mean, temperature, blocks[-1])
    graph.nodes.append(helper.make_node("Concat", blocks, ["sublabel_probabilities"], axis=1))


def num_votes(info: EnsembleInfo) -> int:
    """Number of members that vote: the temporal members, and the linear member if there is one."""
    return len(info.members) + (info.linear is not None)


def _share(graph: Graph, logits_BC: str, weight: float) -> str:
    """Probabilities from logits, times the weight of a view."""
    return graph.add("Mul", graph.add("Softmax", logits_BC, axis=1), graph.constant(np.float32(weight), np.float32))


def input_names(info: EnsembleInfo) -> dict[str, str]:
    """Names of the inputs for features, by the name of the backbone."""
    names = info.backbone_names
    return {name: FEATURES if len(names) == 1 else f"{FEATURES}_{name}" for name in names}


def _view(graph: Graph, name: str, features_BTD: str) -> str:
    """Padded features of one view (variant of a video), as the functions in `ensemble/views.py` make them."""
    if name == "original":
        return features_BTD
    lengths_B1 = graph.column(LENGTHS)
    one = graph.constant(1)
    size = graph.axis_size(features_BTD, 1)
    if name == "reverse":
        return graph.at_frames(features_BTD, mirrored(graph, size, LENGTHS))
    if name == "faster":
        ends = (graph.constant([0]), graph.constant([2**62]), graph.constant([1]), graph.constant([2]))
        return graph.add("Slice", features_BTD, *ends)
    assert name == "slower", name
    frames = graph.positions(_longer(graph, size))
    last_B1 = graph.add("Sub", lengths_B1, one)
    steps_B1 = graph.add("Max", graph.add("Sub", _longer(graph, lengths_B1), one), one)
    product_BT = graph.add("Mul", frames, last_B1)
    before_BT = graph.add("Min", graph.add("Div", product_BT, steps_B1), last_B1)
    after_BT = graph.add("Min", graph.add("Add", before_BT, one), last_B1)
    rest_BT = graph.add("Sub", product_BT, graph.add("Mul", before_BT, steps_B1))
    number = {"to": onnx.TensorProto.FLOAT}
    share_BT = graph.add("Div", graph.add("Cast", rest_BT, **number), graph.add("Cast", steps_B1, **number))
    share_BT1 = graph.add("Unsqueeze", share_BT, graph.constant([2]))
    earlier = graph.add("Mul", graph.at_frames(features_BTD, before_BT), _rest_of_one(graph, share_BT1))
    later = graph.add("Mul", graph.at_frames(features_BTD, after_BT), share_BT1)
    # The ensemble keeps features in float16, so interpolated ones are rounded too.
    rounded = graph.add("Cast", graph.add("Add", earlier, later), to=onnx.TensorProto.FLOAT16)
    return graph.add("Cast", rounded, **number)


def _rest_of_one(graph: Graph, share: str) -> str:
    """1 minus a share."""
    return graph.add("Sub", graph.constant(np.float32(1), np.float32), share)


def _longer(graph: Graph, number: str) -> str:
    """One and a half times a whole number, rounded down."""
    return graph.add("Div", graph.add("Mul", number, graph.constant(3)), graph.constant(2))


def _view_lengths(graph: Graph, name: str) -> str:
    """Numbers of real frames of the videos in one view."""
    if name == "faster":
        return graph.add("Div", graph.add("Add", LENGTHS, graph.constant(1)), graph.constant(2))
    return _longer(graph, LENGTHS) if name == "slower" else LENGTHS


def _tempered(graph: Graph, probabilities: str, temperature: float, output: str) -> None:
    """The output of this name: probabilities at the calibration temperature."""
    floor = graph.constant(np.float32(LEAST_PROBABILITY), np.float32)
    logarithms = graph.add("Log", graph.add("Max", probabilities, floor))
    scaled = graph.add("Div", logarithms, graph.constant(np.float32(temperature), np.float32))
    graph.nodes.append(helper.make_node("Softmax", [scaled], [output], axis=-1))


def _model(graph: Graph, info: EnsembleInfo, inputs: dict[str, str], tta: bool) -> onnx.ModelProto:
    """The checked model with its inputs, outputs and metadata."""
    number, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    num_classes, num_members = len(info.classes), num_votes(info)
    given = [
        helper.make_tensor_value_info(inputs[backbone.name], number, ["videos", "frames", backbone.feature_dim])
        for backbone in info.backbones
    ]
    given.append(helper.make_tensor_value_info(LENGTHS, whole, ["videos"]))
    outputs = [
        helper.make_tensor_value_info("probabilities", number, ["videos", num_classes]),
        helper.make_tensor_value_info("member_probabilities", number, [num_members, "videos", num_classes]),
    ]
    if info.sublabels is not None:
        shape = ["videos", len(info.hierarchy.names)]
        outputs.append(helper.make_tensor_value_info("sublabel_probabilities", number, shape))
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "ensemble", given, outputs, graph.tensors),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="vidclf",
        producer_version=vidclf.__version__,
    )
    metadata = {
        "ensemble_id": info.ensemble_id,
        "classes": json_text(info.classes),
        "feature_keys": json_text({backbone.name: backbone.feature_spec.key for backbone in info.backbones}),
        "temperature": json_text(info.calibration.of_mode(tta).temperature),
        "views": json_text({view.name: view.weight for view in info.views} if tta else dict.fromkeys(PLAIN, 1.0)),
        "sampling": json_text(info.backbones[0].feature_spec.sampling),
    }
    if info.sublabels is not None:
        metadata["taxonomy"] = json_text(info.taxonomy)
    helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return proto
