#!/usr/bin/env bash
# OpenVINO 2026.4.1 (ONNX 1.23.2): Resize with `antialias=1` is computed without antialiasing.
#
# Expected: an attribute of ONNX's standard (version 18) is computed, or the model is refused.
# Seen: the model is read and compiled without an error or a warning, and its output is exactly that of the same model
# with `antialias=0`. ONNX Runtime 1.32.0 computes both, and the pictures differ by up to half of the range of values.
# What follows for vidclf: frames are resized before the CNN (`vidclf/video/frame_transform.py`). A CNN from an ONNX file
# that resizes its input itself gives other features by OpenVINO than in the runtime that it was made for.
#
# Usage: findings/openvino_resize_antialias.sh   (installs into a temporary directory; exit code 1 if this changes)
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

picture = np.random.default_rng(1).random((1, 3, 96, 128)).astype(np.float32)
seen = {}
for mode in ("linear", "cubic"):
    outputs = {}
    for antialias in (0, 1):
        graph = helper.make_graph(
            [helper.make_node("Resize", ["picture", "", "", "sizes"], ["y"], mode=mode, antialias=antialias)],
            "graph",
            [helper.make_tensor_value_info("picture", TensorProto.FLOAT, list(picture.shape))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 24, 32])],
            [numpy_helper.from_array(np.array([1, 3, 24, 32], np.int64), "sizes")],
        )
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, "resize.onnx")
        expected = onnxruntime.InferenceSession("resize.onnx").run(None, {"picture": picture})[0]
        compiled = openvino.Core().compile_model("resize.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outputs[antialias] = expected, compiled({"picture": picture})[0]
    apart = {antialias: float(np.abs(one - other).max()) for antialias, (one, other) in outputs.items()}
    is_ignored = np.array_equal(outputs[0][1], outputs[1][1])
    print(
        f"{mode}: largest difference without antialiasing {apart[0]:.5f}, with it {apart[1]:.2f}; "
        f"OpenVINO's two outputs are {'equal' if is_ignored else 'different'}"
    )
    seen[mode] = apart[0] < 1e-4, apart[1] > 0.2, is_ignored
is_as_seen = set(seen.values()) == {(True, True, True)}
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"
