"""The Ray Data pipeline that turns a manifest into embedded videos, each exactly once. [Ray Data]

Extract writes the embedded videos as features; classify hands in a head that turns them into
predictions inside the same CNN worker. Everything else (resuming, quarantine, shards, summary) is
this file for both.

    manifest ─▶ skip finished ─▶ decode (CPU) ─▶ CNN [▶ head] (GPU or CPU) ─▶ part-* | quarantine/part-*
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.data.checkpoint import CheckpointConfig

from vidclf import ray_cluster, schema, storage
from vidclf.config import PipelineConfig
from vidclf.errors import ErrorBudgetExceeded
from vidclf.pipeline.decode_embed_stage import DecodeAndEmbed
from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.embed_stage import EmbedVideos
from vidclf.pipeline.engines import put_engine_source
from vidclf.pipeline.job import PipelineJob
from vidclf.pipeline.pools import MAX_BLOCK_BYTES, VIDEOS_HANDED_OVER, block_count, frames_in_flight_bytes, pool_sizes
from vidclf.pipeline.prometheus import PipelineMetrics
from vidclf.pipeline.sink import RunSink
from vidclf.progress import ProgressLine
from vidclf.runs import reconcile
from vidclf.runs.state import RunState
from vidclf.runs.summary import Performance, counted
from vidclf.tally import Tally, watch
from vidclf.video.decoder_process import DecodeLimits

TIMELINE_FILE = "timeline.json"

ERROR_BUDGET_AFTER = 20
"""Videos before the share of rejected ones says anything."""


def run_pipeline(config: PipelineConfig, job: PipelineJob, before: RunState) -> Performance:
    """The whole graph."""
    resources = ray_cluster.connect()
    pools = pool_sizes(config, resources)
    num_blocks = block_count(before.num_pending, pools.decode_workers)
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
    tally = Tally.start(partial(PipelineMetrics, config.output))
    networks = {embedding.spec.key: put_engine_source(embedding, pools.cnn_gpus, tally) for embedding in job.embeddings}

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
    cpu_env = {"env_vars": ray_cluster.CPU_WORKER_ENV}
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
        in_flight_bytes = frames_in_flight_bytes(config, pools, video_bytes)
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
            # Ray Data wants a number where there are GPUs. With more than a block has, it would wait for rows.
            **{**of_batches, "batch_size": VIDEOS_HANDED_OVER},
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
    config: PipelineConfig, job: PipelineJob, before: RunState, videos: ray.data.Dataset, tally: Any
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

    with watch(tally, line, lambda counts: _shown(counts, before), check):
        videos.write_datasink(sink, ray_remote_args={"num_cpus": 0})
    elapsed_s = time.monotonic() - started
    if config.profile:
        storage.publish_json(storage.join(config.output, TIMELINE_FILE), ray.timeline())
    counts: dict[str, float] = ray.get(tally.read.remote())
    check(counts)  # of what came after the last look while it ran, which of a short job is all
    return elapsed_s, counts


def check_error_rate(counts: dict[str, float], max_error_rate: float) -> None:
    """Raise ErrorBudgetExceeded where more than `max_error_rate` of this job's videos are rejected."""
    num_done = int(counts.get("done", 0))
    rejected = _rejected(counts)
    num_rejected = sum(rejected.values())
    if num_done >= ERROR_BUDGET_AFTER and num_rejected > max_error_rate * num_done:
        named = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
        raise ErrorBudgetExceeded(
            f"{num_rejected} of {num_done} videos were rejected ({named}), a share above --max-error-rate "
            f"{max_error_rate:g}"
        )


def _rejected(counts: dict[str, float]) -> dict[str, int]:
    return {name.split(":", 1)[1]: int(n) for name, n in sorted(counts.items()) if name.startswith("rejected:")}


def _shown(counts: dict[str, float], before: RunState) -> tuple[int, str]:
    done = before.num_input_videos - before.num_pending + int(counts.get("done", 0))
    return done, ", ".join(f"{name} {n}" for name, n in _rejected(counts).items())
