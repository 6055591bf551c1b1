"""Labels from words as the last step of the pipeline, without calibration.

Shape suffixes: B videos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from vidclf import schema
from vidclf.arrow import nested_list, vectors
from vidclf.classification.sublabel_columns import no_sublabels
from vidclf.config import ModelConfig
from vidclf.ensemble.inference import run_members
from vidclf.ensemble.views import PLAIN
from vidclf.ensemble.word_model import WordModel
from vidclf.features.columns import features_TD
from vidclf.schema import Look, Verdict
from vidclf.words.text_embeddings import WordEmbeddings

MODEL = ModelConfig(model="words", dropout=0.0)
"""Configuration of the model of labels from words."""


def word_model(words: WordEmbeddings) -> WordModel:
    """The model with the embeddings of the labels."""
    num_classes, feature_dim = words.texts_CD.shape
    model = WordModel(feature_dim, num_classes, MODEL)
    model.load_state_dict(
        {"texts": torch.from_numpy(words.texts_CD), "logit_scale": torch.tensor(words.logit_scale, dtype=torch.float32)}
    )
    return model.eval()


class WordHead:
    """Last step of the pipeline: classifies videos by the similarity of their frames to descriptions of the classes.

    In: one table of `schema.embedded` or `schema.features`. Out: a table of `schema.uncalibrated_predictions`, without
    the facts about a video that the input lacks. Every video gets the label of its most probable class: without
    calibration nothing says which labels are wrong, so that no video is abstained on.
    """

    def __init__(self, words: WordEmbeddings, classes: tuple[str, ...], ensemble_id: str, device: str) -> None:
        """`ensemble_id`: the id that the rows get. `device`: `cpu` or `cuda` (see `device.claim`)."""
        torch.set_num_threads(1)  # There is one worker per core.
        self._device = torch.device(device)
        self._model = word_model(words).to(self._device)
        self._classes, self._ensemble_id = classes, ensemble_id
        self.engine = f"torch {device} fp32"

    def __call__(self, embedded_S: Sequence[pa.Table], /) -> pa.Table:
        (embedded,) = embedded_S
        sequences = [features_TD(row) for row in embedded["features"]]
        logits_VMBC, attention = run_members([self._model], [0], [sequences], PLAIN, self._device)
        probabilities_BC = logits_VMBC[0, 0].softmax(dim=1).numpy()
        num_videos = len(sequences)
        top = pa.array([self._classes[index] for index in probabilities_BC.argmax(axis=1)])
        alone = nested_list([1] * num_videos, vectors(probabilities_BC))
        decided = {
            "label": top,
            "verdict": pa.array([Verdict.ACCEPTED] * num_videos),
            "top_label": top,
            "confidence": pa.array(probabilities_BC.max(axis=1)),
            "probabilities": vectors(probabilities_BC),
            "prediction_set": pa.nulls(num_videos, pa.list_(pa.string())),
            "trust_score": pa.nulls(num_videos, pa.float32()),
            "ood_score": pa.nulls(num_videos, pa.float32()),
            "member_disagreement": pa.array(np.zeros(num_videos, np.float32)),
            "member_probabilities": alone,
            "view_probabilities": alone,
            "attention": nested_list(
                [len(weights_T) for weights_T in attention], pa.array(np.concatenate(attention).astype(np.float32))
            ),
            "stage": pa.array([Look.FULL] * num_videos),
            "sharpened": pa.array([False] * num_videos),
            "ensemble_id": pa.array([self._ensemble_id] * num_videos),
            **no_sublabels(np.ones(num_videos, bool)),
        }
        names = [name for name in schema.predictions(1).names if name in decided or name in embedded.column_names]
        return pa.table({name: decided[name] if name in decided else embedded[name] for name in names})
