"""Progressive classification: a pass over a few keyframes of every video, and a second one, over all sampled
frames, of those that the first left undecided.

    manifest ─▶ keyframes ─▶ decided ────────────────────────▶ part-*
                  │  └─────▶ undecided ─▶ subset ▶ full ─────▶ part-*
                  └────────▶ rejected ─────────┴─────────────▶ quarantine/part-*

Each pass is a classification run of its own in `_passes/` of the output, so a job that is killed continues
where it was, in whatever pass. The output takes each video's row from the pass that decided.
"""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.archive.manifest import read_manifest
from vidclf.classification.compatibility import first_embeddings
from vidclf.classification.head import HeadSettings
from vidclf.classification.passes import PASSES_DIR
from vidclf.config import ClassifyConfig, PipelineConfig
from vidclf.ensemble.info import EnsembleInfo
from vidclf.errors import ConfigError
from vidclf.pipeline.driver import embed_videos
from vidclf.pipeline.job import BackboneSetup, PipelineJob, RunSpec
from vidclf.runs import layout, reconcile, state
from vidclf.runs.state import RunState
from vidclf.runs.summary import Performance
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import SUBSET_FRAMES
from vidclf.uncertainty.risk_threshold import RiskThreshold

TargetOf = Callable[[HeadSettings, Sequence[BackboneSetup]], RunSpec]
"""A run of predictions by the job's ensemble."""


@dataclass(frozen=True, kw_only=True)
class ProgressivePlan:
    """What a progressive job does with each video; the first pass is None where validation allows none."""

    first: RunSpec | None
    full: RunSpec
    found: RiskThreshold
    """the thresholds, those of the early stages that decide among them"""

    @classmethod
    def plan(
        cls, info: EnsembleInfo, settings: HeadSettings, found: RiskThreshold, full: RunSpec, target_of: TargetOf
    ) -> ProgressivePlan:
        """The passes of a job that would otherwise fill `full`, by a head with `settings`."""
        first = None
        if Look.KEYFRAMES in found.early:
            own = replace(settings, stage=Look.KEYFRAMES, trust_threshold=found.early[Look.KEYFRAMES])
            first = target_of(own, first_embeddings(info, full.embeddings))
        if Look.SUBSET in found.early:
            settings = replace(settings, subset_threshold=found.early[Look.SUBSET])
            full = replace(target_of(settings, full.embeddings), early_frames=SUBSET_FRAMES)
        return cls(first=first, full=full, found=found)

    @property
    def target(self) -> RunSpec:
        """The job's output."""
        return replace(self.full, settings={**self.full.settings, "stage_thresholds": self.found.early})

    def told(self) -> str:
        """What comes of the stages, for a log."""
        return "\n".join(
            f"stage {name}: decides from trust scores of {self.found.early[name]:.2f} on"
            if name in self.found.early
            else f"stage {name}: left out, validation does not support deciding by it"
            for name in (Look.KEYFRAMES, Look.SUBSET)
        )


def require_first_look(info: EnsembleInfo) -> None:
    """Raises ConfigError for an ensemble that was not trained for `--progressive`."""
    if Look.KEYFRAMES not in info.stages:
        raise ConfigError(
            "--progressive needs an ensemble with a first look: extract keyframes with jobs/extract.py --sampling "
            "keyframes --num-frames 8, and run jobs/train.py again with --first-look; the members stay"
        )


def classify_in_passes(
    config: ClassifyConfig, manifest: pa.Table, passes: ProgressivePlan
) -> dict[str, dict[str, Any]] | None:
    """Classify every video of `manifest` into `config.output`; as `embed_videos`."""
    print(passes.told(), file=sys.stderr)
    return embed_videos(config, manifest, PipelineJob(targets=(passes.target,)), partial(_run_passes, passes))


def _run_passes(passes: ProgressivePlan, config: PipelineConfig, job: PipelineJob, before: RunState) -> Performance:
    output = config.output
    whole = replace(config, overwrite=False, limit=None, dry_run=False)
    summaries: dict[str, dict[str, Any]] = {}
    decided = pa.array([], pa.string())
    first_run, full_run = (storage.join(output, PASSES_DIR, name) for name in (Look.KEYFRAMES, Look.FULL))
    if passes.first is not None:
        print(f"first look: keyframes of {before.num_pending} videos", file=sys.stderr)
        summaries[Look.KEYFRAMES] = _pass(whole, first_run, _asked(output, None), passes.first)
        rejected = storage.iter_tables(layout.quarantine_files(first_run), [schema.VIDEO_ID])
        decided = state.one_array([*_rows(layout.part_files(first_run), is_accepted=True), *rejected])
    # A video that was looked at in full before stays in that pass, whatever the first one says now.
    seen = state.asked_ids(full_run) if layout.is_run(full_run) else pa.array([], pa.string())
    left = state.without(decided, seen)
    undecided = _asked(output, left)
    if undecided.num_rows:
        print(f"full look: {undecided.num_rows} videos that are left", file=sys.stderr)
        summaries[Look.FULL] = _pass(whole, full_run, undecided, passes.full)
    _collect_decided(output, [run for run in (full_run, first_run) if layout.is_run(run)], config.rows_per_shard)
    ran = summaries.get(Look.FULL) or summaries[Look.KEYFRAMES]
    return Performance(
        busy=ran["busy_share"],
        worker_s={name: sum(s["worker_s"].get(name, 0.0) for s in summaries.values()) for name in ran["worker_s"]},
        cnn_engines=ran["cnn_engines"],
        head_engines=ran["head_engines"],
        passes={
            name: _describe_stages(summary, storage.join(output, PASSES_DIR, name))
            for name, summary in summaries.items()
        },
    )


def _pass(config: PipelineConfig, run: str, manifest: pa.Table, target: RunSpec) -> dict[str, Any]:
    """One pass over some videos, done or continued; its summary as it was when it last had something to do."""
    job = PipelineJob(targets=(target,))
    embed_videos(replace(config, output=run), manifest, job)
    return dict(storage.read_json(storage.join(run, layout.SUMMARY_FILE)))


def _describe_stages(summary: dict[str, Any], run: str) -> dict[str, Any]:
    decided = Counter[str]()
    for rows in _rows(layout.part_files(run), is_accepted=None):
        is_final = pc.or_(pc.equal(rows["verdict"], schema.Verdict.ACCEPTED), pc.equal(rows["stage"], Look.FULL))
        decided.update(rows.filter(is_final)["stage"].to_pylist())
    processed = max(summary["num_processed"], 1)
    return {
        "num_videos": summary["num_input_videos"],
        "num_decided": dict(sorted(decided.items())),
        "worker_s_per_video": {name: round(seconds / processed, 4) for name, seconds in summary["worker_s"].items()},
    }


def _asked(output: str, without: pa.Array | None) -> pa.Table:
    """The job's manifest, less some videos."""
    manifest = read_manifest(storage.join(output, layout.MANIFEST_FILE))
    if without is None or not len(without):
        return manifest
    return manifest.filter(pc.invert(pc.is_in(manifest[schema.VIDEO_ID], without)))


def _rows(files: list[str], is_accepted: bool | None) -> Iterator[pa.Table]:
    """Ids, verdicts and stages of a pass; of the accepted videos alone, where `is_accepted`."""
    for table in storage.iter_tables(files, [schema.VIDEO_ID, "verdict", "stage"]):
        yield table.filter(pc.equal(table["verdict"], schema.Verdict.ACCEPTED)) if is_accepted else table


def _collect_decided(output: str, runs: Sequence[str], rows_per_shard: int) -> None:
    """Write the rows of the videos that the output lacks, from the passes' `runs`, the last pass first: decisions,
    then quarantine rows."""
    left = state.one_array([storage.read_table(reconcile.to_read(output, [output]), [schema.VIDEO_ID])])
    sources = [(output, layout.part_files(run), run != runs[0]) for run in runs]
    sources += [(storage.join(output, layout.QUARANTINE_DIR), layout.quarantine_files(run), False) for run in runs]
    for directory, files, is_early in sources:
        taken = []
        writer = _Shards(directory, rows_per_shard)
        for path in files:
            rows = storage.read_table(path)
            rows = rows.filter(pc.is_in(rows[schema.VIDEO_ID], left))
            if is_early:
                rows = rows.filter(pc.equal(rows["verdict"], schema.Verdict.ACCEPTED))
            taken.append(rows.select([schema.VIDEO_ID]))
            writer.add(rows)
        writer.close()
        left = state.without(left, state.one_array(taken))


class _Shards:
    """Writes rows to shards of a directory, under names that no other shard has."""

    def __init__(self, directory: str, rows_per_shard: int) -> None:
        self._directory, self._rows_per_shard = directory, rows_per_shard
        self._name, self._count = uuid.uuid4().hex, 0
        self._waiting: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        if rows.num_rows:
            self._waiting.append(rows)
        if sum(table.num_rows for table in self._waiting) >= self._rows_per_shard:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if not self._waiting:
            return
        path = storage.join(self._directory, f"part-{self._name}-{self._count:06d}.parquet")
        storage.publish_table(path, pa.concat_tables(self._waiting).combine_chunks())
        self._count += 1
        self._waiting = []
