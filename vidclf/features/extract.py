"""The Ray Data pipeline that turns a manifest into embedded videos, each exactly once. [Ray Data]

Extract writes the embedded videos as features; classify hands in a head that turns them into
predictions inside the same CNN worker. Everything else (resuming, quarantine, shards, summary) is
this file for both.

    manifest ─▶ skip finished ─▶ decode (CPU) ─▶ CNN [▶ head] (GPU or CPU) ─▶ part-* | quarantine/part-*

Shape suffixes: T frames, H W pixels, D features.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import BlockAccessor
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import BlockBasedFileDatasink, FilenameProvider

from vidclf import cluster, ledger, schema, storage
from vidclf.archive.sampling import SamplingPlan
from vidclf.archive.supervise import DecodeLimits
from vidclf.archive.transform import FrameTransform
from vidclf.archive.worker import DecodeVideos
from vidclf.config import ConfigError, ExtractConfig, PipelineConfig
from vidclf.features import backbone, hdf5
from vidclf.features.run import EmbeddingJob, begin_run, check_run, progress_so_far, summarize
from vidclf.features.store import FeatureSpec, features_column
from vidclf.progress import ProgressLine

VIDEOS_PER_BLOCK = (4, 32)
"""Fewest and most videos that one decode task takes on: few where there are few, so that workers
finish together; more in a large archive, so that the scheduler keeps fewer tasks in its books."""

TASKS_PER_WORKER = 32
"""Decode tasks a worker should get where the archive allows it, to even out long and short videos."""

ERROR_BUDGET_AFTER = 20
"""Videos before the share of rejected ones says anything."""


def extract(config: ExtractConfig, manifest: pa.Table) -> dict[str, Any] | None:
    """Run the pipeline for `jobs/extract.py`; its summary, or None after `--dry-run`."""
    if config.format == "hdf5":
        hdf5.check_exportable(manifest)
    state = backbone.load_weights(config.backbone, config.weights)
    plan = SamplingPlan(
        mode=config.sampling,
        num_frames=config.num_frames,
        clip_duration_s=config.clip_duration,
        skip_edges=config.skip_edges,
        avoid_black=config.avoid_black,
    )
    spec = FeatureSpec.of(config.backbone, config.weights, backbone.weights_digest(state), plan)
    summary = embed_videos(
        config,
        manifest,
        EmbeddingJob(spec=spec, weights=config.weights, state=state, output_schema=schema.features(spec.feature_dim)),
    )
    if summary is not None and config.format == "hdf5":
        hdf5.export(config.output)
    return summary


def embed_videos(config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob) -> dict[str, Any] | None:
    """Embed every video of `manifest` that `config.output` does not hold yet, and write a summary.

    Returns the summary (also where nothing was left to do), or None after a dry run. Raises
    ConfigError before any work starts where the directory belongs to another run.
    """
    started = time.monotonic()
    # Workers have other working directories, so the output's location must not be relative.
    config = replace(config, output=storage.canonical(config.output))
    if config.limit is not None:
        manifest = manifest.slice(0, config.limit)
    check_run(config, manifest, job)
    if config.dry_run:
        pending = progress_so_far(config, manifest).num_pending
        retried = 0 if config.overwrite else ledger.quarantined_for(config.output, config.retried_reasons())
        print(f"would process {pending + retried} of {manifest.num_rows} videos into {config.output}")
        return None
    begin_run(config, manifest, job)
    before = progress_so_far(replace(config, overwrite=False), manifest)
    summary_file = storage.join(config.output, ledger.SUMMARY_FILE)
    if before.num_pending == 0:
        if storage.exists(summary_file):
            return {**storage.read_json(summary_file), "num_processed": 0}
        busy: dict[str, float] = {}
    else:
        if storage.exists(summary_file):
            storage.delete_file(summary_file)
        try:
            busy = _run_pipeline(config, manifest, job, before)
        except ledger.RunStopped as stopped:
            raise type(stopped)(ledger.stopped_text(config.output, str(stopped))) from None
    summary = summarize(config.output, before, time.monotonic() - started, busy)
    storage.publish_json(summary_file, summary)
    return summary


def _run_pipeline(
    config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob, before: ledger.RunState
) -> dict[str, float]:
    """The whole graph. Returns the busy share of each stage, 0 to 1."""
    resources = cluster.connect()
    pools = _pool_sizes(config, resources)
    transform = FrameTransform(**job.spec.transform["transform"])
    limits = DecodeLimits(
        timeout_s=config.decode_timeout,
        memory_bytes=int(config.decode_memory_gib * 1024**3),
        video_bytes=int(config.max_video_gib * 1024**3),
    )
    tally = cluster.Tally.start()
    state_ref = ray.put(job.state)

    context = DataContext.get_current()
    # The second data source API makes one block of a manifest, which would decode serially.
    context.use_datasource_v2 = False
    context.checkpoint_config = CheckpointConfig(
        id_column=schema.VIDEO_ID,
        checkpoint_path=storage.join(config.output, ledger.CHECKPOINT_DIR),
        override_filesystem=storage.resolve(config.output)[0],
        delete_checkpoint_on_success=False,
    )

    # 1. The run's own manifest, minus the finished videos (Ray Data's checkpoint filter): 1 row a
    #    video. Reading reserves no CPU, so that a small machine is not full before it decodes.
    filesystem, manifest_path = storage.resolve(storage.join(config.output, ledger.MANIFEST_FILE))
    videos = ray.data.read_parquet(
        manifest_path,
        filesystem=filesystem,
        override_num_blocks=_num_blocks(manifest.num_rows, pools.decode_workers),
        num_cpus=0,
    )
    # 2. Decode: 1 row out per row in, frames at model resolution or a reject reason. Actors, because
    #    each keeps a decoder process; a fixed pool, one per core.
    videos = videos.map_batches(
        DecodeVideos,
        fn_constructor_kwargs={"plan": job.spec.plan, "transform": transform, "limits": limits, "tally": tally},
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=pools.decode_workers, max_tasks_in_flight_per_actor=2),
        num_cpus=pools.decode_cpus,
    )
    # 3. CNN, and the head if there is one: 1 row out per row in. A fixed pool, because one that
    #    grows from a single worker starves the GPUs at first; two tasks in flight hide the transfer.
    videos = videos.map_batches(
        EmbedVideos,
        fn_constructor_kwargs={
            "job": EmbeddingJob(**{**vars(job), "state": {}}),
            "state_ref": [state_ref],
            "num_gpus": pools.cnn_gpus,
            "tally": tally,
        },
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=pools.cnn_workers, max_tasks_in_flight_per_actor=2),
        num_cpus=pools.cnn_cpus,
        num_gpus=pools.cnn_gpus,
        runtime_env={"env_vars": cluster.CPU_WORKER_ENV} if pools.cnn_gpus == 0 else None,
    )
    # 4. Write: `rows_per_shard` rows become one shard of results and one of quarantine rows,
    #    committed together.
    attempts = ray.put(ledger.read_attempts(config.output))
    sink = RunSink(config.output, job.output_schema, config.rows_per_shard, [attempts])
    line = ProgressLine(
        "videos", before.num_input_videos, "videos", initial=before.num_input_videos - before.num_pending
    )
    pipeline_started = time.monotonic()

    def check(counts: dict[str, float]) -> None:
        check_error_rate(counts, config.max_error_rate)

    with cluster.watch(tally, line, lambda counts: _shown(counts, before), check):
        videos.write_datasink(sink, ray_remote_args={"num_cpus": 0})
    elapsed_s = time.monotonic() - pipeline_started
    counts = ray.get(tally.read.remote())
    return {
        "decode": counts.get("decode_s", 0.0) / (elapsed_s * pools.decode_workers),
        "cnn": counts.get("cnn_s", 0.0) / (elapsed_s * pools.cnn_workers),
    }


class EmbedVideos:
    """Stage 3. In: `schema.decoded`. Out: the job's output columns, null for rejected videos, and
    `reject_reason`, `reject_message`, null for the others; rows keep their order."""

    def __init__(self, job: EmbeddingJob, state_ref: list[Any], num_gpus: float, tally: Any) -> None:
        torch.set_num_threads(1)
        self._job = job
        self._tally = tally
        # In a list, so that Ray hands over the reference and every worker of a node shares the arrays.
        state = ray.get(state_ref[0])
        self._backbone = backbone.build(job.spec.backbone, job.weights, state, "cuda" if num_gpus else "cpu")
        self._head = job.make_head() if job.make_head is not None else None
        self._embedded = schema.features(job.spec.feature_dim)
        self._output = output_columns(job.output_schema)

    def __call__(self, batch: pa.Table) -> pa.Table:
        started = time.perf_counter()
        is_ok = pc.is_null(batch["reject_reason"])
        ok = batch.filter(is_ok)
        rejected = batch.filter(pc.invert(is_ok))
        tables = []
        if ok.num_rows:
            written = self._embed(ok)
            if self._head is not None:
                written = self._head(written)
            tables.append(_widen(schema.conform(written, self._job.output_schema, "output"), self._output))
        if rejected.num_rows:
            tables.append(_widen(rejected, self._output))
        counts = {"done": batch.num_rows, "cnn_s": time.perf_counter() - started}
        for reason in rejected["reject_reason"].to_pylist():
            counts[f"rejected:{reason}"] = counts.get(f"rejected:{reason}", 0) + 1
        self._tally.add.remote(counts)
        return pa.concat_tables(tables) if tables else self._output.empty_table()

    def _embed(self, ok: pa.Table) -> pa.Table:
        """Features of the decoded rows, embedded in one go over all their frames."""
        frames = ok["frames"].combine_chunks()
        if isinstance(frames, pa.ChunkedArray):
            frames = pa.concat_arrays(frames.chunks)
        side = self._backbone.preprocessing.transform.crop_size
        # flatten(), because a sliced list array's values still hold the rows outside the slice.
        pixels = frames.flatten()
        bytes_ = np.frombuffer(pixels.buffers()[1], dtype=np.uint8)
        first = pixels.offset * side * side * 3
        frames_THWC = bytes_[first : first + len(pixels) * side * side * 3].reshape(-1, side, side, 3)
        # Arrow's buffers are read-only, which torch warns of; nothing here writes to them.
        features_TD = self._backbone(torch.from_numpy(_writable_view(frames_THWC))).numpy().astype(np.float16)
        lengths = ok["num_frames"].to_numpy()
        rows = np.split(features_TD, np.cumsum(lengths)[:-1])
        columns = {name: ok[name] for name in self._embedded.names if name in ok.column_names}
        columns["features"] = features_column(cast(Any, rows), self._job.spec.feature_dim)
        columns["feature_key"] = pa.array([self._job.spec.key] * ok.num_rows)
        return schema.conform(pa.table(columns), self._embedded, "embedded rows")


class RunSink(BlockBasedFileDatasink):
    """Stage 4: one task's rows to `part-*.parquet` and `quarantine/part-*.parquet`.

    Both files carry the name that Ray Data's checkpoint knows the task by, so they are committed,
    or after a kill removed and made again, together.
    """

    def __init__(self, output: str, output_schema: pa.Schema, rows_per_shard: int, attempts: list[Any]) -> None:
        """`attempts` holds one reference to the attempts before this job, by video id."""
        filesystem, path = storage.resolve(output)
        super().__init__(
            path,
            filesystem=filesystem,
            min_rows_per_file=rows_per_shard,
            file_format="parquet",
            filename_provider=_PartNames(),
        )
        self._output = output
        self._output_schema = output_schema
        self._attempts = attempts

    def write_block(self, block: BlockAccessor, block_index: int, ctx: Any) -> None:
        table = block.to_arrow()
        name = self.filename_provider.get_filename_for_task(ctx.kwargs["write_uuid"], ctx.task_idx)
        is_ok = pc.is_null(table["reject_reason"])
        ok = table.filter(is_ok).select(self._output_schema.names)
        rejected = table.filter(pc.invert(is_ok)).select(["video_id", "video_uri", "reject_reason", "reject_message"])
        if ok.num_rows:
            storage.publish_table(storage.join(self._output, name), schema.conform(ok, self._output_schema, "shard"))
        if rejected.num_rows:
            before = ray.get(self._attempts[0])
            attempts = [before.get(video, 0) + 1 for video in rejected["video_id"].to_pylist()]
            rejected = rejected.append_column("attempts", pa.array(attempts, pa.int32()))
            quarantined = schema.conform(
                rejected.rename_columns(schema.QUARANTINE.names), schema.QUARANTINE, "quarantine"
            )
            storage.publish_table(storage.join(self._output, ledger.QUARANTINE_DIR, name), quarantined)


class _PartNames(FilenameProvider):
    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return f"part-{write_uuid}-{task_index:06d}.parquet"


def output_columns(output_schema: pa.Schema) -> pa.Schema:
    """What travels from stage 3 to 4: the output's columns, nullable, and the reject columns."""
    nullable = [field.with_nullable(True) for field in output_schema]
    return pa.schema([*nullable, pa.field("reject_reason", pa.string()), pa.field("reject_message", pa.string())])


def _widen(table: pa.Table, columns: pa.Schema) -> pa.Table:
    return pa.table(
        [table[f.name] if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in columns],
        schema=columns,
    )


def _writable_view(array: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The same memory under an array that does not say it is read-only."""
    interface = {**array.__array_interface__, "data": (array.__array_interface__["data"][0], False)}
    holder = type("_Holder", (), {"__array_interface__": interface, "owner": array})()
    return np.asarray(holder)


@dataclass(frozen=True, kw_only=True)
class _Pools:
    decode_workers: int
    decode_cpus: float
    cnn_workers: int
    cnn_cpus: float
    cnn_gpus: float


def _pool_sizes(config: PipelineConfig, resources: cluster.ClusterResources) -> _Pools:
    """Workers of each operator and what each reserves.

    Without a GPU every core gets one decoder and one CNN worker, both single-threaded: whichever
    stage is behind takes the core. With GPUs the CNN workers are one a GPU and the other cores
    decode. One CPU stays unreserved for Ray Data's own tasks, which would wait for ever otherwise.
    """
    has_gpu = resources.num_gpus > 0
    cnn_gpus = config.gpus_per_cnn_worker if config.gpus_per_cnn_worker is not None else float(has_gpu)
    if cnn_gpus > 0 and not has_gpu:
        raise ConfigError(f"--gpus-per-cnn-worker must be 0 on a cluster without GPUs, got {cnn_gpus}")
    cnn_workers = config.cnn_workers or (
        max(1, int(resources.num_gpus / cnn_gpus)) if cnn_gpus > 0 else resources.num_cpus
    )
    decode_workers = config.decode_workers or (
        max(1, resources.num_cpus - cnn_workers - 1) if cnn_gpus > 0 else resources.num_cpus
    )
    free_cpus = max(resources.num_cpus - 1.0, 0.5)
    share = min(1.0, free_cpus / (decode_workers + cnn_workers))
    # Ray counts CPUs in ten-thousandths; rounding up would overbook by a hair and never start.
    share = int(share * 1000) / 1000
    return _Pools(
        decode_workers=decode_workers, decode_cpus=share, cnn_workers=cnn_workers, cnn_cpus=share, cnn_gpus=cnn_gpus
    )


def _num_blocks(num_videos: int, decode_workers: int) -> int:
    """Blocks to read the manifest in."""
    fewest, most = VIDEOS_PER_BLOCK
    videos_per_block = min(max(num_videos // (decode_workers * TASKS_PER_WORKER), fewest), most)
    return -(-num_videos // videos_per_block)


def check_error_rate(counts: dict[str, float], max_error_rate: float) -> None:
    """Raise ErrorBudgetExceeded where more than `max_error_rate` of this job's videos are rejected."""
    num_done = int(counts.get("done", 0))
    rejected = _rejected(counts)
    num_rejected = sum(rejected.values())
    if num_done >= ERROR_BUDGET_AFTER and num_rejected > max_error_rate * num_done:
        named = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
        raise ledger.ErrorBudgetExceeded(
            f"{num_rejected} of {num_done} videos were rejected ({named}), a share above --max-error-rate "
            f"{max_error_rate:g}"
        )


def _rejected(counts: dict[str, float]) -> dict[str, int]:
    return {name.split(":", 1)[1]: int(n) for name, n in sorted(counts.items()) if name.startswith("rejected:")}


def _shown(counts: dict[str, float], before: ledger.RunState) -> tuple[int, str]:
    done = before.num_input_videos - before.num_pending + int(counts.get("done", 0))
    return done, ", ".join(f"{name} {n}" for name, n in _rejected(counts).items())
