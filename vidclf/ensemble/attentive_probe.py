"""The attentive probe: a temporal model of one learned query that attends to the features of a video's frames.

It is the usual classifier on frozen features of image and video networks: CAE (Chen et al. 2022, arXiv:2202.03026) and
V-JEPA (Bardes et al. 2024, arXiv:2404.08471). As in CAE, there is neither a residual nor an MLP after the attention.

Shape suffixes: B videos, T frames, D features, W = 2 × hidden_dim, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidclf.config import ModelConfig
from vidclf.ensemble.temporal_model import TemporalModel, TemporalOutput, padding


class AttentiveProbe(TemporalModel):
    """Network for sequences of frame features: LayerNorm ▶ cross-attention of one learned query ▶ LayerNorm ▶ Linear.

    The order of the frames has no influence, because the features have no position. Padding has none either, because
    it is masked.
    """

    def __init__(self, feature_dim: int, num_classes: int, config: ModelConfig) -> None:
        super().__init__(config.num_frames)
        width = 2 * config.hidden_dim
        self.frame_norm = nn.LayerNorm(feature_dim)
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.attention = nn.MultiheadAttention(
            width,
            config.num_attention_heads,
            dropout=config.dropout,
            kdim=feature_dim,
            vdim=feature_dim,
            batch_first=True,
        )
        self.pooled_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.query, std=0.02)

    def _classify(self, features_BTD: Tensor, lengths_B: Tensor) -> TemporalOutput:
        """See `TemporalModel`."""
        num_videos, num_frames, _ = features_BTD.shape
        padding_BT = None
        if int(lengths_B.min()) < num_frames:
            padding_BT = padding(lengths_B, num_frames).to(features_BTD.device, non_blocking=True)
            # The attention to padding is 0, but 0 times NaN or infinity would be NaN.
            features_BTD = features_BTD.masked_fill(padding_BT[..., None], 0.0)
        frames_BTD = self.frame_norm(features_BTD)
        pooled_B1W, attention_B1T = self.attention(
            self.query.expand(num_videos, -1, -1), frames_BTD, frames_BTD, key_padding_mask=padding_BT
        )
        logits_BC = self.classifier(self.dropout(self.pooled_norm(pooled_B1W.squeeze(1))))
        return TemporalOutput(logits_BC, attention_B1T.squeeze(1))
