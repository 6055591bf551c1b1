"""The stages of the pipeline, from reading the manifest (table of videos) to writing the results. [Ray Data]

Every video of the manifest is processed exactly once. `extract` writes features. `classify` supplies a head (an
ensemble of classifiers), which turns features into predictions inside the same CNN worker. Resuming, quarantine (the
list of rejected videos), shards (Parquet files of results) and summaries are the same for both jobs.

    manifest ─▶ skip finished ─▶ decode (CPU) ─▶ CNN [▶ head] (GPU or CPU) ─▶ part-* | quarantine/part-*
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources
from ray.data.checkpoint import CheckpointConfig

from vidclf import ray_cluster, schema, storage
from vidclf.config import PipelineConfig
from vidclf.errors import ErrorBudgetExceeded
from vidclf.pipeline.decode_stage import DecodeVideos, limits_from_flags
from vidclf.pipeline.embed_stage import DecodeAndEmbed, EmbedVideos
from vidclf.pipeline.engines import put_engine_source
from vidclf.pipeline.job import PipelineJob
from vidclf.pipeline.pools import (
    MAX_BLOCK_BYTES,
    VIDEOS_HANDED_OVER,
    WorkerPools,
    block_count,
    frames_in_flight_bytes,
    pool_sizes,
)
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
"""Number of finished videos from which on the share of rejected videos is checked against `--max-error-rate`.

Among fewer videos the share means little.
"""

COUNTED_SECONDS = {"decode": "decode_s", "cnn": "cnn_s", "head": "cnn_s"}
"""Name of the tally's count that holds the busy seconds of a stage's workers, by stage.

The tally is the actor that counts finished work. A head (the step from features to predictions) without a CNN counts
as `cnn_s`, like CNN and head together.
"""


def run_pipeline(config: PipelineConfig, job: PipelineJob, before: RunState) -> Performance:
    """Decode, compute and write the pending (not finished) videos of `job`. Returns measurements of the speed.

    `before`: the counts of finished and pending videos at the start.

    1. Read the pending rows of the manifest (table of videos): 1 row per video.
    2. Decode: 1 row out per row in, scaled frames or a reject reason.
    3. CNN and the optional head (ensemble): 1 row out per row in, features or a prediction.
    4. Write: shards (Parquet files) of results and of rejected videos.

    With CNN workers stages 2 and 3 have workers of their own; without, each worker does both.
    """
    pools = pool_sizes(config, ray_cluster.connect())
    num_blocks = block_count(before.num_pending, pools.decode_workers)
    pools = pools.at_most(num_blocks)
    tally = prepare(config)
    networks = {setup.spec.key: put_engine_source(setup, pools.cnn_gpus, tally) for setup in job.embeddings}
    videos = read_pending(config, job, num_blocks)
    stages = separate_stages if pools.cnn_workers else fused_stage
    videos = stages(videos, config=config, job=job, pools=pools, networks=networks, tally=tally)
    num_workers = {"decode": pools.decode_workers, "cnn": pools.embedding_workers}
    return run(videos, config=config, job=job, before=before, tally=tally, num_workers=num_workers)


def prepare(config: PipelineConfig) -> Any:
    """Start the tally, the actor to which the stages report their counts, and return its handle.

    Also makes Ray Data record in a checkpoint the videos whose rows are written, so that a later job skips them.
    """
    tally = Tally.start(partial(PipelineMetrics, config.output))
    context = DataContext.get_current()
    # The second data source API makes one block of a manifest, which would decode serially.
    context.use_datasource_v2 = False
    # Every task of writing is committed by itself.
    context.checkpoint_config = CheckpointConfig(
        id_column=schema.VIDEO_ID,
        checkpoint_path=storage.join(config.output, reconcile.CHECKPOINT_DIR),
        override_filesystem=storage.resolve(config.output)[0],
        delete_checkpoint_on_success=False,
    )
    return tally


def read_pending(config: PipelineConfig, job: PipelineJob, num_blocks: int) -> Dataset:
    """Stage 1: read the videos that are not finished. Out: `schema.MANIFEST`, 1 row per video.

    The rows come from the copy of the manifest in the job's output directory. Reading reserves no CPU, so that a
    small machine is not full before it decodes.
    """
    filesystem, path = storage.resolve(reconcile.to_read(config.output, job.runs(config.output)))
    return ray.data.read_parquet(path, filesystem=filesystem, override_num_blocks=num_blocks, num_cpus=0)


def fused_stage(
    videos: Dataset,
    *,
    config: PipelineConfig,
    job: PipelineJob,
    pools: WorkerPools,
    networks: dict[str, Any],
    tally: Any,
) -> Dataset:
    """Add stages 2 and 3 (decoding, then CNN and head) to the pipeline, both in the same workers, one per CPU.

    In: `schema.MANIFEST`. Out: `written_columns`.
    """
    return map_in_actors(
        videos,
        DecodeAndEmbed,
        {
            "job": job.without_states(),
            "limits": decode_limits(config),
            "networks": networks,
            "precision": config.precision,
            "num_gpus": pools.cnn_gpus,
            "tally": tally,
            "logs_events": config.json_logs,
        },
        num_workers=pools.decode_workers,
        num_cpus=pools.decode_cpus,
        env_vars=ray_cluster.CPU_WORKER_ENV,
    )


def separate_stages(
    videos: Dataset,
    *,
    config: PipelineConfig,
    job: PipelineJob,
    pools: WorkerPools,
    networks: dict[str, Any],
    tally: Any,
) -> Dataset:
    """Add stages 2 and 3 (decoding, then CNN and head) to the pipeline, each with its own workers.

    In: `schema.MANIFEST`. Out: `written_columns`.
    """
    transforms = job.transforms()
    limit_frames_in_flight(videos, config, pools, job.plan.num_frames * transforms.frame_bytes)
    # 2. Actors, because each one keeps a decoder process. A fixed pool, one actor per core.
    videos = map_in_actors(
        videos,
        DecodeVideos,
        {
            "plan": job.plan,
            "transforms": transforms,
            "limits": decode_limits(config),
            "tally": tally,
            "logs_events": config.json_logs,
        },
        num_workers=pools.decode_workers,
        num_cpus=pools.decode_cpus,
    )
    # 3. A fixed pool, because a pool that grows from a single worker starves the GPUs at first.
    return map_in_actors(
        videos,
        EmbedVideos,
        {
            "job": job.without_states(),
            "networks": networks,
            "precision": config.precision,
            "num_gpus": pools.cnn_gpus,
            "tally": tally,
            "logs_events": config.json_logs,
        },
        # Ray Data requires a batch size with GPUs. A size above a block's rows would make Ray Data wait for more rows.
        batch_size=VIDEOS_HANDED_OVER,
        num_workers=pools.cnn_workers,
        num_cpus=pools.cnn_cpus,
        num_gpus=pools.cnn_gpus,
        env_vars=ray_cluster.CPU_WORKER_ENV if pools.cnn_gpus == 0 else None,
    )


def map_in_actors(
    videos: Dataset,
    worker: type,
    arguments: dict[str, Any],
    *,
    num_workers: int,
    num_cpus: float,
    num_gpus: float | None = None,
    batch_size: int | None = None,
    env_vars: Mapping[str, str] | None = None,
) -> Dataset:
    """Add one stage to the pipeline: `num_workers` actors, each made by `worker(**arguments)`.

    Each actor is called with Arrow tables of rows and returns such tables. `num_cpus`, `num_gpus`: reserved by each
    actor. `batch_size`: rows per call; None passes whole blocks. `env_vars`: environment variables of the actors. Two
    tasks in flight per actor hide the transfer of their rows.
    """
    return videos.map_batches(
        worker,
        fn_constructor_kwargs=arguments,
        batch_size=batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=num_workers, max_tasks_in_flight_per_actor=2),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        runtime_env={"env_vars": dict(env_vars)} if env_vars is not None else None,
    )


def decode_limits(config: PipelineConfig) -> DecodeLimits:
    """Return the limits on time, memory and file size for decoding one video, from the job's flags."""
    return replace(limits_from_flags(config), video_bytes=int(config.max_video_gib * 1024**3))


def limit_frames_in_flight(videos: Dataset, config: PipelineConfig, pools: WorkerPools, video_bytes: int) -> None:
    """Limit the memory for decoded frames in Ray's object store. Decoding pauses at the limit.

    Decoded frames are nearly all that the object store holds. `video_bytes`: the most bytes of one video's frames.
    """
    # The pipeline's own settings: reading copied Ray Data's global ones, which no longer reach this pipeline.
    context = videos.context
    in_flight_bytes = frames_in_flight_bytes(config, pools, video_bytes)
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=in_flight_bytes)
    context.target_max_block_size = min(MAX_BLOCK_BYTES, VIDEOS_HANDED_OVER * video_bytes, in_flight_bytes // 8)


def run(
    videos: Dataset,
    *,
    config: PipelineConfig,
    job: PipelineJob,
    before: RunState,
    tally: Any,
    num_workers: Mapping[str, int],
) -> Performance:
    """Run a pipeline whose last stage gives `written_columns`, write its rows, and return measurements of its speed.

    `before`: counts of finished and pending videos at the start. `num_workers`: workers of each stage, by a name in
    `COUNTED_SECONDS`. `tally`: the actor that counts finished work. Raises ErrorBudgetExceeded where too many videos
    are rejected.
    """
    elapsed_s, counts = write(config, job, before, videos, tally)
    seconds = {stage: counts.get(COUNTED_SECONDS[stage], 0.0) for stage in num_workers}
    return Performance(
        busy={stage: seconds[stage] / (elapsed_s * number) for stage, number in num_workers.items()},
        worker_s=seconds,
        cnn_engines=counted(counts, "cnn_engine"),
        head_engines=counted(counts, "head_engine"),
    )


def write(
    config: PipelineConfig, job: PipelineJob, before: RunState, videos: Dataset, tally: Any
) -> tuple[float, dict[str, float]]:
    """Stage 4: write rows of `written_columns` to the job's output directories.

    Returns the elapsed seconds and the counts of finished work, by name. `rows_per_shard` rows become one shard
    (Parquet file) of results and one of rejected videos in each directory, committed together. `before`: counts of
    finished and pending videos at the start.
    """
    attempts = ray.put(reconcile.read_attempts(config.output))
    runs = {target.run(config.output): target.output_schema for target in job.targets}
    segments = {target.run(config.output): target.segments_schema for target in job.targets if target.segments_schema}
    sink = RunSink(config.output, runs, config.rows_per_shard, [attempts], segments)
    num_done_before = before.num_input_videos - before.num_pending
    line = ProgressLine("videos", before.num_input_videos, "videos", initial=num_done_before)
    started = time.monotonic()

    def check(counts: dict[str, float]) -> None:
        check_error_rate(counts, config.max_error_rate)

    with watch(tally, line, lambda counts: _progress(counts, num_done_before), check):
        videos.write_datasink(sink, ray_remote_args={"num_cpus": 0})
    elapsed_s = time.monotonic() - started
    if config.profile:
        storage.publish_json(storage.join(config.output, TIMELINE_FILE), ray.timeline())
    counts: dict[str, float] = ray.get(tally.read.remote())
    check(counts)  # again, because counts may have arrived after `watch` read them last; in a short job all of them do
    return elapsed_s, counts


def check_error_rate(counts: dict[str, float], max_error_rate: float) -> None:
    """Raise ErrorBudgetExceeded where more than `max_error_rate`, a fraction, of this job's videos are rejected."""
    num_done = int(counts.get("done", 0))
    rejected = _rejected(counts)
    num_rejected = sum(rejected.values())
    if num_done >= ERROR_BUDGET_AFTER and num_rejected > max_error_rate * num_done:
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
        raise ErrorBudgetExceeded(
            f"{num_rejected} of {num_done} videos were rejected ({reasons}), a share above --max-error-rate "
            f"{max_error_rate:g}"
        )


def _rejected(counts: dict[str, float]) -> dict[str, int]:
    """Return the number of rejected videos by reject reason, from the counts of finished work."""
    return {name.split(":", 1)[1]: int(n) for name, n in sorted(counts.items()) if name.startswith("rejected:")}


def _progress(counts: dict[str, float], num_done_before: int) -> tuple[int, str]:
    """Return the number of finished videos and a text with the reject reasons, for the progress line.

    `counts`: finished work of this job. `num_done_before`: videos finished by earlier jobs.
    """
    num_done = num_done_before + int(counts.get("done", 0))
    return num_done, ", ".join(f"{name} {n}" for name, n in _rejected(counts).items())
