"""Digests of weights files that were read before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidclf.backbones import openvino_cache, weights
from vidclf.backbones.catalog import LITE0
from vidclf.backbones.int8_weights import State
from vidclf.backbones.known_weights import digest_and_state, packaged_weights, state_with_digest
from vidclf.backbones.openvino_cache import Source
from vidclf.backbones.openvino_engine import OpenVinoModel
from vidclf.backbones.resolve import resolve
from vidclf.errors import ConfigError

MODEL = resolve(LITE0, "DEFAULT")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VIDCLF_CACHE", str(folder))
    return folder


def put_converted(digest: str) -> None:
    """Put a network into the cache that stands for the converted backbone with weights of this digest."""
    source = Source(backbone=LITE0, weights_digest=digest, preprocessing=MODEL.preprocessing.as_json())
    file = openvino_cache._file(source)
    assert file is not None
    empty = np.zeros(0, np.uint8)
    openvino_cache._write(
        file, OpenVinoModel(graph=b"<xml/>", weights=empty, probe_THWC=empty, probed_TD=np.zeros(0, np.float32))
    )


def test_weights_are_not_read_again_once_their_network_is_converted(
    monkeypatch: pytest.MonkeyPatch, lite0_state: State
) -> None:
    digest, state = digest_and_state(MODEL)
    assert digest == weights.weights_digest(lite0_state)
    assert state.keys() == lite0_state.keys()
    assert len(digest_and_state(MODEL)[1]) == len(state), "without the converted network the weights are needed"
    put_converted(digest)
    monkeypatch.setattr(weights, "read_weights", lambda model: pytest.fail("the weights were read"))
    assert digest_and_state(MODEL) == (digest, {})


def test_a_damaged_record_and_a_changed_file_are_read_again(cache: Path, tmp_path: Path, lite0_state: State) -> None:
    digest, _ = digest_and_state(MODEL)
    put_converted(digest)
    (record,) = cache.glob("*.weights")
    record.write_text("0" * 63 + "\n")
    assert digest_and_state(MODEL)[1]
    assert record.read_text() == digest
    assert digest_and_state(MODEL)[1] == {}
    state = torch.load(packaged_weights(LITE0), weights_only=True)
    state["_bn0.bias"] = state["_bn0.bias"] + 1
    torch.save(state, tmp_path / "other.pth")
    other, found = digest_and_state(resolve(LITE0, str(tmp_path / "other.pth")))
    assert other != digest
    assert found.keys() == lite0_state.keys()


def test_weights_that_are_refused_leave_no_record(cache: Path, tmp_path: Path) -> None:
    state = torch.load(packaged_weights(LITE0), weights_only=True)
    state["_bn0.bias"][0] = float("nan")
    torch.save(state, tmp_path / "damaged.pth")
    for _ in range(2):
        with pytest.raises(ConfigError, match="every value must be finite, 1 value is not"):
            digest_and_state(resolve(LITE0, str(tmp_path / "damaged.pth")))
    assert not list(cache.glob("*.weights"))


def test_weights_that_change_while_a_job_starts_are_refused() -> None:
    with pytest.raises(ConfigError, match="--weights DEFAULT: must not change while a job starts; submit the job"):
        state_with_digest(MODEL, "0" * 64)
