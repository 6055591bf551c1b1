"""What a progressive classification saved, and what that cost in accuracy: the report's view of its passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidclf import ledger, storage
from vidclf.archive.sampling import SamplingPlan
from vidclf.features.store import specs_of
from vidclf.learning import cascade, ensemble
from vidclf.learning.cascade import FULL, KEYFRAMES, SUBSET
from vidclf.learning.ensemble import EnsembleInfo
from vidclf.ledger import IDENTITY_FILE

PASSES_DIR = "_passes"
"""In the output of a progressive classification: a run for each pass."""

PASS_OF = {KEYFRAMES: KEYFRAMES, SUBSET: FULL, FULL: FULL}
"""The pass that a stage belongs to."""


@dataclass(frozen=True, kw_only=True)
class Stage:
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
class Progress:
    """The stages of a run, and the run as a whole."""

    stages: list[Stage]
    s_per_video: float
    """all passes together, for a video of the run"""
    full_s_per_video: float
    """of the pass that looks at all sampled frames, for a video that gets there"""
    validation_accuracy: float
    """of the cascade"""


def plans_of(predictions: str, plan: SamplingPlan) -> dict[str, SamplingPlan]:
    """How the frames of each stage were sampled; `plan` is that of the full look."""
    plans = {FULL: plan, SUBSET: plan}
    run = storage.join(predictions, PASSES_DIR, KEYFRAMES)
    if ledger.is_run(run):
        plans[KEYFRAMES] = specs_of(run, storage.read_json(storage.join(run, IDENTITY_FILE)))[0].plan
    return plans


def progress(
    summary: Mapping[str, Any], settings: Mapping[str, Any], directory: str | None, info: EnsembleInfo | None
) -> Progress | None:
    """The stages by a run's `summary.json` and settings, and its ensemble; None for a run of one pass, or where
    the ensemble is gone, or was calibrated by an earlier version."""
    passes = summary.get("passes")
    if not passes or directory is None or info is None:
        return None
    try:
        trust = ensemble.read_trust(directory, info)
    except ensemble.OutdatedEnsembleError:
        return None
    thresholds = settings["stage_thresholds"]
    decided: dict[str, int] = {}
    for told in passes.values():
        decided.update(told["num_decided"])
    full_correct_B = trust.full[ensemble.mode(settings["tta"])].correct_B
    accuracy = {name: float(stage.correct_B.mean()) for name, stage in trust.stages.items()}
    accuracy[FULL] = float(full_correct_B.mean())
    frames = {name: stage["num_frames"] for name, stage in info.stages.items()}
    frames[FULL] = info.backbones[0].feature_spec.plan.num_frames
    seconds = {name: sum(told["worker_s_per_video"].values()) for name, told in passes.items()}
    num_videos = max(told["num_videos"] for told in passes.values())
    return Progress(
        stages=[
            Stage(
                name=name,
                num_frames=frames[name],
                num_decided=decided.get(name, 0),
                share=decided.get(name, 0) / max(sum(decided.values()), 1),
                validation_accuracy=accuracy[name],
                pass_s_per_video=seconds.get(PASS_OF[name], 0.0),
            )
            for name in (*thresholds, FULL)
        ],
        s_per_video=sum(seconds[name] * told["num_videos"] for name, told in passes.items()) / num_videos,
        full_s_per_video=seconds.get(FULL, 0.0),
        validation_accuracy=cascade.outcome(trust.stages, full_correct_B, thresholds).accuracy,
    )
