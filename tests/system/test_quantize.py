"""The job `quantize` on EfficientNet-Lite0: in 8 bits its features stay close to those in fp32."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from vidclf.backbones import openvino_engine
from vidclf.backbones.agreement import agreement, reference_photos
from vidclf.backbones.openvino_convert import convert
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights, weights_digest

ROOT = Path(__file__).resolve().parents[2]
LITE0 = "efficientnet_lite0"


def test_lite0_in_8_bits_keeps_its_features(tmp_path: Path) -> None:
    weights = str(tmp_path / "int8.safetensors")
    command = [sys.executable, ROOT / "jobs/quantize.py", "--input", ROOT / "examples/archive", "--backbone", LITE0]
    done = subprocess.run(
        [*command, "--sample", "16", "--output", weights], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calibrated, measured, *_ = done.stdout.splitlines()
    assert calibrated == "calibrated  96 frames of 12 videos"
    match = re.fullmatch(
        r"agreement   int8 (0\.\d{4})(; bf16 0\.\d{4})? "
        r"\(mean cosine of centred features with fp32, 32 frames of other videos\)",
        measured,
    )
    assert match is not None, measured
    assert float(match[1]) > 0.9
    exact, state = load_weights(LITE0, "DEFAULT"), load_weights(LITE0, weights)
    assert weights_digest(state) != weights_digest(exact)
    full = openvino_engine.load(convert(resolve(LITE0, "DEFAULT"), exact), LITE0, "DEFAULT", "fp32")
    cnn = openvino_engine.load(convert(resolve(LITE0, weights), state), LITE0, weights, "auto")
    assert cnn.name == "openvino int8"
    frames_THWC = reference_photos(224)
    features_TD = cnn(frames_THWC)
    assert features_TD.shape == (8, 1280)
    assert 0.5 < agreement(features_TD, full(frames_THWC)) < 0.99999
    np.testing.assert_array_equal(features_TD[3:4], cnn(frames_THWC[3:4]))
