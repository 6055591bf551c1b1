"""Worker seconds and validation accuracy of a progressive classification, per stage.

A stage is the set of frames that decides a video: a few keyframes, 24 sampled frames, or all sampled frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vidclf.classification.passes import PASS_OF
from vidclf.ensemble import calibration_file
from vidclf.ensemble.info import EnsembleInfo, mode, read_info
from vidclf.ensemble.outdated import OutdatedEnsembleError
from vidclf.ensemble.pair import Calibrated, EnsemblePair
from vidclf.schema import Look
from vidclf.uncertainty import early_exit
from vidclf.uncertainty.risk_threshold import RiskThreshold


@dataclass(frozen=True, kw_only=True)
class LookCost:
    """Cost and accuracy of one stage: `keyframes`, `subset` (24 sampled frames) or `full` (all sampled frames)."""

    name: str
    num_frames: int
    """largest number of sampled frames per video"""
    num_decided: int
    """videos that this stage decided"""
    share: float
    """share of the classified videos that this stage decided"""
    validation_accuracy: float
    """accuracy on validation if this stage decided every video"""
    pass_s_per_video: float
    """seconds of decode and CNN workers per video, in the round over the videos (pass) that computes this stage"""


@dataclass(frozen=True, kw_only=True)
class PassCosts:
    """Costs of a progressive classification, per stage and in total."""

    stages: list[LookCost]
    s_per_video: float
    """worker seconds of all rounds over the videos (passes) together, per video of the job"""
    full_s_per_video: float
    """worker seconds of the pass over all sampled frames, per video of that pass"""
    validation_accuracy: float
    """accuracy on validation of all stages as the job combines them"""


def progress(
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    directory: str | None,
    info: EnsembleInfo | None,
    first_directory: str | None = None,
) -> PassCosts | None:
    """Costs of a progressive classification, from the `summary` and `settings` of its output and from its ensemble.

    `directory` and `info` are those of the ensemble, and `first_directory` is that of another one that took the first
    look. Returns None for a classification that is not progressive, if an ensemble is missing or another one now, or if
    an earlier version calibrated it.
    """
    passes = summary.get("passes")
    if not passes or "risk" not in summary or directory is None or info is None:
        return None
    try:
        trust = calibration_file.read_trust(directory, info)
        if (first_id := settings.get("first_ensemble_id")) is not None:
            pair = _pair(first_directory, first_id, Calibrated.read(directory, info, trust, "--ensemble"))
            if pair is None:
                return None
            info, trust = pair.info, pair.trust
    except OutdatedEnsembleError:
        return None
    risk = summary["risk"]
    # An earlier version wrote no `num_paths`.
    risk_threshold = RiskThreshold(
        **{field.name: risk[field.name] for field in fields(RiskThreshold) if field.name in risk}
    )
    decided: dict[str, int] = {}
    for one_pass in passes.values():
        decided.update(one_pass["num_decided"])
    full = trust.full[mode(settings["tta"])]
    accuracy = {name: float(stage.correct_B.mean()) for name, stage in trust.stages.items()}
    accuracy[Look.FULL] = float(full.correct_B.mean())
    frames = {name: stage.num_frames for name, stage in info.stages.items()}
    frames[Look.FULL] = info.backbones[0].feature_spec.plan.num_frames
    seconds = {name: sum(one_pass["worker_s_per_video"].values()) for name, one_pass in passes.items()}
    num_videos = max(one_pass["num_videos"] for one_pass in passes.values())
    return PassCosts(
        stages=[
            LookCost(
                name=name,
                num_frames=frames[name],
                num_decided=decided.get(name, 0),
                share=decided.get(name, 0) / max(sum(decided.values()), 1),
                validation_accuracy=accuracy[name],
                pass_s_per_video=seconds.get(PASS_OF[name], 0.0),
            )
            for name in (*risk_threshold.early, Look.FULL)
        ],
        s_per_video=sum(seconds[name] * one_pass["num_videos"] for name, one_pass in passes.items()) / num_videos,
        full_s_per_video=seconds.get(Look.FULL, 0.0),
        validation_accuracy=early_exit.outcome(trust.stages, full, risk_threshold).accuracy,
    )


def _pair(first_directory: str | None, first_id: str, second: Calibrated) -> EnsemblePair | None:
    """The ensemble of the first look, whose id is `first_id`, and the second one as a cascade; None if the first one is
    not there, or is another one now."""
    if first_directory is None:
        return None
    first = read_info(first_directory)
    if first.ensemble_id != first_id:
        return None
    trust = calibration_file.read_trust(first_directory, first)
    return EnsemblePair.of(Calibrated.read(first_directory, first, trust, "--first-ensemble"), second)
