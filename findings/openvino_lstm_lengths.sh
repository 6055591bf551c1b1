#!/usr/bin/env bash
# OpenVINO 2026.4.1 (ONNX 1.23.2): an LSTM reads the padding behind `sequence_lens`; its backward direction is wrong.
#
# Expected: `sequence_lens` of the operator LSTM says where each sequence of a batch ends. The backward direction begins
# there, and the outputs behind it are 0, as the specification of ONNX and ONNX Runtime 1.32.0 have it.
# Seen: without an error or a warning the CPU plugin computes every sequence to the end of the padding. The forward
# direction is right up to the sequence's end, the backward one is not, and the outputs of the padding are not 0.
# What follows for vidclf: `vidclf/export/onnx_graph.py` gives the LSTM no lengths. It turns the input of the backward
# direction round per video.
#
# Usage: findings/openvino_lstm_lengths.sh   (installs into a temporary directory; exit code 1 if this changes)
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

random = np.random.default_rng(0)
hidden, width = 3, 4
shapes = {"W": (2, 4 * hidden, width), "R": (2, 4 * hidden, hidden), "B": (2, 8 * hidden)}
weights = [numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()]
graph = helper.make_graph(
    [helper.make_node("LSTM", ["X", "W", "R", "B", "lengths"], ["Y"], hidden_size=hidden, direction="bidirectional")],
    "graph",
    [
        helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", "batch", width]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
    ],
    [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["time", 2, "batch", hidden])],
    weights,
)
model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "lstm.onnx")
session = onnxruntime.InferenceSession("lstm.onnx")
compiled = openvino.Core().compile_model("lstm.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

# Two sequences of 5 and of 3 steps; the second one also alone, without padding.
steps = random.normal(size=(5, 2, width)).astype(np.float32)
padded = {"X": steps, "lengths": np.array([5, 3], np.int32)}
alone = session.run(None, {"X": steps[:3, 1:], "lengths": np.array([3], np.int32)})[0]
found = {}
for name, output in (("onnxruntime", session.run(None, padded)[0]), ("openvino", compiled(padded)[0])):
    apart = np.abs(output[:3, :, 1:] - alone).max(axis=(0, 2, 3))
    behind = np.abs(output[3:, :, 1]).max()
    found[name] = (bool(apart[0] < 1e-5), bool(apart[1] < 1e-5), bool(behind == 0))
    print(f"{name}: differs forward {apart[0]:.2g}, backward {apart[1]:.2g}; largest output of the padding {behind:.2g}")
is_as_seen = found == {"onnxruntime": (True, True, True), "openvino": (True, False, False)}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
