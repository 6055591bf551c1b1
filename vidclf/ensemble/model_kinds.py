"""Choice of the temporal model that `ModelConfig.model` names."""

from __future__ import annotations

from vidclf.config import ModelConfig
from vidclf.ensemble.attentive_probe import AttentiveProbe
from vidclf.ensemble.temporal_model import TemporalClassifier, TemporalModel
from vidclf.ensemble.word_model import WordModel

KINDS: dict[str, type[AttentiveProbe] | type[TemporalClassifier] | type[WordModel]] = {
    "bilstm": TemporalClassifier,
    "attentive": AttentiveProbe,
    "words": WordModel,
}
"""Class of each kind of temporal model, by its name in `ModelConfig.model`."""


def build_model(feature_dim: int, num_classes: int, config: ModelConfig) -> TemporalModel:
    """A temporal model with random weights, for `feature_dim` features per frame."""
    return KINDS[config.model](feature_dim, num_classes, config)
