"""Directories and sampling plans of a progressive classification, which has two rounds (passes).

The first pass reads a few keyframes of each video, the second all sampled frames of the undecided videos. The module is
free of Ray and torch, because reports read it.
"""

from __future__ import annotations

from vidclf import storage
from vidclf.features.spec import specs_of
from vidclf.runs.layout import Run
from vidclf.schema import Look
from vidclf.video.sampling import SamplingPlan

PASSES_DIR = "_passes"
"""Directory inside the output of a progressive classification, with one subdirectory per round (pass)."""

PASS_OF: dict[str, str] = {Look.KEYFRAMES: Look.KEYFRAMES, Look.SUBSET: Look.FULL, Look.FULL: Look.FULL}
"""The round (pass) that computes each stage; the second round computes both `subset` (24 frames) and `full` (all
frames)."""


def plans_of(predictions: str, plan: SamplingPlan) -> dict[str, SamplingPlan]:
    """Sampling plan by stage (set of frames that decided a video) of the classification in the directory `predictions`.

    `plan` is the plan for all sampled frames; `full` and `subset` both have it. `keyframes` is missing unless the
    classification was progressive and made a round over keyframes.
    """
    plans: dict[str, SamplingPlan] = {Look.FULL: plan, Look.SUBSET: plan}
    run = storage.join(predictions, PASSES_DIR, Look.KEYFRAMES)
    if Run(run).exists():
        plans[Look.KEYFRAMES] = specs_of(run, Run(run).identity())[0].plan
    return plans
