"""Progressive classification: a quick round over a few keyframes, then a full round over the videos left undecided.

    manifest ─▶ keyframes ─▶ decided ────────────────────────▶ part-*
                  │  └─────▶ undecided ─▶ subset ▶ full ─────▶ part-*
                  └────────▶ rejected ─────────┴─────────────▶ quarantine/part-*

Each round (pass) is a classification of its own, with a directory in `_passes/` of the output. A job that was killed
therefore continues in the pass where it stopped. The output takes the row of each video from the pass that decided it.
"""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.archive.manifest import read_manifest
from vidclf.classification.compatibility import first_embeddings
from vidclf.classification.first_ensemble import FirstEnsemble, TargetOf
from vidclf.classification.head import HeadSettings
from vidclf.classification.passes import PASSES_DIR
from vidclf.config import PipelineConfig
from vidclf.ensemble.info import EnsembleInfo
from vidclf.errors import ConfigError
from vidclf.number_words import counted
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.job import PipelineJob, RunSpec
from vidclf.runs import lease, reconcile, state
from vidclf.runs.layout import Run, shard_name
from vidclf.runs.state import RunState
from vidclf.runs.summary import Performance
from vidclf.schema import Look, Verdict
from vidclf.uncertainty.early_exit import SUBSET_FRAMES
from vidclf.uncertainty.risk_threshold import RiskThreshold


@dataclass(frozen=True, kw_only=True)
class ProgressivePlan:
    """The two rounds (passes) of a progressive job, and the trust thresholds from which they decide a video."""

    first: RunSpec | None
    """round over the keyframes; None if validation does not support deciding by keyframes"""
    full: RunSpec
    """round over all sampled frames; tries 24 of them first (`subset`) if validation supports that"""
    risk_threshold: RiskThreshold
    """trust threshold for predictions from all frames and, in `early`, for the earlier stages that may decide"""
    fitted: frozenset[str]
    """earlier stages that the ensemble was calibrated for"""
    apart: FirstEnsemble | None = None
    """the ensemble of the first round; None if both rounds have the same one"""

    @classmethod
    def plan(
        cls,
        info: EnsembleInfo,
        settings: HeadSettings,
        risk_threshold: RiskThreshold,
        full: RunSpec,
        target_of: TargetOf,
        apart: FirstEnsemble | None = None,
    ) -> ProgressivePlan:
        """Plan the rounds of a progressive job and return the plan.

        `full` describes the output that a job of a single round, with an ensemble of `settings`, would fill. `apart` is
        the ensemble of the first round, if that is another one.
        """
        first = None
        if Look.KEYFRAMES in risk_threshold.early:
            threshold = risk_threshold.early[Look.KEYFRAMES]
            if apart is None:
                first_settings = replace(settings, stage=Look.KEYFRAMES, trust_threshold=threshold)
                first = target_of(first_settings, first_embeddings(info, full.embeddings))
            else:
                first = apart.target(settings, threshold)
        if Look.SUBSET in risk_threshold.early:
            settings = replace(settings, subset_threshold=risk_threshold.early[Look.SUBSET])
            full = replace(target_of(settings, full.embeddings), early_frames=SUBSET_FRAMES)
        return cls(
            first=first,
            full=full,
            risk_threshold=risk_threshold,
            fitted=frozenset(info.stages),
            apart=apart,
        )

    @property
    def target(self) -> RunSpec:
        """Description of the job's output directory: that of the full round plus the thresholds of the early stages."""
        of_first = self.apart.stated_settings if self.apart is not None else {}
        stated = {**self.full.settings, "stage_thresholds": self.risk_threshold.early, **of_first}
        return replace(self.full, settings=stated)

    def describe(self) -> str:
        """Text for a log with one line per early stage (`keyframes`, `subset`): its trust threshold, or why it is
        unused.
        """
        early = self.risk_threshold.early
        why_unused = {
            True: "left out, because validation does not support it, or supports more without it",
            False: "left out, because the ensemble was not calibrated for it",
        }
        return "\n".join(
            f"stage {name}: decides videos with a trust score of at least {early[name]:.2f}"
            if name in early
            else f"stage {name}: {why_unused[name in self.fitted]}"
            for name in (Look.KEYFRAMES, Look.SUBSET)
        )


def require_first_look(info: EnsembleInfo) -> None:
    """Raise ConfigError if the ensemble was not trained to classify from keyframes, as `--progressive` needs."""
    if Look.KEYFRAMES not in info.stages:
        raise ConfigError(
            "--progressive needs an ensemble with a first look: extract keyframes with jobs/extract.py --sampling "
            "keyframes --num-frames 8, and run jobs/train.py again with --first-look; it keeps the members. Or give "
            "--first-ensemble"
        )


def run_passes(passes: ProgressivePlan, config: PipelineConfig, job: PipelineJob, before: RunState) -> Performance:
    """Run or continue both rounds of a progressive job and merge their rows into the output.

    Returns the performance figures of both rounds together.
    """
    output = config.output
    pass_config = replace(config, overwrite=False, limit=None, dry_run=False)
    summaries: dict[str, dict[str, Any]] = {}
    decided = pa.array([], pa.string())
    first_run, full_run = (storage.join(output, PASSES_DIR, name) for name in (Look.KEYFRAMES, Look.FULL))
    if passes.first is not None:
        print(f"first look: keyframes of {counted(before.num_pending, 'video')}", file=sys.stderr)
        precision = passes.apart.config.precision if passes.apart is not None else config.precision
        first_config = replace(pass_config, precision=precision)
        summaries[Look.KEYFRAMES] = _pass(first_config, first_run, _manifest_without(output, None), passes.first)
        rejected = storage.iter_tables(Run(first_run).quarantine_shards(), [schema.VIDEO_ID])
        accepted = (_only_accepted(rows) for rows in _decisions(first_run))
        decided = state.one_array([*accepted, *rejected])
    # A video that an earlier job put into the full pass stays there, even if the first pass would now decide it.
    in_full_pass = state.manifest_ids(full_run) if Run(full_run).exists() else pa.array([], pa.string())
    undecided = _manifest_without(output, state.without(decided, in_full_pass))
    if undecided.num_rows:
        print(f"full look: {counted(undecided.num_rows, 'undecided video')}", file=sys.stderr)
        summaries[Look.FULL] = _pass(pass_config, full_run, undecided, passes.full)
    _collect_decided(output, [run for run in (full_run, first_run) if Run(run).exists()], config.rows_per_shard)
    last = summaries.get(Look.FULL) or summaries[Look.KEYFRAMES]
    return Performance(
        busy=last["busy_share"],
        worker_s={name: sum(s["worker_s"].get(name, 0.0) for s in summaries.values()) for name in last["worker_s"]},
        cnn_engines=last["cnn_engines"],
        head_engines=last["head_engines"],
        passes={
            name: _describe_stages(summary, storage.join(output, PASSES_DIR, name))
            for name, summary in summaries.items()
        },
    )


def _pass(config: PipelineConfig, run: str, manifest: pa.Table, target: RunSpec) -> dict[str, Any]:
    """Run or continue one round of a progressive job, over the videos of `manifest`, in the directory `run`.

    Returns the summary (a dict) of the last time that this round had work to do.
    """
    # A round decides only some of the videos, so that it is not compared with calibration.
    job = PipelineJob(targets=(replace(target, conclude=None),))
    embed_videos(replace(config, output=run), manifest, job)
    return Run(run).summary()


def _describe_stages(summary: dict[str, Any], run: str) -> dict[str, Any]:
    """Entry of one round in `summary.json`: number of videos, decisions per stage, and worker seconds per video."""
    decided = Counter[str]()
    for rows in _decisions(run):
        is_final = pc.or_(pc.equal(rows["verdict"], Verdict.ACCEPTED), pc.equal(rows["stage"], Look.FULL))
        decided.update(rows.filter(is_final)["stage"].to_pylist())
    processed = max(summary["num_processed"], 1)
    return {
        "num_videos": summary["num_input_videos"],
        "num_decided": dict(sorted(decided.items())),
        "worker_s_per_video": {name: round(seconds / processed, 4) for name, seconds in summary["worker_s"].items()},
    }


def _manifest_without(output: str, video_ids: pa.Array | None) -> pa.Table:
    """The job's table of videos, read from the directory `output`, without the videos of `video_ids`."""
    manifest = read_manifest(Run(output).manifest_file)
    if video_ids is None or not len(video_ids):
        return manifest
    return manifest.filter(pc.invert(pc.is_in(manifest[schema.VIDEO_ID], video_ids)))


def _decisions(run: str) -> Iterator[pa.Table]:
    """Iterator of tables, one per shard, with the video ids, verdicts and stages of the predictions in `run`."""
    return storage.iter_tables(Run(run).shards(), [schema.VIDEO_ID, "verdict", "stage"])


def _only_accepted(rows: pa.Table) -> pa.Table:
    """The rows of predictions whose verdict is `accepted`."""
    return rows.filter(pc.equal(rows["verdict"], Verdict.ACCEPTED))


def _collect_decided(output: str, runs: Sequence[str], rows_per_shard: int) -> None:
    """Copy decided videos from the directories of the rounds, `runs`, into the output unless it already has them.

    The last round comes first in `runs` and takes precedence. Predictions are copied before rejected videos. From the
    early round only accepted videos count as decided.
    """
    missing = state.one_array([storage.read_table(reconcile.to_read(output, [output]), [schema.VIDEO_ID])])
    sources = [(output, Run(run).shards(), run != runs[0]) for run in runs]
    sources += [(Run(output).quarantine_dir, Run(run).quarantine_shards(), False) for run in runs]
    for directory, files, is_early in sources:
        written = []
        writer = _ShardWriter(directory, rows_per_shard)
        for path in files:
            rows = storage.read_table(path)
            rows = rows.filter(pc.is_in(rows[schema.VIDEO_ID], missing))
            if is_early:
                rows = _only_accepted(rows)
            written.append(rows.select([schema.VIDEO_ID]))
            writer.add(rows)
        writer.close()
        missing = state.without(missing, state.one_array(written))


class _ShardWriter:
    """Writer of rows into new Parquet files (shards) of a directory, with file names that no other writer uses."""

    def __init__(self, directory: str, rows_per_shard: int) -> None:
        self._directory, self._rows_per_shard = directory, rows_per_shard
        self._name, self._num_shards = uuid.uuid4().hex, 0
        self._buffered: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Buffer the rows, and write a shard when at least `rows_per_shard` rows are buffered."""
        if rows.num_rows:
            self._buffered.append(rows)
        if sum(table.num_rows for table in self._buffered) >= self._rows_per_shard:
            self.close()

    def close(self) -> None:
        """Write the buffered rows, if any, as one shard."""
        if not self._buffered:
            return
        lease.guard(self._directory).check()
        path = storage.join(self._directory, shard_name(self._name, self._num_shards))
        storage.publish_table(path, pa.concat_tables(self._buffered).combine_chunks())
        self._num_shards += 1
        self._buffered = []
