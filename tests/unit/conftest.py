"""EfficientNet-Lite0 for the tests that need a real backbone: read once and converted to OpenVINO once per session."""

from __future__ import annotations

import pytest

from vidclf.backbones import openvino_cache
from vidclf.backbones.catalog import LITE0, preprocessing
from vidclf.backbones.int8_weights import State
from vidclf.backbones.openvino_cache import Source
from vidclf.backbones.openvino_engine import OpenVinoModel
from vidclf.backbones.resolve import resolve
from vidclf.backbones.weights import load_weights, weights_digest


@pytest.fixture(scope="session")
def lite0_state() -> State:
    """The weights of the package, which no test may change."""
    return load_weights(LITE0, "DEFAULT")


@pytest.fixture(scope="session")
def lite0_model(lite0_state: State) -> OpenVinoModel:
    """The conversion of these weights. It is in the tests' cache, so that jobs in this process find it there."""
    source = Source(
        backbone=LITE0,
        weights_digest=weights_digest(lite0_state),
        preprocessing=preprocessing(LITE0, "DEFAULT").as_json(),
    )
    return openvino_cache.converted(source, resolve(LITE0, "DEFAULT"), lite0_state)
