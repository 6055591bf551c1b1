"""Where the passes of a progressive classification keep their runs and sampling plans."""

from __future__ import annotations

from vidclf import storage
from vidclf.features.spec import specs_of
from vidclf.runs import layout
from vidclf.runs.layout import IDENTITY_FILE
from vidclf.schema import Look
from vidclf.video.sampling import SamplingPlan

PASSES_DIR = "_passes"
"""In the output of a progressive classification: a run for each pass."""

PASS_OF: dict[str, str] = {Look.KEYFRAMES: Look.KEYFRAMES, Look.SUBSET: Look.FULL, Look.FULL: Look.FULL}
"""The pass that a stage belongs to."""


def plans_of(predictions: str, plan: SamplingPlan) -> dict[str, SamplingPlan]:
    """How the frames of each stage were sampled; `plan` is that of the full look."""
    plans: dict[str, SamplingPlan] = {Look.FULL: plan, Look.SUBSET: plan}
    run = storage.join(predictions, PASSES_DIR, Look.KEYFRAMES)
    if layout.is_run(run):
        plans[Look.KEYFRAMES] = specs_of(run, storage.read_json(storage.join(run, IDENTITY_FILE)))[0].plan
    return plans
