"""Content of `summary.json` in a run directory, and the lines that a job prints at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from vidclf import number_words, schema, storage
from vidclf.errors import SUBMIT_AGAIN, ErrorBudgetExceeded
from vidclf.runs import content_checks
from vidclf.runs.layout import DUPLICATES_FILE, Run
from vidclf.runs.state import RunState, Shards, read_state, rows_of


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Measurements of the work of one pipeline (decoding, CNN, classification).

    A stage here is a step of the pipeline, such as decoding.
    """

    busy: dict[str, float]
    """share of the workers' time spent at work, 0 to 1, by pipeline stage"""
    worker_s: dict[str, float] = field(default_factory=dict)
    """seconds of work, summed over all workers, by pipeline stage"""
    cnn_engines: dict[str, int] = field(default_factory=dict)
    """number of workers by the engine that computes the CNN, such as `openvino bf16`"""
    head_engines: dict[str, int] = field(default_factory=dict)
    """number of workers by the engine that computes the ensemble (the last step of the pipeline), such as `torch cpu
    bf16`"""
    passes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """progressive classification only: for each pass (first the keyframes of all videos, then all frames of the
    undecided ones) `num_videos`, `num_decided` by partial or full look at the frames, and `worker_s_per_video`"""


def counted(counts: Mapping[str, float], kind: str) -> dict[str, int]:
    """The entries of `counts` whose name begins with `kind:`, as whole numbers under the name without that prefix."""
    names = {name: name.removeprefix(f"{kind}:") for name in sorted(counts)}
    return {short: int(counts[name]) for name, short in names.items() if short != name}


def summarize(
    run: str, before: RunState, after: RunState, elapsed_s: float, performance: Performance
) -> dict[str, Any]:
    """Build the content of `summary.json` as a dictionary; also writes `duplicates.parquet`.

    Counts are of the whole run directory and come from its files. Rates and busy shares are of this job submission
    only, which took `elapsed_s` seconds and brought the run from state `before` to `after`.
    """
    rows = rows_of(run, [schema.VIDEO_ID, "video_uri", "content_digest", "duration_s"])
    duplicates = content_checks.publish_duplicates(run, rows)
    is_across_splits = pc.not_equal(duplicates["split"], duplicates["duplicate_of_split"])
    total_duration_s = pc.sum(rows["duration_s"]).as_py() or 0.0
    num_processed = before.num_pending - after.num_pending
    ok_share = after.num_ok / max(after.num_ok + after.num_quarantined, 1)
    mean_duration_s = total_duration_s / max(after.num_ok, 1)
    videos_per_s = num_processed / elapsed_s
    return {
        **vars(after),
        "num_processed": num_processed,
        "num_duplicates": duplicates.num_rows,
        "num_duplicates_across_splits": pc.sum(is_across_splits).as_py() or 0,
        "num_with_time_jumps": num_with_time_jumps(run),
        "total_video_duration_s": round(total_duration_s, 3),
        "pipeline_run_time_s": round(elapsed_s, 3),
        "videos_per_s": round(videos_per_s, 4),
        "video_hours_per_day": round(videos_per_s * ok_share * mean_duration_s * 24, 3),
        "worker_s": {name: round(seconds, 3) for name, seconds in performance.worker_s.items()},
        "cnn_engines": performance.cnn_engines,
        "head_engines": performance.head_engines,
        **({"passes": performance.passes} if performance.passes else {}),
        "busy_share": {name: round(share, 3) for name, share in performance.busy.items()},
        "binding_resource": max(performance.busy, key=lambda name: performance.busy[name], default=None),
    }


def num_with_time_jumps(run: str) -> int:
    """Count the ok videos of a run directory whose clock jumps, so that the jumps were closed.

    The result files of earlier versions have no column `time_jumps`; their videos do not count.
    """
    count = 0
    for _, shard in storage.read_all(Run(run).shards(), ["time_jumps"]):
        if isinstance(shard, KeyError):
            continue
        if isinstance(shard, Exception):
            raise shard
        count += pc.sum(pc.greater(shard.table["time_jumps"], 0)).as_py() or 0
    return count


def summary_text(run: str, summary: dict[str, Any]) -> str:
    """One line for the terminal about a finished job: the counts and the speed from its summary."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
    counts = (
        f"{run}: {number_words.counted(summary['num_input_videos'], 'video')}, {summary['num_ok']} ok, "
        f"{summary['num_quarantined']} quarantined{f' ({reasons})' if reasons else ''}"
    )
    if summary.get("num_duplicates"):
        num_across_splits = summary["num_duplicates_across_splits"]
        counts += f", {number_words.counted(summary['num_duplicates'], 'duplicate')} of another video"
        counts += f" ({num_across_splits} of them in another split, see {DUPLICATES_FILE})" if num_across_splits else ""
    if summary.get("num_with_time_jumps"):
        counts += f", {summary['num_with_time_jumps']} with jumps of their clock closed (column time_jumps)"
    if summary["num_processed"] == 0:
        return f"{counts}; everything was done already"
    return f"{counts}; {summary['videos_per_s']:.2f} videos/s, bound by {summary['binding_resource']}"


def check_any_ok(run: str, summary: dict[str, Any], max_error_rate: float) -> None:
    """Raise ErrorBudgetExceeded if every video of a finished run was rejected, which `max_error_rate` below 1 forbids.

    Below 20 videos a job does not stop early, so that a few damaged files do not end it. If none can be read, the
    paths, the storage or a setting is wrong.
    """
    num_rejected = summary["num_quarantined"]
    if summary["num_ok"] or not num_rejected or max_error_rate >= 1:
        return
    first = Shards.read(Run(run).quarantine_shards(), ["video_uri", "reason"]).tables[0].slice(0, 1).to_pylist()[0]
    reasons = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
    rejected = "the only video was" if num_rejected == 1 else f"{num_rejected} of {num_rejected} videos were"
    raise ErrorBudgetExceeded(
        f"{run}: {rejected} rejected ({reasons}; for one {first['video_uri']}), a "
        f"share above --max-error-rate {max_error_rate:g}; correct the locations or the storage, then submit again "
        "with --retry-quarantined all"
    )


def stopped_text(output: str, runs: Sequence[str], why: str) -> str:
    """One line for the terminal about a stopped job: why it stopped and how many videos are left, counted from its
    files.

    The counts are those of the one of its `runs` (run directories) with the most pending videos. The line ends with
    what continues the job, unless `why` ends with it.
    """
    again = "" if why.endswith(SUBMIT_AGAIN) else f"; {SUBMIT_AGAIN} to continue"
    states = [read_state(run) for run in runs]
    state = max(states, key=lambda state: state.num_pending)
    return (
        f"{why}; {output}: {state.num_ok} ok, {state.num_quarantined} quarantined, {state.num_pending} left of "
        f"{number_words.counted(state.num_input_videos, 'video')}{again}"
    )
