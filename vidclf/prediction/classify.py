"""Bulk classification: the extraction pipeline with the ensemble as its head. [Ray Data]

Shape suffixes: B videos, T frames, C classes, M members.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from vidclf import schema, storage
from vidclf.config import ClassifyConfig, ConfigError
from vidclf.features import backbone
from vidclf.features.extract import embed_videos
from vidclf.features.run import EmbeddingJob, Target
from vidclf.features.store import FeatureSpec, features_TD
from vidclf.learning import ensemble
from vidclf.learning.ensemble import EnsembleInfo
from vidclf.schema import nested_list


def classify(config: ClassifyConfig, manifest: pa.Table) -> dict[str, dict[str, Any]] | None:
    """Classify every video of `manifest` into `config.output`; as `embed_videos`, None after a dry run.

    Raises ConfigError before any work starts where the ensemble was fitted on features that this
    cluster cannot make: another backbone, other weights, another decoder.
    """
    # Loading checks every member's digest and sizes here, once, rather than in each worker.
    info = ensemble.load(config.ensemble, torch.device("cpu")).info
    state, weights = _fitted_weights(config, info)
    return embed_videos(
        config,
        manifest,
        EmbeddingJob(
            targets=(
                Target(
                    spec=info.feature_spec,
                    weights=weights,
                    state=state,
                    output_schema=schema.predictions(len(info.classes)),
                    make_head=partial(EnsembleHead, storage.canonical(config.ensemble)),
                    ensemble_id=info.ensemble_id,
                    classes=tuple(info.classes),
                ),
            )
        ),
    )


class EnsembleHead:
    """In: `schema.features`. Out: `schema.predictions`, one row per row."""

    def __init__(self, directory: str) -> None:
        self._ensemble = ensemble.load(directory, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def __call__(self, embedded: pa.Table) -> pa.Table:
        info = self._ensemble.info
        output = self._ensemble([features_TD(row) for row in embedded["features"]])
        probabilities_BC, member_probabilities_MBC = output.probabilities_BC, output.member_probabilities_MBC
        confidence = pa.array(probabilities_BC.max(axis=1))
        columns = {name: embedded[name] for name in schema.predictions(1).names if name in embedded.column_names}
        columns["top_label"] = pa.array([info.classes[index] for index in probabilities_BC.argmax(axis=1)])
        columns["label"] = columns["top_label"]
        columns["verdict"] = pa.array(["accepted"] * embedded.num_rows)
        columns["confidence"] = columns["trust_score"] = confidence
        columns["ood_score"] = pa.array(np.float32(1) - probabilities_BC.max(axis=1))
        columns["probabilities"] = _class_lists(probabilities_BC)
        columns["member_disagreement"] = pa.array(disagreement(member_probabilities_MBC))
        columns["member_probabilities"] = nested_list(
            [len(member_probabilities_MBC)] * embedded.num_rows,
            _class_lists(member_probabilities_MBC.transpose(1, 0, 2)),
        )
        columns["view_probabilities"] = nested_list([1] * embedded.num_rows, _class_lists(probabilities_BC))
        columns["attention"] = nested_list(
            [len(row) for row in output.attention], pa.array(np.concatenate(output.attention))
        )
        columns["ensemble_id"] = pa.array([info.ensemble_id] * embedded.num_rows)
        return pa.table(columns)


def _class_lists(probabilities: npt.NDArray[np.float32]) -> pa.FixedSizeListArray:
    """[..., C] as a list of C a row, the leading axes as one."""
    return pa.FixedSizeListArray.from_arrays(pa.array(probabilities.reshape(-1)), probabilities.shape[-1])


def disagreement(probabilities_MBC: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean over the members of the total variation distance to their average, [B] in [0, 1]."""
    distance_MB = 0.5 * np.abs(probabilities_MBC - probabilities_MBC.mean(axis=0)).sum(axis=2)
    mean_B: npt.NDArray[np.float32] = distance_MB.mean(axis=0).astype(np.float32)
    return mean_B


def _fitted_weights(config: ClassifyConfig, info: EnsembleInfo) -> tuple[dict[str, Any], str]:
    """The backbone's state and where it is from, refused unless the features would be the fitted ones."""
    fitted = info.feature_spec
    if config.backbone is not None and config.backbone != fitted.backbone:
        raise ConfigError(
            f"--backbone must be {fitted.backbone}, which the ensemble was fitted on, got {config.backbone!r}"
        )
    weights = config.weights or info.weights
    state = backbone.load_weights(fitted.backbone, weights)
    ours = FeatureSpec.of(fitted.backbone, weights, backbone.weights_digest(state), fitted.plan)
    if ours.key != fitted.key:
        raise ConfigError(
            f"--ensemble {config.ensemble}: was fitted on features of key {fitted.key}, this cluster makes {ours.key} "
            f"({fitted.differences(ours)}); give --weights, match the versions, or train again"
        )
    return state, weights
