"""The temporal model: a network that computes class logits from the sequence of a video's frame features.

`TemporalModel` is what all kinds of temporal models share. `TemporalClassifier` is the BiLSTM; `attentive_probe.py` has
the other kind. The modules of the BiLSTM have the same names as those of the older system whose checkpoints vidclf
reads, so that these load by name.

Shape suffixes: B videos, T frames, D features, H = 2 × hidden_dim, C classes, N chosen frames.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vidclf.config import ModelConfig


def pad(sequences: Sequence[npt.NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    """Put sequences of different lengths into one tensor.

    Returns the features, float32 [videos, frames, features] with zeros after the end of each sequence, and the lengths,
    int64 [videos].
    """
    lengths_B = torch.tensor([len(sequence) for sequence in sequences])
    features_BTD = torch.zeros(len(sequences), int(lengths_B.max()), sequences[0].shape[1])
    for row, sequence in enumerate(sequences):
        features_BTD[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.float32)
    return features_BTD, lengths_B


class TemporalOutput(NamedTuple):
    """Result of a temporal model for a batch of videos."""

    logits_BC: Tensor
    """class logits of each video"""
    attention_BT: Tensor
    """weights with which the frames of each video are averaged: they sum to 1, and are 0 on padding"""


class TemporalModel(nn.Module):
    """Base of the kinds of temporal models. With `num_frames`, the model uses at most this number of frames per
    video."""

    attention: nn.MultiheadAttention

    def __init__(self, num_frames: int | None) -> None:
        super().__init__()
        self._num_frames = num_frames

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights; features must be given in the same format."""
        return next(self.parameters()).dtype

    @property
    def num_heads(self) -> int:
        """Number of heads of the attention between frames, which bounds the size of a batch."""
        return int(self.attention.num_heads)

    @property
    def num_frames(self) -> int | None:
        """Largest number of frames per video that the model uses; None if it uses all."""
        return self._num_frames

    def forward(self, features_BTD: Tensor, lengths_B: Tensor) -> TemporalOutput:
        """Class logits and frame weights of padded sequences.

        `lengths_B` (int64, on the CPU, at least 1) holds the number of real frames of each sequence.
        """
        if self._num_frames is not None and features_BTD.shape[1] > self._num_frames:
            return self._forward_thinned(features_BTD, lengths_B, self._num_frames)
        return self._classify(features_BTD, lengths_B)

    @abstractmethod
    def _classify(self, features_BTD: Tensor, lengths_B: Tensor) -> TemporalOutput:
        """Class logits and frame weights of padded sequences with at most `num_frames` frames."""

    def _forward_thinned(self, features_BTD: Tensor, lengths_B: Tensor, num_frames: int) -> TemporalOutput:
        """The model's output if it sees only `num_frames` frames of each video. The weight of all other frames is 0."""
        indices_BN, counts_B = chosen_frames(lengths_B, num_frames)
        indices_BN = indices_BN.to(features_BTD.device, non_blocking=True)
        output = self(features_BTD.gather(1, indices_BN[..., None].expand(-1, -1, features_BTD.shape[2])), counts_B)
        all_BT = output.attention_BT.new_zeros(features_BTD.shape[:2])
        return TemporalOutput(output.logits_BC, all_BT.scatter_add(1, indices_BN, output.attention_BT))


class TemporalClassifier(TemporalModel):
    """Network for sequences of frame features: Linear ▶ BiLSTM ▶ self-attention with residual ▶ attention pooling ▶
    MLP.

    Self-attention follows Vaswani et al. 2017 (arXiv:1706.03762), pooling Lin et al. 2017 (arXiv:1703.03130). Padding
    has no influence: if lengths differ, the LSTM runs on packed sequences, and attention and pooling are masked.
    """

    def __init__(self, feature_dim: int, num_classes: int, config: ModelConfig) -> None:
        super().__init__(config.num_frames)
        hidden_dim, wide, dropout = config.hidden_dim, 2 * config.hidden_dim, config.dropout
        projected, pooling = config.projection_dim or hidden_dim, config.pooling_dim or hidden_dim
        self.input_projection = nn.Sequential(
            nn.Linear(feature_dim, projected), nn.LayerNorm(projected), nn.ReLU(), nn.Dropout(dropout)
        )
        self.lstm = nn.LSTM(
            projected,
            hidden_dim,
            num_layers=config.num_lstm_layers,
            dropout=dropout if config.num_lstm_layers > 1 else 0.0,
            bidirectional=True,
            batch_first=True,
        )
        self.attention = nn.MultiheadAttention(wide, config.num_attention_heads, dropout=dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(wide)
        self.attention_pooling = nn.Sequential(
            nn.Linear(wide, pooling),
            nn.LayerNorm(pooling),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(pooling, 1),
        )
        layers: list[nn.Module] = []
        width = wide
        for next_width in config.classifier_dims:
            norm = [nn.LayerNorm(next_width)] if config.classifier_norm == "layer" else []
            layers += [nn.Linear(width, next_width), *norm, nn.ReLU(), nn.Dropout(dropout)]
            width = next_width
        self.classifier = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def _classify(self, features_BTD: Tensor, lengths_B: Tensor) -> TemporalOutput:
        """See `TemporalModel`."""
        num_frames = features_BTD.shape[1]
        projected_BTH = self.input_projection(features_BTD)
        if int(lengths_B.min()) == num_frames:
            # Full sequences need no packing, which costs 20 to 60 % on a CPU.
            states_BTH = self._lstm_states(projected_BTH, None)
            padding_BT = None
        else:
            states_BTH = self._lstm_states(projected_BTH, lengths_B)
            padding_BT = padding(lengths_B, num_frames).to(features_BTD.device, non_blocking=True)
        attended_BTH, _ = self.attention(
            states_BTH, states_BTH, states_BTH, key_padding_mask=padding_BT, need_weights=False
        )
        context_BTH = self.attention_norm(states_BTH + attended_BTH)
        scores_BT = self.attention_pooling(context_BTH).squeeze(-1)
        if padding_BT is not None:
            scores_BT = scores_BT.masked_fill(padding_BT, float("-inf"))
        attention_BT = scores_BT.softmax(dim=1)
        pooled_BH = torch.einsum("bt,bth->bh", attention_BT, context_BTH)
        return TemporalOutput(cast(Tensor, self.classifier(pooled_BH)), attention_BT)

    def _lstm_states(self, projected_BTH: Tensor, lengths_B: Tensor | None) -> Tensor:
        """Outputs of the LSTM [videos, frames, H], zero on padding. `lengths_B` is None if no sequence has padding.

        Autocast is off here. On a GPU autocast runs the LSTM in float16, whatever type it is set to. Without loss
        scaling nearly all of the LSTM's gradients are subnormal in float16. cuDNN computes float32 weights in TF32,
        which has the range of float32.
        """
        with torch.autocast(projected_BTH.device.type, enabled=False):
            projected_BTH = projected_BTH.to(self.dtype)
            if lengths_B is None:
                states_BTH, _ = self.lstm(projected_BTH)
                return cast(Tensor, states_BTH)
            # Rows are sorted here because `enforce_sorted=False` copies the order to a GPU and waits for the copy.
            sorted_B, order_B = torch.sort(lengths_B, descending=True)
            device, num_frames = projected_BTH.device, projected_BTH.shape[1]
            packed = nn.utils.rnn.pack_padded_sequence(
                projected_BTH.index_select(0, order_B.to(device, non_blocking=True)), sorted_B, batch_first=True
            )
            states, _ = self.lstm(packed)
            states_BTH, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=num_frames)
            return states_BTH.index_select(0, order_B.argsort().to(device, non_blocking=True))


def padding(lengths_B: Tensor, num_frames: int) -> Tensor:
    """Boolean mask [videos, `num_frames`] that is True on padding: the frames after the end of each sequence."""
    return torch.arange(num_frames)[None, :] >= lengths_B[:, None]


def chosen_frames(lengths_B: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Choose `num_frames` frames to represent each video of a batch.

    Returns ascending frame indices [videos, `num_frames`], and how many of them count [videos]. Of a video with more
    than `num_frames` frames, the frames at the midpoints of `num_frames` equal spans are chosen. Of a shorter video
    each frame is chosen once, followed by repetitions of the last one, which do not count.
    """
    steps_N, lengths_B1 = torch.arange(num_frames), lengths_B[:, None]
    spread_BN = ((2 * steps_N + 1) * lengths_B1) // (2 * num_frames)
    indices_BN = torch.where(lengths_B1 > num_frames, spread_BN, torch.minimum(steps_N, lengths_B1 - 1))
    return indices_BN, lengths_B.clamp(max=num_frames)


def initialize(model: TemporalClassifier) -> None:
    """Initialise the weights of the model's LSTM in place.

    Orthogonal recurrent weights (Saxe et al. 2014, arXiv:1312.6120), Xavier-uniform input weights per gate (Glorot &
    Bengio 2010), forget gates opened by a bias of 1 (Jozefowicz et al. 2015). By default torch draws all weights and
    biases from ±1/sqrt(hidden). A stack of such layers passes on little of the input and little of the gradient.
    """
    hidden_dim = model.lstm.hidden_size
    for name, parameter in model.lstm.named_parameters():
        gates = torch.split(parameter.detach(), hidden_dim)  # input, forget, cell, output
        if name.startswith("weight_hh"):
            for gate in gates:
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            for gate in gates:
                nn.init.xavier_uniform_(gate)
        else:
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                nn.init.ones_(gates[1])


def num_parameters(model: nn.Module) -> int:
    """Number of values in all parameters of the model together."""
    return sum(parameter.numel() for parameter in model.parameters())
