"""Layout of a progressive classification's output: the directory and sampling plan of each pass.

Free of Ray and torch, because reports read it.
"""

from __future__ import annotations

from vidclf import storage
from vidclf.features.spec import specs_of
from vidclf.runs import layout
from vidclf.runs.layout import IDENTITY_FILE
from vidclf.uncertainty.early_exit import FULL, KEYFRAMES, SUBSET
from vidclf.video.sampling import SamplingPlan

PASSES_DIR = "_passes"
"""Directory in the output of a progressive classification that holds one run per pass."""

PASS_OF = {KEYFRAMES: KEYFRAMES, SUBSET: FULL, FULL: FULL}
"""The pass that computes each stage: the subset and the full look share one."""


def plans_of(predictions: str, plan: SamplingPlan) -> dict[str, SamplingPlan]:
    """The sampling plan of each stage of a run in `predictions`; `plan` is the one of the full look.

    `keyframes` is missing unless the run was progressive and made that pass.
    """
    plans = {FULL: plan, SUBSET: plan}
    run = storage.join(predictions, PASSES_DIR, KEYFRAMES)
    if layout.is_run(run):
        plans[KEYFRAMES] = specs_of(run, storage.read_json(storage.join(run, IDENTITY_FILE)))[0].plan
    return plans
