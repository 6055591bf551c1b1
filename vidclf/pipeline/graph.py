"""The Ray Data pipeline that turns a manifest into embedded videos, each exactly once. [Ray Data]

Extract writes the embedded videos as features; classify hands in a head that turns them into
predictions inside the same CNN worker. Everything else (resuming, quarantine, shards, summary) is
this file for both.

    manifest ─▶ skip finished ─▶ decode (CPU) ─▶ CNN [▶ head] (GPU or CPU) ─▶ part-* | quarantine/part-*
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.data.checkpoint import CheckpointConfig

from vidclf import cluster, ledger, reconcile, schema, storage
from vidclf.archive.sampling import SamplingPlan
from vidclf.archive.supervise import DecodeLimits
from vidclf.archive.worker import DecodeVideos
from vidclf.config import ConfigError, ExtractConfig, PipelineConfig
from vidclf.features import backbone, hdf5, quantized
from vidclf.features.conversions import network
from vidclf.features.embed import EmbedVideos
from vidclf.features.fused import DecodeAndEmbed
from vidclf.features.monitoring import PipelineMetrics
from vidclf.features.run import (
    Embedding,
    EmbeddingJob,
    Performance,
    Target,
    begin_run,
    check_run,
    counted,
    summarize,
    would_process,
)
from vidclf.features.sink import RunSink
from vidclf.features.store import FeatureSpec
from vidclf.progress import ProgressLine

VIDEOS_PER_BLOCK = (4, 32)
"""Fewest and most videos that one decode task takes on: few where there are few, so that workers
finish together; more in a large archive, so that the scheduler keeps fewer tasks in its books."""

TASKS_PER_WORKER = 32
"""Decode tasks a worker should get where the archive allows it, to even out long and short videos."""

VIDEOS_IN_FLIGHT = (16, 32)
"""Decoded videos that may be in the object store, for each decode worker and each CNN worker. Ray Data
shares that out over the operators and starts to slow decoding down early: with a quarter of this the CNN
workers of a 2-core machine were busy 0.63 of the time, with this 0.79, start-up included."""

VIDEOS_HANDED_OVER = 4
"""Decoded videos in a block, so that the last ones do not keep one CNN worker long after the others. Ray Data sets
aside room for two blocks of each task, of what may be in flight: with 8, a fifth of 64 decoders never got a task."""

MAX_BLOCK_BYTES = 128 * 1024**2
"""The most decoded frames in a block."""

TIMELINE_FILE = "timeline.json"

ERROR_BUDGET_AFTER = 20
"""Videos before the share of rejected ones says anything."""


def extract(config: ExtractConfig, manifest: pa.Table) -> dict[str, dict[str, Any]] | None:
    """Run the pipeline for `jobs/extract.py`; as `embed_videos`."""
    if config.format == "hdf5":
        hdf5.check_exportable(manifest)
    plan = SamplingPlan.of(config)
    weights = config.weights * len(config.backbone) if len(config.weights) == 1 else config.weights
    targets = []
    for name, location in zip(config.backbone, weights, strict=True):
        state = backbone.load_weights(name, location)
        quantized.check_precision(state, location, config.precision)
        spec = FeatureSpec.of(name, location, backbone.weights_digest(state), plan, config.repeat_tolerance)
        directory = name if len(config.backbone) > 1 else ""
        embedding = Embedding(spec=spec, weights=location, state=state)
        output_schema = schema.features(spec.feature_dim)
        targets.append(Target(name=directory, embeddings=(embedding,), output_schema=output_schema))
    summaries = embed_videos(config, manifest, EmbeddingJob(targets=tuple(targets)))
    if summaries is not None and config.format == "hdf5":
        for run in summaries:
            hdf5.export(run)
    return summaries


Pipeline = Callable[[PipelineConfig, EmbeddingJob, ledger.RunState], Performance]
"""Does what a job has left to do."""


def embed_videos(
    config: PipelineConfig, manifest: pa.Table, job: EmbeddingJob, pipeline: Pipeline | None = None
) -> dict[str, dict[str, Any]] | None:
    """Embed every video of `manifest` that `config.output` does not hold yet, and write the summaries.

    Returns the summary of each run directory (also where nothing was left to do), or None after a
    dry run. `pipeline` is the one below, unless rows come from elsewhere than from videos. Raises
    ConfigError before any work starts where the directory belongs to another job, and RunStopped where it
    ends with videos left.
    """
    started = time.monotonic()
    # Workers have other working directories, so the output's location must not be relative.
    config = replace(config, output=storage.canonical(config.output))
    runs = job.runs(config.output)
    if config.limit is not None:
        manifest = manifest.slice(0, config.limit)
    check_run(config, manifest, job)
    if config.dry_run:
        num_videos = would_process(config, manifest, job)
        print(f"would process {num_videos} of {manifest.num_rows} videos into {', '.join(runs)}")
        return None
    before = state = begin_run(config, manifest, job)
    del manifest
    summary_files = {run: storage.join(run, ledger.SUMMARY_FILE) for run in runs}
    if not state.num_pending and all(storage.exists(path) for path in summary_files.values()):
        return {run: {**storage.read_json(path), "num_processed": 0} for run, path in summary_files.items()}
    for path in summary_files.values():
        if storage.exists(path):
            storage.delete_file(path)
    performance = Performance(busy={})
    # More than once only where machines were lost: what their tasks had written twice or not at all
    # is seen in the shards afterwards, and done again.
    while state.num_pending:
        num_pending = state.num_pending
        try:
            performance = (pipeline or _run_pipeline)(config, job, state)
        except ledger.RunStopped as stopped:
            raise type(stopped)(ledger.stopped_text(config.output, runs, str(stopped))) from None
        state = reconcile.reconcile(config.output, runs)
        if state.num_pending == num_pending:
            raise ledger.RunStopped(ledger.stopped_text(config.output, runs, "the pipeline ended without its videos"))
    summaries = {run: summarize(run, before, state, time.monotonic() - started, performance) for run in runs}
    for run, summary in summaries.items():
        storage.publish_json(summary_files[run], summary)
    return summaries


def _run_pipeline(config: PipelineConfig, job: EmbeddingJob, before: ledger.RunState) -> Performance:
    """The whole graph."""
    resources = cluster.connect()
    pools = pool_sizes(config, resources)
    num_blocks = _num_blocks(before.num_pending, pools.decode_workers)
    # No worker without work: of a few videos there may be fewer blocks than cores.
    pools = replace(
        pools,
        decode_workers=min(pools.decode_workers, num_blocks),
        cnn_workers=min(pools.cnn_workers, num_blocks),
    )
    plan, transforms = job.embeddings[0].spec.plan, job.transforms()
    limits = DecodeLimits(
        timeout_s=config.decode_timeout,
        memory_bytes=int(config.decode_memory_gib * 1024**3),
        video_bytes=int(config.max_video_gib * 1024**3),
    )
    tally = cluster.Tally.start(partial(PipelineMetrics, config.output))
    networks = {embedding.spec.key: network(embedding, pools.cnn_gpus, tally) for embedding in job.embeddings}

    context = checkpointed_context(config.output)

    # 1. What is left of the run's own manifest: 1 row a video. Reading reserves no CPU, so that a small
    #    machine is not full before it decodes.
    filesystem, manifest_path = storage.resolve(reconcile.to_read(config.output, job.runs(config.output)))
    videos = ray.data.read_parquet(
        manifest_path,
        filesystem=filesystem,
        override_num_blocks=num_blocks,
        num_cpus=0,
    )
    decode = {
        "plan": plan,
        "transforms": transforms,
        "limits": limits,
        "tally": tally,
        "logs_events": config.json_logs,
    }
    embed = {
        "job": job.without_states(),
        "networks": networks,
        "precision": config.precision,
        "num_gpus": pools.cnn_gpus,
        "tally": tally,
        "logs_events": config.json_logs,
    }
    of_batches = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    cpu_env = {"env_vars": cluster.CPU_WORKER_ENV}
    if not pools.cnn_workers:
        # 2 and 3. Decode and CNN in the same workers: 1 row out per row in.
        videos = videos.map_batches(
            DecodeAndEmbed,
            fn_constructor_kwargs={"decode": decode, "embed": embed},
            **of_batches,
            compute=ActorPoolStrategy(size=pools.decode_workers, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.decode_cpus,
            runtime_env=cpu_env,
        )
    else:
        # Decoded frames are nearly all that the object store holds: decoding pauses at this much of them.
        video_bytes = plan.num_frames * transforms.frame_bytes
        in_flight_bytes = _frames_in_flight_bytes(config, pools, video_bytes)
        context.execution_options.resource_limits = ExecutionResources(object_store_memory=in_flight_bytes)
        context.target_max_block_size = min(MAX_BLOCK_BYTES, VIDEOS_HANDED_OVER * video_bytes, in_flight_bytes // 8)
        # 2. Decode: 1 row out per row in, frames at model resolution or a reject reason. Actors, because
        #    each keeps a decoder process; a fixed pool, one per core.
        videos = videos.map_batches(
            DecodeVideos,
            fn_constructor_kwargs=decode,
            **of_batches,
            compute=ActorPoolStrategy(size=pools.decode_workers, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.decode_cpus,
        )
        # 3. CNN, and the head if there is one: 1 row out per row in. A fixed pool, because one that
        #    grows from a single worker starves the GPUs at first; two tasks in flight hide the transfer.
        videos = videos.map_batches(
            EmbedVideos,
            fn_constructor_kwargs=embed,
            **of_batches,
            compute=ActorPoolStrategy(size=pools.cnn_workers, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.cnn_cpus,
            num_gpus=pools.cnn_gpus,
            runtime_env=cpu_env if pools.cnn_gpus == 0 else None,
        )
    # 4. Write.
    elapsed_s, counts = write(config, job, before, videos, tally)
    return Performance(
        busy={
            "decode": counts.get("decode_s", 0.0) / (elapsed_s * pools.decode_workers),
            "cnn": counts.get("cnn_s", 0.0) / (elapsed_s * pools.embedding_workers),
        },
        worker_s={"decode": counts.get("decode_s", 0.0), "cnn": counts.get("cnn_s", 0.0)},
        cnn_engines=counted(counts, "cnn_engine"),
        head_engines=counted(counts, "head_engine"),
    )


def checkpointed_context(output: str) -> DataContext:
    """Ray Data's settings, such that a pipeline commits what it writes to `output` task by task."""
    context = DataContext.get_current()
    # The second data source API makes one block of a manifest, which would decode serially.
    context.use_datasource_v2 = False
    context.checkpoint_config = CheckpointConfig(
        id_column=schema.VIDEO_ID,
        checkpoint_path=storage.join(output, reconcile.CHECKPOINT_DIR),
        override_filesystem=storage.resolve(output)[0],
        delete_checkpoint_on_success=False,
    )
    return context


def write(
    config: PipelineConfig, job: EmbeddingJob, before: ledger.RunState, videos: ray.data.Dataset, tally: Any
) -> tuple[float, dict[str, float]]:
    """Run a pipeline whose rows are `written_columns` into the job's runs; seconds taken, and the counts.

    `rows_per_shard` rows become one shard of results and one of quarantine rows in each run, committed
    together.
    """
    attempts = ray.put(reconcile.read_attempts(config.output))
    runs = {target.run(config.output): target.output_schema for target in job.targets}
    segments = {target.run(config.output): target.segments_schema for target in job.targets if target.segments_schema}
    sink = RunSink(config.output, runs, config.rows_per_shard, [attempts], segments)
    line = ProgressLine(
        "videos", before.num_input_videos, "videos", initial=before.num_input_videos - before.num_pending
    )
    started = time.monotonic()

    def check(counts: dict[str, float]) -> None:
        check_error_rate(counts, config.max_error_rate)

    with cluster.watch(tally, line, lambda counts: _shown(counts, before), check):
        videos.write_datasink(sink, ray_remote_args={"num_cpus": 0})
    elapsed_s = time.monotonic() - started
    if config.profile:
        storage.publish_json(storage.join(config.output, TIMELINE_FILE), ray.timeline())
    counts: dict[str, float] = ray.get(tally.read.remote())
    check(counts)  # of what came after the last look while it ran, which of a short job is all
    return elapsed_s, counts


@dataclass(frozen=True, kw_only=True)
class _Pools:
    decode_workers: int
    decode_cpus: float
    cnn_workers: int
    """0 where the decode workers run the CNN"""
    cnn_cpus: float
    cnn_gpus: float

    @property
    def embedding_workers(self) -> int:
        """The workers that run the CNN, or a head by itself."""
        return self.cnn_workers or self.decode_workers


def pool_sizes(config: PipelineConfig, resources: cluster.ClusterResources) -> _Pools:
    """Workers of each operator and what each reserves.

    Without a GPU every core gets one worker, which decodes and runs the CNN in turn, unless CNN workers are asked
    for. With GPUs the CNN workers are one a GPU and the other cores decode; they reserve their GPU alone, because
    decoders may have taken every CPU of its machine before, where machines come one by one. One CPU stays
    unreserved for Ray Data's own tasks, which would wait for ever otherwise.
    """
    has_gpu = resources.num_gpus > 0
    cnn_gpus = config.gpus_per_cnn_worker if config.gpus_per_cnn_worker is not None else float(has_gpu)
    if cnn_gpus > 0 and not has_gpu:
        raise ConfigError(f"--gpus-per-cnn-worker must be 0 on a cluster without GPUs, got {cnn_gpus}")
    if cnn_gpus > 0:
        cnn_workers = config.cnn_workers or max(1, int(resources.num_gpus / cnn_gpus))
        decode_workers = config.decode_workers or max(1, resources.num_cpus - cnn_workers - 1)
    else:
        decode_workers = config.decode_workers or resources.num_cpus
        cnn_workers = config.cnn_workers or 0
    free_cpus = max(resources.num_cpus - 1.0, 0.5)
    share = min(1.0, free_cpus / (decode_workers + (0 if cnn_gpus > 0 else cnn_workers)))
    # Ray counts CPUs in ten-thousandths; rounding up would overbook by a hair and never start.
    share = int(share * 1000) / 1000
    return _Pools(
        decode_workers=decode_workers,
        decode_cpus=share,
        cnn_workers=cnn_workers,
        cnn_cpus=0.0 if cnn_gpus > 0 else share,
        cnn_gpus=cnn_gpus,
    )


def _frames_in_flight_bytes(config: PipelineConfig, pools: _Pools, video_bytes: int) -> int:
    """Decoded frames that may be in the object store; `video_bytes` is the most that one video has."""
    if config.frames_in_flight_gib is not None:
        return int(config.frames_in_flight_gib * 1024**3)
    for_decoder, for_cnn = VIDEOS_IN_FLIGHT
    return (for_decoder * pools.decode_workers + for_cnn * pools.cnn_workers) * video_bytes


def _num_blocks(num_videos: int, decode_workers: int) -> int:
    """Blocks to read the manifest in."""
    fewest, most = VIDEOS_PER_BLOCK
    fewest = min(fewest, -(-num_videos // decode_workers))
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
