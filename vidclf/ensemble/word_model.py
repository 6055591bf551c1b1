"""The temporal model of classes that are described in words: similarities of frames to the descriptions.

Shape suffixes: B videos, T frames, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidclf.config import ModelConfig
from vidclf.ensemble.temporal_model import TemporalModel, TemporalOutput, padding


class WordModel(TemporalModel):
    """Logits from embeddings of frames and texts by one model of pictures and texts: the cosine of each frame to each
    class, times the model's logit scale, averaged over the frames of the video.

    All frames have the same weight. The model is not trained: its parameters are the embeddings of the classes.
    """

    def __init__(self, feature_dim: int, num_classes: int, config: ModelConfig) -> None:
        super().__init__(config.num_frames)
        self.texts = nn.Parameter(torch.zeros(num_classes, feature_dim), requires_grad=False)
        self.logit_scale = nn.Parameter(torch.ones(()), requires_grad=False)

    @property
    def num_heads(self) -> int:
        """See `TemporalModel`. There is no attention."""
        return 1

    def _classify(self, features_BTD: Tensor, lengths_B: Tensor) -> TemporalOutput:
        """See `TemporalModel`."""
        num_frames = features_BTD.shape[1]
        is_padding_BT = padding(lengths_B, num_frames).to(features_BTD.device)
        features_BTD = features_BTD.masked_fill(is_padding_BT[..., None], 0.0)  # 0 times NaN would be NaN
        lengths_B1 = lengths_B[:, None].to(features_BTD)
        attention_BT = (~is_padding_BT).to(features_BTD) / lengths_B1
        logits_BTC = self.logit_scale * functional.normalize(features_BTD, dim=2) @ self.texts.T
        return TemporalOutput(torch.einsum("bt,btc->bc", attention_BT, logits_BTC), attention_BT)
