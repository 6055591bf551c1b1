"""Sources of the engines that CNN workers run."""

from __future__ import annotations

import numpy as np
import pytest
import ray

from vidclf.backbones.openvino_engine import OpenVinoModel
from vidclf.backbones.resolve import resolve
from vidclf.features.spec import FeatureSpec
from vidclf.pipeline import engines
from vidclf.pipeline.engines import conversion_source
from vidclf.pipeline.job import BackboneSetup
from vidclf.video.sampling import SamplingPlan


def test_the_sampling_makes_no_difference_to_a_conversion() -> None:
    sparse, default = (
        FeatureSpec.of("efficientnet_lite0", "DEFAULT", "0" * 64, plan)
        for plan in (SamplingPlan(num_frames=4), SamplingPlan())
    )
    assert sparse.key != default.key
    assert conversion_source(sparse) == conversion_source(default)


def test_a_converted_backbone_in_the_cache_needs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = np.zeros(0, np.uint8)
    network = OpenVinoModel(graph=b"<xml/>", weights=empty, probe_THWC=empty, probed_TD=np.zeros(0, np.float32))
    spec = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "0" * 64, SamplingPlan(num_frames=4))
    state = {"bias": np.ones(1)}
    setup = BackboneSetup(spec=spec, weights="DEFAULT", state=state, model=resolve("efficientnet_lite0", "DEFAULT"))
    monkeypatch.setattr(engines, "cached", lambda source: network if source == conversion_source(spec) else None)
    put: list[object] = []
    monkeypatch.setattr(ray, "put", put.append)
    engines.put_engine_source(setup, 0.0, tally=None)
    assert put == [network]
    engines.put_engine_source(setup, 0.5, tally=None)
    assert put == [network, state]


def test_weights_that_were_not_needed_before_are_read_for_a_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = FeatureSpec.of("efficientnet_lite0", "DEFAULT", "0" * 64, SamplingPlan(num_frames=4))
    model = resolve("efficientnet_lite0", "DEFAULT")
    setup = BackboneSetup(spec=spec, weights="DEFAULT", state={}, model=model)
    state = {"bias": np.ones(1)}
    monkeypatch.setattr(engines, "state_with_digest", lambda *asked: state if asked == (model, "0" * 64) else None)
    put: list[object] = []
    monkeypatch.setattr(ray, "put", put.append)
    engines.put_engine_source(setup, 0.5, tally=None)
    assert put == [state]
