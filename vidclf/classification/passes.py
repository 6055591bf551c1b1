"""Layout of a progressive classification's output: the directory and sampling plan of each pass.

Free of Ray and torch, because reports read it.
"""

from __future__ import annotations

from vidclf import storage
from vidclf.features.spec import specs_of
from vidclf.runs.layout import Run
from vidclf.schema import Look
from vidclf.video.sampling import SamplingPlan

PASSES_DIR = "_passes"
"""Directory in the output of a progressive classification that holds one run per pass."""

PASS_OF: dict[str, str] = {Look.KEYFRAMES: Look.KEYFRAMES, Look.SUBSET: Look.FULL, Look.FULL: Look.FULL}
"""The pass that computes each stage: the subset and the full look share one."""


def plans_of(predictions: str, plan: SamplingPlan) -> dict[str, SamplingPlan]:
    """The sampling plan of each stage of a run in `predictions`; `plan` is the one of the full look.

    `keyframes` is missing unless the run was progressive and made that pass.
    """
    plans: dict[str, SamplingPlan] = {Look.FULL: plan, Look.SUBSET: plan}
    run = storage.join(predictions, PASSES_DIR, Look.KEYFRAMES)
    if Run(run).exists():
        plans[Look.KEYFRAMES] = specs_of(run, Run(run).identity())[0].plan
    return plans
