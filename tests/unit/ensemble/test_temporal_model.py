"""The temporal model: its formula, size and module names, and that padding has no influence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support import formula
from vidclf.config import ModelConfig
from vidclf.ensemble.temporal_model import TemporalClassifier, TemporalOutput, chosen_frames, num_parameters

SMALL = ModelConfig(hidden_dim=8, num_lstm_layers=2, num_attention_heads=4, classifier_dims=(8, 4), dropout=0.4)


@pytest.fixture
def model() -> TemporalClassifier:
    torch.manual_seed(0)
    return TemporalClassifier(feature_dim=6, num_classes=3, config=SMALL).eval()


def test_the_full_size_model_has_the_reference_size() -> None:
    with torch.device("meta"):
        model = TemporalClassifier(feature_dim=1280, num_classes=4, config=ModelConfig())
    assert num_parameters(model.lstm) == 51_953_664
    assert num_parameters(model.attention) == 9_443_328
    assert num_parameters(model) == 65_274_629


def test_modules_have_the_names_that_reference_checkpoints_use(model: TemporalClassifier) -> None:
    assert {name.split(".")[0] for name in model.state_dict()} == {
        "input_projection",
        "lstm",
        "attention",
        "attention_norm",
        "attention_pooling",
        "classifier",
    }


@pytest.mark.parametrize(
    ("classifier_norm", "classifier"),
    [
        ("none", [("linear", 0), ("relu", 1), ("linear", 3), ("relu", 4), ("linear", 6)]),
        (
            "layer",
            [
                ("linear", 0),
                ("layer_norm", 1),
                ("relu", 2),
                ("linear", 4),
                ("layer_norm", 5),
                ("relu", 6),
                ("linear", 8),
            ],
        ),
    ],
)
def test_the_forward_pass_is_the_formulas(classifier_norm: str, classifier: list[tuple[str, int]]) -> None:
    torch.manual_seed(1)
    model = TemporalClassifier(6, 3, replace(SMALL, classifier_norm=classifier_norm)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms with scale 1 and biases of 0 would hide mistakes.
            parameter.add_(0.2 * torch.randn_like(parameter))
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    features_BTD, lengths = torch.randn(4, 7, 6), [7, 3, 1, 6]
    output = run(model, features_BTD, lengths)
    for row, length in enumerate(lengths):
        video_TD = features_BTD[row, :length].double().numpy()
        logits_C, attention_T = formula.logits_and_attention(state, video_TD, 4, classifier)
        np.testing.assert_allclose(output.logits_BC[row], logits_C, atol=1e-5)
        np.testing.assert_allclose(output.attention_BT[row, :length], attention_T, atol=1e-5)
    full = run(model, features_BTD[:1], [7])  # the path without packing and masks
    np.testing.assert_allclose(full.logits_BC[0], output.logits_BC[0], atol=1e-5)


def run(model: TemporalClassifier, features_BTD: torch.Tensor, lengths: list[int]) -> TemporalOutput:
    with torch.inference_mode():
        return model(features_BTD, torch.tensor(lengths))


@pytest.mark.parametrize("filling", [0.0, 1e3, -1e30, float("inf"), float("nan")])
def test_what_stands_in_the_padding_changes_nothing(model: TemporalClassifier, filling: float) -> None:
    lengths = [7, 3, 1, 3]
    features_BTD = torch.randn(4, 9, 6)
    for row, length in enumerate(lengths):
        features_BTD[row, length:] = filling
    together = run(model, features_BTD, lengths)
    for row, length in enumerate(lengths):
        alone = run(model, features_BTD[row : row + 1, :length], [length])
        torch.testing.assert_close(together.logits_BC[row], alone.logits_BC[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.attention_BT[row, :length], alone.attention_BT[0], atol=1e-5, rtol=1e-5)
        assert together.attention_BT[row, length:].tolist() == [0.0] * (9 - length)


def test_padding_changes_no_gradient(model: TemporalClassifier) -> None:
    features_BTD = torch.randn(2, 5, 6)
    gradients = []
    for num_frames in (5, 8):
        model.zero_grad()
        padded_BTD = torch.full((2, num_frames, 6), 1e3)
        padded_BTD[:, :5] = features_BTD
        model(padded_BTD, torch.tensor([5, 5])).logits_BC.pow(2).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    for full, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(full, padded, atol=1e-5, rtol=1e-4)


def test_one_frame_is_pooled_whole(model: TemporalClassifier) -> None:
    output = run(model, torch.randn(3, 1, 6), [1, 1, 1])
    assert output.attention_BT.tolist() == [[1.0], [1.0], [1.0]]
    assert bool(torch.isfinite(output.logits_BC).all())


def test_attention_sums_to_one_and_is_nothing_on_padding(model: TemporalClassifier) -> None:
    attention_BT = model(torch.randn(2, 5, 6), torch.tensor([5, 2])).attention_BT
    torch.testing.assert_close(attention_BT.sum(dim=1), torch.ones(2))
    assert attention_BT[1, 2:].tolist() == [0.0, 0.0, 0.0]


def test_the_frames_that_stand_for_a_video() -> None:
    indices_BN, counts_B = chosen_frames(torch.tensor([8, 4, 2]), 4)
    # Midpoints of four spans of two frames; each of four frames; each of two frames, then repetitions that do not
    # count.
    assert indices_BN.tolist() == [[1, 3, 5, 7], [0, 1, 2, 3], [0, 1, 1, 1]]
    assert counts_B.tolist() == [4, 4, 2]


def test_a_model_of_few_frames_sees_just_these() -> None:
    config = ModelConfig(hidden_dim=8, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(8,))
    every = TemporalClassifier(4, 3, config).eval()
    few = TemporalClassifier(4, 3, replace(config, num_frames=4)).eval()
    few.load_state_dict(every.state_dict())
    features_BTD = torch.randn(2, 8, 4)
    output = few(features_BTD, torch.tensor([8, 8]))
    thinned = every(features_BTD[:, [1, 3, 5, 7]], torch.tensor([4, 4]))
    assert torch.equal(output.logits_BC, thinned.logits_BC)
    assert torch.equal(output.attention_BT[:, [1, 3, 5, 7]], thinned.attention_BT)
    assert output.attention_BT[:, ::2].abs().max() == 0
    # Padding has no influence on either.
    ragged = few(features_BTD, torch.tensor([8, 2]))
    alone = every(features_BTD[1:, :2], torch.tensor([2]))
    assert torch.allclose(ragged.logits_BC[1], alone.logits_BC[0], atol=1e-6)


def test_projection_and_pooling_have_widths_of_their_own() -> None:
    config = ModelConfig(
        hidden_dim=8, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(8,), projection_dim=6, pooling_dim=5
    )
    shapes = {name: tuple(value.shape) for name, value in TemporalClassifier(4, 3, config).state_dict().items()}
    assert shapes["input_projection.0.weight"] == (6, 4)
    assert shapes["lstm.weight_ih_l0"] == (32, 6)
    assert shapes["attention_pooling.0.weight"] == (5, 16)
    assert shapes["attention_pooling.4.weight"] == (1, 5)


@pytest.mark.parametrize("lengths", [[3, 3], [3, 2]])
def test_autocast_leaves_the_lstm_alone(lengths: list[int]) -> None:
    config = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,), dropout=0.0)
    model = TemporalClassifier(5, 2, config)
    calls: list[tuple[bool, torch.dtype]] = []

    def look(module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
        data = getattr(inputs[0], "data", inputs[0])
        assert isinstance(data, torch.Tensor)
        calls.append((torch.is_autocast_enabled("cpu"), data.dtype))

    model.lstm.register_forward_pre_hook(look)
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 3, 5), torch.tensor(lengths)).logits_BC.float().sum().backward()
    assert calls == [(False, torch.float32)]
    assert model.lstm.weight_hh_l0.grad is not None
    assert model.lstm.weight_hh_l0.grad.dtype == torch.float32
