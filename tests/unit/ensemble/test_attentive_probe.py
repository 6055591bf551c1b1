"""The attentive probe: its formula and size, and that neither padding nor the order of the frames has an influence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import formula
from tests.support.ensembles import write_small_ensemble
from vidclf import storage
from vidclf.config import FitConfig, ModelConfig
from vidclf.ensemble import files
from vidclf.ensemble.attentive_probe import AttentiveProbe
from vidclf.ensemble.info import read_info
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.temporal_model import TemporalClassifier, TemporalOutput, num_parameters
from vidclf.errors import ConfigError

SMALL = ModelConfig(model="attentive", hidden_dim=4, num_attention_heads=2, dropout=0.4)
LENGTHS = [7, 3, 1, 6]


def probe(feature_dim: int = 6, config: ModelConfig = SMALL) -> AttentiveProbe:
    torch.manual_seed(0)
    model = AttentiveProbe(feature_dim, 3, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms with scale 1 and biases of 0 would hide mistakes.
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model


def run(model: torch.nn.Module, features_BTD: torch.Tensor, lengths: list[int]) -> TemporalOutput:
    with torch.inference_mode():
        output = model(features_BTD, torch.tensor(lengths))
    assert isinstance(output, TemporalOutput)
    return output


def by_formula(model: AttentiveProbe, video_TD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and attention of one video, written out head by head."""
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    frames_TD = formula.layer_norm(state, "frame_norm", video_TD)
    query_1W = state["query"][0]
    query, key, value = (
        rows @ state[f"attention.{name}_proj_weight"].T + bias
        for name, rows, bias in zip(
            ("q", "k", "v"),
            (query_1W, frames_TD, frames_TD),
            np.split(state["attention.in_proj_bias"], 3),
            strict=True,
        )
    )
    pooled, attention = [], []
    for head in (slice(0, 4), slice(4, 8)):
        scores_T = (query[:, head] @ key[:, head].T / 2)[0]
        weights_T = np.exp(scores_T) / np.exp(scores_T).sum()
        attention.append(weights_T)
        pooled.append(weights_T @ value[:, head])
    joined = np.concatenate(pooled) @ state["attention.out_proj.weight"].T + state["attention.out_proj.bias"]
    normed = formula.layer_norm(state, "pooled_norm", joined)
    return normed @ state["classifier.weight"].T + state["classifier.bias"], np.mean(attention, axis=0)


def test_the_forward_pass_is_the_formulas() -> None:
    model, features_BTD = probe(), torch.randn(4, 7, 6)
    output = run(model, features_BTD, LENGTHS)
    for row, length in enumerate(LENGTHS):
        logits_C, attention_T = by_formula(model, features_BTD[row, :length].double().numpy())
        np.testing.assert_allclose(output.logits_BC[row], logits_C, atol=1e-5)
        np.testing.assert_allclose(output.attention_BT[row, :length], attention_T, atol=1e-5)
        assert output.attention_BT[row, length:].tolist() == [0.0] * (7 - length)


def test_the_full_size_probe_has_an_eighth_of_the_bilstms_weights() -> None:
    with torch.device("meta"):
        sizes = [num_parameters(build_model(1280, 4, ModelConfig(model=kind))) for kind in ("bilstm", "attentive")]
    assert sizes == [65_274_629, 8_670_212]


@pytest.mark.parametrize("filling", [1e3, -1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("feature_dim", [6, 8])
def test_what_stands_in_the_padding_changes_nothing(feature_dim: int, filling: float) -> None:
    """With 8 features, as many as the attention is wide, torch keeps the weights of the attention in one tensor."""
    model, features_BTD = probe(feature_dim), torch.randn(4, 9, feature_dim)
    for row, length in enumerate(LENGTHS):
        features_BTD[row, length:] = filling
    together = run(model, features_BTD, LENGTHS)
    for row, length in enumerate(LENGTHS):
        alone = run(model, features_BTD[row : row + 1, :length], [length])
        torch.testing.assert_close(together.logits_BC[row], alone.logits_BC[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.attention_BT[row, :length], alone.attention_BT[0], atol=1e-5, rtol=1e-5)


def test_padding_changes_no_gradient() -> None:
    model, features_BTD, gradients = probe(), torch.randn(2, 5, 6), []
    for num_frames in (5, 8):
        model.zero_grad()
        padded_BTD = torch.full((2, num_frames, 6), float("nan"))
        padded_BTD[:, :5] = features_BTD
        model(padded_BTD, torch.tensor([5, 5])).logits_BC.pow(2).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    for full, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(full, padded, atol=1e-5, rtol=1e-4)


def test_the_order_of_the_frames_does_not_matter() -> None:
    model, features_BTD = probe(), torch.randn(2, 5, 6)
    there, back = (run(model, frames_BTD, [5, 5]) for frames_BTD in (features_BTD, features_BTD.flip(1)))
    torch.testing.assert_close(there.logits_BC, back.logits_BC, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(there.attention_BT, back.attention_BT.flip(1), atol=1e-5, rtol=1e-5)


def test_a_probe_of_few_frames_sees_just_these() -> None:
    every, few = probe(), probe(config=replace(SMALL, num_frames=4))
    features_BTD = torch.randn(1, 8, 6)
    output, thinned = run(few, features_BTD, [8]), run(every, features_BTD[:, [1, 3, 5, 7]], [4])
    assert torch.equal(output.logits_BC, thinned.logits_BC)
    assert torch.equal(output.attention_BT[:, [1, 3, 5, 7]], thinned.attention_BT)
    assert output.attention_BT[:, ::2].abs().max() == 0


def test_an_ensemble_of_probes_is_loaded_and_states_its_kind(tmp_path: Path) -> None:
    location = write_small_ensemble(tmp_path, ["A", "B", "C"], 4, is_tiny=True, model=SMALL)
    assert storage.read_json(f"{location}/ensemble.json")["model"]["model"] == "attentive"
    feature_dim = read_info(location).backbones[0].feature_dim
    sequences = [np.ones((length, feature_dim), np.float16) * length for length in (4, 1)]
    output = files.load(location, torch.device("cpu"))([sequences], tta=True)
    torch.manual_seed(0)
    logits_M = []
    for index in range(2):
        torch.manual_seed(index)
        logits_M.append(run(build_model(feature_dim, 3, SMALL).eval(), torch.full((1, 1, feature_dim), 1.0), [1]))
    expected_C = torch.stack([output.logits_BC.softmax(1) for output in logits_M]).mean(0)[0]
    np.testing.assert_allclose(output.probabilities_BC[1], expected_C, atol=1e-5)
    assert [len(weights_T) for weights_T in output.attention] == [4, 1]
    in_bf16 = files.load(location, torch.device("cpu"), "bf16")([sequences])
    assert np.abs(in_bf16.probabilities_BC - output.probabilities_BC).max() < 0.01


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    location = write_small_ensemble(tmp_path, ["A", "B"], 4, is_tiny=True, model=SMALL)
    info = read_info(location)
    bilstm = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))
    files.write_member(location, 1, TemporalClassifier(info.backbones[0].feature_dim, 2, bilstm).state_dict())
    with pytest.raises(
        ConfigError, match=r"member_1.safetensors: tensor attention.in_proj_weight must have the shape none"
    ):
        files.load(location, torch.device("cpu"))


def test_an_ensemble_of_an_earlier_version_has_bilstms_and_its_own_id(tmp_path: Path) -> None:
    location = write_small_ensemble(tmp_path, ["A", "B"], 4, is_tiny=True)
    values = storage.read_json(f"{location}/ensemble.json")
    assert "model" not in values["model"]
    info = read_info(location)
    assert (info.model.model, info.ensemble_id) == ("bilstm", values["ensemble_id"])


def test_sizes_are_those_that_the_kind_has() -> None:
    bilstm = {
        "hidden_dim": 768,
        "num_lstm_layers": 4,
        "num_attention_heads": 12,
        "projection_dim": None,
        "pooling_dim": None,
        "num_frames": None,
        "classifier_dims": (768, 512, 256),
        "classifier_norm": "none",
    }
    assert FitConfig(epochs=3, dropout=0.1).sizes == bilstm
    attentive = {"model": "attentive", "hidden_dim": 768, "num_attention_heads": 12, "num_frames": None}
    assert ModelConfig(model="attentive", pooling_dim=5).sizes == attentive
    assert ModelConfig(model="attentive", pooling_dim=5).unused == {"pooling_dim": 5}
    assert ModelConfig(pooling_dim=5).unused == {}
