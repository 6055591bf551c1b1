"""What a progressive classification saved, and what that cost in accuracy: the report's view of its passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vidclf.classification.passes import PASS_OF
from vidclf.ensemble import calibration_file
from vidclf.ensemble.calibration_file import OutdatedEnsembleError
from vidclf.ensemble.info import EnsembleInfo, mode
from vidclf.schema import Look
from vidclf.uncertainty import early_exit
from vidclf.uncertainty.risk_threshold import RiskThreshold


@dataclass(frozen=True, kw_only=True)
class LookCost:
    """One look at the videos of a run."""

    name: str
    num_frames: int
    """sampled of a video, at most"""
    num_decided: int
    share: float
    """of the videos that were classified"""
    validation_accuracy: float
    """if this look decided on every video"""
    pass_s_per_video: float
    """seconds that decode and CNN workers took for a video in the pass that the stage belongs to"""


@dataclass(frozen=True, kw_only=True)
class PassCosts:
    """The stages of a run, and the run as a whole."""

    stages: list[LookCost]
    s_per_video: float
    """all passes together, for a video of the run"""
    full_s_per_video: float
    """of the pass that looks at all sampled frames, for a video that gets there"""
    validation_accuracy: float
    """of the cascade"""


def progress(
    summary: Mapping[str, Any], settings: Mapping[str, Any], directory: str | None, info: EnsembleInfo | None
) -> PassCosts | None:
    """The stages by a run's `summary.json` and settings, and its ensemble; None for a run of one pass, or where
    the ensemble is gone, or was calibrated by an earlier version."""
    passes = summary.get("passes")
    if not passes or "risk" not in summary or directory is None or info is None:
        return None
    try:
        trust = calibration_file.read_trust(directory, info)
    except OutdatedEnsembleError:
        return None
    stated = summary["risk"]
    found = RiskThreshold(**{field.name: stated[field.name] for field in fields(RiskThreshold)})
    decided: dict[str, int] = {}
    for told in passes.values():
        decided.update(told["num_decided"])
    full = trust.full[mode(settings["tta"])]
    accuracy = {name: float(stage.correct_B.mean()) for name, stage in trust.stages.items()}
    accuracy[Look.FULL] = float(full.correct_B.mean())
    frames = {name: look.num_frames for name, look in info.stages.items()}
    frames[Look.FULL] = info.backbones[0].feature_spec.plan.num_frames
    seconds = {name: sum(told["worker_s_per_video"].values()) for name, told in passes.items()}
    num_videos = max(told["num_videos"] for told in passes.values())
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
            for name in (*found.early, Look.FULL)
        ],
        s_per_video=sum(seconds[name] * told["num_videos"] for name, told in passes.items()) / num_videos,
        full_s_per_video=seconds.get(Look.FULL, 0.0),
        validation_accuracy=early_exit.outcome(trust.stages, full, found).accuracy,
    )
