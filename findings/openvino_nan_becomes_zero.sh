#!/usr/bin/env bash
# OpenVINO 2026.4.1 (ONNX 1.23.2): a NaN does not stay a NaN. Relu makes it 0, and a maximum of NaNs is -3.4e38.
#
# Expected: a NaN goes through every operator to the output, as IEEE 754 has it and as ONNX Runtime 1.32.0 computes, so
# that a check of the output finds broken weights or an overflow.
# Seen: the CPU plugin turns NaN into 0 in Relu (alone and behind a convolution) and in Clip from 0 to 6, into 1 in
# HardSigmoid, into infinity in Exp, and into the lowest or highest number of float32 in maxima and minima. Sigmoid,
# HardSwish, Softmax and means keep it. There is no warning. A CNN that ends with Relu and a mean has finite output.
# What follows for vidclf: the check for finite features in `vidclf/pipeline/embedder.py` sees a NaN of a CNN by torch, but
# by OpenVINO none that a Relu has passed. The weights of an ensemble are checked when they are read
# (`vidclf/ensemble/weights_file_check.py`), those of a CNN are not.
#
# Usage: findings/openvino_nan_becomes_zero.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

frames = np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32)
frames[1] = np.nan
kernel = np.random.default_rng(1).normal(size=(3, 4, 3, 3)).astype(np.float32)
constants = {"kernel": kernel, "zero": np.float32(0), "six": np.float32(6)}


def outputs(nodes):
    """Output for the second frame, all NaN, by ONNX Runtime and by OpenVINO."""
    names = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, list(frames.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in names],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    expected = onnxruntime.InferenceSession("model.onnx").run(None, {"frames": frames})[0]
    compiled = openvino.Core().compile_model("model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"frames": frames})[0]
    assert np.isfinite(found[0]).all() and np.allclose(found[0], expected[0], atol=1e-4)
    return expected[1], found[1]


node = helper.make_node
convolution = node("Conv", ["frames", "kernel"], ["c"])
cases = {
    "Relu": [node("Relu", ["frames"], ["y"])],
    "Clip": [node("Clip", ["frames", "zero", "six"], ["y"])],
    "HardSigmoid": [node("HardSigmoid", ["frames"], ["y"])],
    "Exp": [node("Exp", ["frames"], ["y"])],
    "MaxPool": [node("MaxPool", ["frames"], ["y"], kernel_shape=[2, 2])],
    "ReduceMin": [node("ReduceMin", ["frames"], ["y"], axes=[2, 3])],
    "Sigmoid": [node("Sigmoid", ["frames"], ["y"])],
    "HardSwish": [node("HardSwish", ["frames"], ["y"])],
    "mean": [node("GlobalAveragePool", ["frames"], ["y"])],
    "Conv, Relu, mean": [convolution, node("Relu", ["c"], ["r"]), node("GlobalAveragePool", ["r"], ["y"])],
}
seen = {}
for name, nodes in cases.items():
    expected, found = outputs(nodes)
    assert np.isnan(expected).all(), name
    assert len(np.unique(found)) == 1, name
    seen[name] = str(float(found.flat[0]))
    print(f"{name:17} of NaN: nan by ONNX Runtime, {seen[name]} by OpenVINO")
is_as_seen = seen == {
    "Relu": "0.0",
    "Clip": "0.0",
    "HardSigmoid": "1.0",
    "Exp": "inf",
    "MaxPool": "-3.4028234663852886e+38",
    "ReduceMin": "3.4028234663852886e+38",
    "Sigmoid": "nan",
    "HardSwish": "nan",
    "mean": "nan",
    "Conv, Relu, mean": "0.0",
}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
