"""The temporal model: its size, its names, and that padding is seen by no stage."""

from __future__ import annotations

import pytest
import torch

from vidclf.config import ModelConfig
from vidclf.learning.model import TemporalClassifier, num_parameters

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


def test_a_video_alone_and_in_a_padded_batch_has_the_same_answer(model: TemporalClassifier) -> None:
    features_BTD = torch.randn(3, 7, 6)
    lengths_B = torch.tensor([7, 3, 1])
    for row, length in enumerate(lengths_B.tolist()):
        features_BTD[row, length:] = 1e3  # what stands in the padding must not matter
    together = model(features_BTD, lengths_B)
    for row, length in enumerate(lengths_B.tolist()):
        alone = model(features_BTD[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together.logits_BC[row], alone.logits_BC[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.attention_BT[row, :length], alone.attention_BT[0], atol=1e-5, rtol=1e-5)


def test_attention_sums_to_one_and_is_nothing_on_padding(model: TemporalClassifier) -> None:
    attention_BT = model(torch.randn(2, 5, 6), torch.tensor([5, 2])).attention_BT
    torch.testing.assert_close(attention_BT.sum(dim=1), torch.ones(2))
    assert attention_BT[1, 2:].tolist() == [0.0, 0.0, 0.0]
