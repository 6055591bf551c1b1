"""The end of training: temperature, views' weights, trust score and OOD line, fitted on validation.

Validation has also chosen each member's epoch, so what is measured on it flatters a little; whatever is
fitted here is therefore judged by cross-fitting over its sources.

Shape suffixes: B videos, C classes, M members, V views, K signs, S backbones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidclf.features.store import FeatureSet
from vidclf.learning import ensemble, metrics, trust, views
from vidclf.learning.ensemble import EnsembleInfo, TrustData
from vidclf.learning.trust import FeatureSpace, TrustScore

NUM_FOLDS = 5

Fitted = TypeVar("Fitted")


def calibrate(directory: str, info: EnsembleInfo, features_S: Sequence[FeatureSet]) -> EnsembleInfo:
    """`info` with its views, calibration, trust and validation scores, after writing
    `trust.safetensors` beside the members that `directory` holds. `features_S` are those of the
    ensemble's backbones, of the same videos."""
    features = features_S[0]
    splits = np.array(features.splits)
    in_train, in_val = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")
    labels = [info.classes.index(str(features.labels[index])) for index in in_val]
    labels_B, groups = np.array(labels), [features.groups[index] for index in in_val]
    sequences_S = [[own.features[index] for index in in_val] for own in features_S]
    members = [ensemble.load_member(directory, info, index).eval() for index in range(len(info.members))]
    logits_VMBC, _ = ensemble.run_members(members, info.spaces_M, sequences_S, list(views.VIEWS), torch.device("cpu"))
    folds_B = trust.group_folds(labels, groups, min(NUM_FOLDS, len(set(groups))))

    fitted_S = [fit_space(own, in_train, in_val, info.classes) for own in features_S]
    spaces = [space for space, _ in fitted_S]
    ood, seen_score_B = fit_ood([distances_B for _, distances_B in fitted_S])
    ood_score_B = seen_score_B[: len(in_val)]

    temperature = ensemble.fit_temperature(logits_VMBC[0], torch.tensor(labels_B))
    view_weights = views.fit_weights((logits_VMBC / temperature).softmax(dim=3).mean(dim=1).numpy(), labels_B, groups)
    calibration: dict[str, Any] = {"num_videos": len(labels_B)}
    fitted: dict[str, Any] = {}
    trust_B: dict[str, npt.NDArray[np.float32]] = {}
    correct_B: dict[str, npt.NDArray[np.bool_]] = {}
    for tta in (False, True):
        weights_V = torch.tensor([view.weight for view in view_weights] if tta else [1.0], dtype=torch.float32)
        seen_VMBC = logits_VMBC[: len(weights_V)]
        measured, probabilities_VMBC = fit_calibration(seen_VMBC, weights_V, labels_B, folds_B)
        calibration.update({"tta": measured} if tta else measured)
        # Cross-fitted, so that signs and confidences are those of videos the temperature has not seen.
        member_MBC = np.tensordot(weights_V.numpy(), probabilities_VMBC, axes=1)
        probabilities_BC = member_MBC.mean(axis=0)
        top_B = probabilities_BC.argmax(axis=1)
        name = ensemble.mode(tta)
        signs_BK = trust.signs(
            probabilities_BC,
            member_MBC,
            probabilities_VMBC.mean(axis=1),
            trust.frame_agreement(spaces, sequences_S, top_B),
            ood_score_B,
        )
        confidence_B = probabilities_BC.max(axis=1)
        correct_B[name] = top_B == labels_B
        if not tta:
            scores = metrics.evaluate(labels, top_B.tolist(), info.classes)
        score, trust_B[name] = fit_trust(confidence_B, signs_BK, correct_B[name], folds_B)
        fitted[name] = asdict(score)
    digest = ensemble.write_trust(
        directory, TrustData(spaces=spaces, validation_trust_B=trust_B, validation_correct_B=correct_B)
    )
    training = {
        **info.training,
        "val_accuracy": scores.accuracy,
        "val_macro_f1": scores.macro_f1,
        "val_weighted_f1": scores.weighted_f1,
        "val_f1": {name: values.f1 for name, values in scores.per_class.items()},
    }
    return replace(
        info,
        views=[asdict(view) for view in view_weights],
        calibration=calibration,
        trust={"digest": digest, "ood": ood, **fitted},
        training=training,
    )


def fit_calibration(
    logits_VMBC: Tensor, weights_V: Tensor, labels_B: npt.NDArray[np.int64], folds_B: npt.NDArray[np.int64]
) -> tuple[dict[str, float], npt.NDArray[np.float32]]:
    """Temperature with its errors before and after, and the probabilities [V, M, B, C] at temperatures
    that were fitted without a video's source."""
    num_views, num_members = logits_VMBC.shape[:2]
    weights_N = weights_V.repeat_interleave(num_members) / num_members
    labels = torch.tensor(labels_B)

    def fit(inside: npt.NDArray[np.bool_]) -> float:
        seen = torch.tensor(inside)
        return ensemble.fit_temperature(logits_VMBC[:, :, seen].flatten(0, 1), labels[seen], weights_N)

    def at(temperature_B: Tensor) -> npt.NDArray[np.float32]:
        probabilities: npt.NDArray[np.float32] = (logits_VMBC / temperature_B[:, None]).softmax(dim=3).numpy()
        return probabilities

    def ece(probabilities_VMBC: npt.NDArray[np.float32]) -> float:
        mean_BC = np.tensordot(weights_V.numpy(), probabilities_VMBC, axes=1).mean(axis=0)
        return metrics.expected_calibration_error(mean_BC.max(axis=1), mean_BC.argmax(axis=1) == labels_B)

    crossed_B = torch.tensor(cross_fitted(folds_B, fit, lambda temperature, inside: temperature), dtype=torch.float32)
    crossed_VMBC = at(crossed_B)
    measured = {
        "temperature": fit(np.ones(len(labels_B), bool)),
        "ece_before": ece(at(torch.ones(len(labels_B)))),
        "ece_after": ece(crossed_VMBC),
    }
    assert crossed_VMBC.shape[0] == num_views
    return measured, crossed_VMBC


def fit_trust(
    confidence_B: npt.NDArray[np.float32],
    signs_BK: npt.NDArray[np.floating[Any]],
    correct_B: npt.NDArray[np.bool_],
    folds_B: npt.NDArray[np.int64],
) -> tuple[TrustScore, npt.NDArray[np.float32]]:
    """The trust score, and validation's trust scores [B] by fits that had not seen a video's source."""

    def fit(inside: npt.NDArray[np.bool_]) -> TrustScore:
        return TrustScore.fit(confidence_B[inside], signs_BK[inside], correct_B[inside])

    crossed_B = cross_fitted(folds_B, fit, lambda score, inside: score(confidence_B[inside], signs_BK[inside]))
    return fit(np.ones(len(correct_B), bool)), crossed_B.astype(np.float32)


def fit_space(
    features: FeatureSet, in_train: npt.NDArray[np.intp], in_val: npt.NDArray[np.intp], classes: list[str]
) -> tuple[FeatureSpace, npt.NDArray[np.floating[Any]]]:
    """Where train lies; the distances of validation's videos, then of train's own by cross-fitting over its
    sources (which had less to fit on, so that a line by them lies rather too far out)."""
    sequences = [features.features[index] for index in in_train]
    labels = [classes.index(str(features.labels[index])) for index in in_train]
    groups = [features.groups[index] for index in in_train]
    space = FeatureSpace.fit(sequences, labels, len(classes))
    folds_B = trust.group_folds(labels, groups, NUM_FOLDS)
    seen = [space.distances([features.features[index] for index in in_val])]
    for fold in range(NUM_FOLDS):
        inside, outside = np.flatnonzero(folds_B != fold), np.flatnonzero(folds_B == fold)
        # A class with a single source has no mean without it.
        if len(outside) and len({labels[index] for index in inside}) == len(classes):
            part = FeatureSpace.fit([sequences[i] for i in inside], [labels[i] for i in inside], len(classes))
            seen.append(part.distances([sequences[index] for index in outside]))
    return space, np.concatenate(seen)


def fit_ood(
    distances_SB: Sequence[npt.NDArray[np.floating[Any]]],
) -> tuple[dict[str, Any], npt.NDArray[np.floating[Any]]]:
    """The OOD line, by the distances of the same unseen videos in each backbone's space; their scores."""
    scale_S = [trust.conformal_quantile(distances_B, trust.OOD_LEVEL)[0] for distances_B in distances_SB]
    line, level = trust.conformal_quantile(trust.ood_score(distances_SB, scale_S, 1.0), trust.OOD_LEVEL)
    ood = {"distances": scale_S, "line": line, "level": level, "num_videos": len(distances_SB[0])}
    return ood, trust.ood_score(distances_SB, scale_S, line)


def cross_fitted(
    folds_B: npt.NDArray[np.int64],
    fit: Callable[[npt.NDArray[np.bool_]], Fitted],
    apply: Callable[[Fitted, npt.NDArray[np.bool_]], Any],
) -> npt.NDArray[np.floating[Any]]:
    """A value for each video, from a fit to the other folds; from a fit to all where there is one fold."""
    values_B = np.empty(len(folds_B))
    for fold in np.unique(folds_B):
        outside = folds_B == fold
        inside = ~outside if not outside.all() else outside
        values_B[outside] = apply(fit(inside), outside)
    return values_B
