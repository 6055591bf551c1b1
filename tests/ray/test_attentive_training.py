"""The way of an ensemble of attentive probes: trained, loaded, exported, described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.jobs import succeed
from tests.support.train_here import train_here
from tests.support.training_job import config, features
from vidclf import storage
from vidclf.ensemble import files
from vidclf.ensemble.info import read_info
from vidclf.training.train import train


def test_attentive_probes_go_the_way_of_all_members(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    output, videos = str(tmp_path / "e"), features()
    settings = replace(config(output), model="attentive", members=2, epochs=4, lr=1e-2)
    train_here(monkeypatch)
    result = train(settings, [videos], ["DEFAULT"])
    assert result is not None
    assert "--model attentive does not use num_lstm_layers, classifier_dims\n" in capsys.readouterr().out
    info = read_info(output)
    assert info.model.model == "attentive"
    # Query, LayerNorms, queries' and outputs' projections, keys' and values' projections, linear layer.
    width, dim = 128, 1280
    num_weights = width + 2 * dim + 2 * width + 2 * width * (width + 1) + 2 * width * (dim + 1) + 3 * (width + 1)
    assert [member.num_parameters for member in info.members] == [num_weights] * 2
    card = storage.read_bytes(f"{output}/README.md").decode()
    assert "2 temporal models (attentive probes) classify a video into 3 classes" in card
    assert "Sizes of the model: model attentive, hidden_dim 64, num_attention_heads 4, num_frames None, dropout" in card
    # A second submission has nothing to do.
    assert train(settings, [videos], ["DEFAULT"]) == {**result, "num_trained": 0, "was_calibrated": False}
    expected = files.load(output, torch.device("cpu"))([videos.features[:4]])
    succeed("export", "--ensemble", output, "--to", "onnx", "--output", tmp_path / "e.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"), providers=["CPUExecutionProvider"])
    inputs = {"features": np.stack(videos.features[:4]).astype(np.float32), "num_frames": np.full(4, 6)}
    assert np.abs(session.run(["probabilities"], inputs)[0] - expected.probabilities_BC).max() < 1e-4
