"""The directory of an extraction or classification run: what it is of, and how far it is.

Shared by both jobs, and free of Ray: begin a run or continue it, refuse another one's directory,
summarize it from its files. A job with several backbones fills a run for each from one decoding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import ledger, reconcile, schema, storage
from vidclf.archive.transform import FrameTransform, FrameTransforms
from vidclf.config import ConfigError, PipelineConfig
from vidclf.features import contents
from vidclf.features.store import FeatureSpec, specs_of
from vidclf.ledger import IDENTITY_FILE, RunState


class Head(Protocol):
    """Turns embedded videos into the rows to write, one for one: a table of `schema.features` for each of the
    target's backbones, of the same videos in the same order. Facts about a video are taken from the first; of
    the others the `features` alone."""

    @property
    def engine(self) -> str:
        """What runs it, as `torch cpu bf16`."""
        ...

    def __call__(self, embedded_S: Sequence[pa.Table], /) -> pa.Table: ...


class StagedHead(Head, Protocol):
    """A head that may be content with a few of a video's frames."""

    def early(self, embedded_S: Sequence[pa.Table], /) -> pa.Table:
        """The rows by these few frames. One whose `verdict` is `accepted` is written; of the other videos the
        head is shown all frames."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A backbone with its weights, and the spec of the features that it makes."""

    spec: FeatureSpec
    weights: str
    """where they were taken from"""
    state: dict[str, Any]
    """the backbone's state dict as arrays"""

    @property
    def transform(self) -> FrameTransform:
        return FrameTransform(**self.spec.transform["transform"])


@dataclass(frozen=True, kw_only=True)
class Target:
    """One of the runs that a job fills: what its rows are made of."""

    name: str = ""
    """its directory in the job's output; empty where the output itself is the run"""
    embeddings: tuple[Embedding, ...]
    """those that its head wants, in that order; one without a head"""
    output_schema: pa.Schema
    make_head: Callable[[], Head] | None = None
    """called once in every CNN worker; None writes the features themselves"""
    ensemble_id: str | None = None
    classes: tuple[str, ...] = ()
    """the head's classes, in the order of its probabilities"""
    settings: dict[str, Any] = field(default_factory=dict)
    """what else decides the head's rows; a run is continued only with the same"""
    segments_schema: pa.Schema | None = None
    """of the rows in the run's `segments/`, which the head's rows carry in `schema.SEGMENTS_COLUMN`"""
    early_frames: int | None = None
    """frames of each video, evenly chosen from the sampled ones, that a `StagedHead` is shown first"""
    sharpen_blurry: bool = False
    """hand the head the sharpened frames of blurry videos too, and keep the row of higher trust"""
    directory: str | None = None
    """where the run is, unless in the job's output"""

    def run(self, output: str) -> str:
        """The run's directory."""
        if self.directory is not None:
            return self.directory
        return storage.join(output, self.name) if self.name else output

    @property
    def specs(self) -> list[FeatureSpec]:
        return [embedding.spec for embedding in self.embeddings]

    def identity(self) -> dict[str, Any]:
        """What `run_identity.json` says."""
        return {
            "feature_key": "+".join(spec.key for spec in self.specs),
            "feature_specs": [vars(spec) for spec in self.specs],
            "weights": [embedding.weights for embedding in self.embeddings],
            "ensemble_id": self.ensemble_id,
            "classes": list(self.classes),
            "settings": self.settings,
            "columns": schema.column_types(self.output_schema),
            **({"segment_columns": schema.column_types(self.segments_schema)} if self.segments_schema else {}),
        }

    @property
    def row_schema(self) -> pa.Schema:
        """A row until it is written: with its segments, where there are any."""
        if self.segments_schema is None:
            return self.output_schema
        return self.output_schema.append(schema.segments_field(len(self.classes)))


@dataclass(frozen=True, kw_only=True)
class EmbeddingJob:
    """What to do with every video of a manifest."""

    targets: tuple[Target, ...]
    """of one sampling plan; their runs are done together, video by video"""

    def runs(self, output: str) -> list[str]:
        return [target.run(output) for target in self.targets]

    @property
    def embeddings(self) -> list[Embedding]:
        """What the targets take, each once."""
        return list({e.spec.key: e for target in self.targets for e in target.embeddings}.values())

    def transforms(self) -> FrameTransforms:
        """What the targets' CNNs want to see, each once."""
        return FrameTransforms(tuple(dict.fromkeys(embedding.transform for embedding in self.embeddings)))

    def without_states(self) -> EmbeddingJob:
        """The same without weights, which are big and travel by themselves."""
        bare = {e.spec.key: replace(e, state={}) for e in self.embeddings}
        return EmbeddingJob(
            targets=tuple(replace(t, embeddings=tuple(bare[spec.key] for spec in t.specs)) for t in self.targets)
        )


def check_run(config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob) -> None:
    """ConfigError unless the output directory is free, or holds this very job's runs in part.

    `--overwrite` makes way for another job, but never deletes a directory that no job wrote.
    """
    is_file = storage.exists(config.output) and not storage.is_dir(config.output)
    is_ours = not is_file and any(
        storage.exists(storage.join(run, IDENTITY_FILE)) for run in _runs_there(config.output)
    )
    if is_file or (not is_ours and storage.list_files(config.output, recursive=True)):
        raise ConfigError(
            f"--output {config.output}: must be empty or a run to continue or to overwrite (no {IDENTITY_FILE} in it)"
        )
    apart = [target.directory for target in job.targets if target.directory is not None]
    for run in apart:
        if storage.list_files(run, recursive=True) and not storage.exists(storage.join(run, IDENTITY_FILE)):
            raise ConfigError(f"--save-features {run}: must be empty or a run of this job (no {IDENTITY_FILE} in it)")
    # Without a manifest yet, a job was killed before it had begun.
    begun = [run for run in [*_runs_there(config.output), *apart] if ledger.is_run(run)]
    if config.overwrite or not begun:
        return
    for run in begun:
        if run not in job.runs(config.output):
            raise ConfigError(
                f"--output {config.output}: holds a run in {run}, which this job would not fill; name the same "
                "backbones as before, or choose another directory or --overwrite"
            )
    for target in job.targets:
        if target.run(config.output) in begun:
            _check_target(target, target.run(config.output), manifest)
        elif any(ledger.part_files(run) for run in begun):
            raise ConfigError(
                f"--output {config.output}: of this job's runs only {', '.join(begun)} holds videos, and "
                f"{target.run(config.output)} none; the runs of a job grow together, choose another directory or "
                "--overwrite"
            )


def _runs_there(output: str) -> list[str]:
    """Where runs may be: the output itself and its directories."""
    return [output, *storage.list_dirs(output)]


def _check_target(target: Target, run: str, manifest: pa.Table) -> None:
    identity = storage.read_json(storage.join(run, IDENTITY_FILE))
    theirs = specs_of(run, identity)
    if theirs != target.specs:
        named = [[spec.backbone for spec in specs] for specs in (theirs, target.specs)]
        if named[0] == named[1]:
            pairs = zip(theirs, target.specs, strict=True)
            said = "; ".join(one.differences(other) for one, other in pairs if one != other)
        else:
            said = f"backbones: {','.join(named[0])} != {','.join(named[1])}"
        raise ConfigError(
            f"--output {run}: holds a run of feature key {'+'.join(spec.key for spec in theirs)}, this job's is "
            f"{'+'.join(spec.key for spec in target.specs)} ({said}); choose another directory or --overwrite"
        )
    if identity["ensemble_id"] != target.ensemble_id:
        raise ConfigError(
            f"--output {run}: holds a run of ensemble {identity['ensemble_id']}, this job's is "
            f"{target.ensemble_id}; choose another directory or --overwrite"
        )
    if identity.get("settings", {}) != target.settings:
        raise ConfigError(
            f"--output {run}: holds a run with {identity.get('settings')}, this job's are {target.settings}; "
            "choose another directory or --overwrite"
        )
    if identity["columns"] != target.identity()["columns"]:
        raise ConfigError(
            f"--output {run}: holds a run of another version of this software, whose rows have other columns; "
            "choose another directory or --overwrite"
        )
    told = [schema.VIDEO_ID, "label", "sublabel", "group", "split"]
    before = storage.read_table(storage.join(run, ledger.MANIFEST_FILE), told)
    if before.equals(manifest.select(told)):
        return
    place = pc.index_in(before[schema.VIDEO_ID], manifest[schema.VIDEO_ID].combine_chunks())
    is_gone = pc.is_null(place)
    if pc.any(is_gone).as_py():
        gone = before[schema.VIDEO_ID].filter(is_gone)
        raise ConfigError(
            f"--output {run}: was started with {len(gone)} videos that this manifest does not hold "
            f"(for one {gone[0]}); a run can grow but not shrink, choose another directory or --overwrite"
        )
    now = manifest.select(told).take(place)
    is_changed = pa.chunked_array([[False] * before.num_rows])
    for name in told[1:]:
        is_equal = pc.or_(
            pc.fill_null(pc.equal(before[name], now[name]), False),
            pc.and_(pc.is_null(before[name]), pc.is_null(now[name])),
        )
        is_changed = pc.or_(is_changed, pc.invert(is_equal))
    if pc.any(is_changed).as_py():
        was, is_ = before.filter(is_changed).to_pylist(), now.filter(is_changed).slice(0, 1).to_pylist()
        raise ConfigError(
            f"--output {run}: label, group or split of {len(was)} videos differ from those it was started with "
            f"(for one {was[0]}, now {is_[0]}); choose another directory or --overwrite"
        )


def would_process(config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob) -> int:
    """How many videos a job that `check_run` lets through has to do."""
    runs = job.runs(config.output)
    if config.overwrite or not all(ledger.is_run(run) for run in runs):
        return int(manifest.num_rows)
    new = manifest.num_rows - len(ledger.asked_ids(runs[0]))
    stale = len(_stale(runs)) if config.redo_stale else 0
    return int(new) + stale + reconcile.unfinished(runs) + reconcile.quarantined_for(runs[0], config.retried_reasons())


def begin_run(config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob) -> RunState:
    """Make the job's runs, or bring those that are there to a state from which they can be continued:
    which videos are done, and which are to be done again, is settled here."""
    if config.overwrite:
        for directory in [config.output, *(target.directory for target in job.targets if target.directory)]:
            storage.delete_tree(directory)
    runs = job.runs(config.output)
    for target, run in zip(job.targets, runs, strict=True):
        storage.create_dir(run)
        storage.publish_json(storage.join(run, IDENTITY_FILE), target.identity())
        # The manifest last: it is what makes the directory a run.
        storage.publish_table(storage.join(run, ledger.MANIFEST_FILE), manifest)
    reconcile.release(config.output, runs, config.retried_reasons())
    if config.redo_stale:
        stale = pa.array(_stale(runs), pa.string())
        for run in runs:
            reconcile.drop(run, stale)
    else:
        resized = contents.resized_videos(runs[0], manifest)
        if resized:
            print(
                f"{config.output}: {len(resized)} finished videos are of another size than they were (for one "
                f"{resized[0]}); --redo-stale does them again",
                file=sys.stderr,
            )
    return reconcile.reconcile(config.output, runs)


def _stale(runs: list[str]) -> list[str]:
    return contents.stale_videos(runs[0])[0]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """How a pipeline did its work."""

    busy: dict[str, float]
    """share of its workers' time that each stage was at work, 0 to 1"""
    worker_s: dict[str, float] = field(default_factory=dict)
    """seconds that each stage's workers were at work, all together"""
    cnn_engines: dict[str, int] = field(default_factory=dict)
    """workers, by what runs their backbones, as `openvino bf16`"""
    head_engines: dict[str, int] = field(default_factory=dict)
    """the same of their heads, as `torch cpu bf16`"""
    passes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """where a pipeline goes over some videos more than once: of each pass its `num_videos`, the
    `num_decided` there by stage, and `worker_s_per_video`"""


def counted(counts: Mapping[str, float], kind: str) -> dict[str, int]:
    """Of a pipeline's counts those called `kind:…`, by what they are called behind that."""
    names = {name: name.removeprefix(f"{kind}:") for name in sorted(counts)}
    return {short: int(counts[name]) for name, short in names.items() if short != name}


def summarize(
    run: str, before: RunState, after: RunState, elapsed_s: float, performance: Performance
) -> dict[str, Any]:
    """Counts from the files; rates and busy shares from this submission's part of the work."""
    rows = contents.rows_of(run, [schema.VIDEO_ID, "video_uri", "content_digest", "duration_s"])
    duplicates = contents.publish_duplicates(run, rows)
    total_duration_s = pc.sum(rows["duration_s"]).as_py() or 0.0
    processed = before.num_pending - after.num_pending
    ok_share = after.num_ok / max(after.num_ok + after.num_quarantined, 1)
    mean_duration_s = total_duration_s / max(after.num_ok, 1)
    videos_per_s = processed / elapsed_s
    return {
        **vars(after),
        "num_processed": processed,
        "num_duplicates": duplicates.num_rows,
        "num_duplicates_across_splits": pc.sum(
            pc.not_equal(duplicates["split"], duplicates["duplicate_of_split"])
        ).as_py()
        or 0,
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
