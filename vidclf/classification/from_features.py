"""The `classify` job over stored features: only the ensemble runs, no video is decoded. [Ray Data]

feature shards ─▶ skip finished ─▶ head (ensemble on GPU or CPU) ─▶ part-* | quarantine/part-* (rejected videos)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from vidclf import arrow, device, event_log, ray_cluster, schema, storage
from vidclf.config import PipelineConfig
from vidclf.features.columns import are_finite
from vidclf.features.lookup import FeatureLookup
from vidclf.pipeline import graph
from vidclf.pipeline.job import PipelineJob, RunSpec
from vidclf.pipeline.pools import pool_sizes
from vidclf.pipeline.sink import target_column, written_columns
from vidclf.runs import reconcile
from vidclf.runs.layout import Run
from vidclf.runs.newest_manifest import NewestManifest
from vidclf.runs.state import RunState, manifest_ids, one_array
from vidclf.runs.summary import Performance
from vidclf.schema import RejectReason

VIDEOS_PER_BATCH = 64
"""Number of videos that the ensemble classifies per call: 12 MB of features."""

QUARANTINE_FILE = "part-features.parquet"
"""File name of the shard with the videos that the extraction of the features had already rejected."""


def run_over_features(
    features: Sequence[str], config: PipelineConfig, job: PipelineJob, before: RunState
) -> Performance:
    """Classify the videos that `job` has not finished yet, from stored features; returns the job's performance figures.

    `features` has one feature directory per backbone of the ensemble, in the ensemble's order. `before` is the state of
    the output directory before the job.

    1. Read the Parquet files (shards) of the first feature directory: 1 row per video.
    2. Classify: 1 row out per unfinished row in. The ensemble runs in the workers that would otherwise run the CNN.
    3. Write the rows as shards, like every pipeline.
    """
    pools = pool_sizes(config, ray_cluster.connect())
    (target,) = job.targets
    run = target.run(config.output)
    _copy_quarantine(features[0], run, manifest_ids(run))
    pending_ids = one_array([storage.read_table(reconcile.to_read(config.output, [run]), [schema.VIDEO_ID])])
    tally = graph.prepare(config)

    paths = [storage.resolve(path)[1] for path in Run(features[0]).shards()]
    if not paths:
        return Performance(busy={})
    videos = ray.data.read_parquet(paths, filesystem=storage.resolve(features[0])[0], num_cpus=0)
    # The same video may be in another shard of the other runs, so each worker looks its rows up there.
    lookups = [FeatureLookup(Run(run).shards()) for run in features[1:]]
    videos = graph.map_in_actors(
        videos,
        ClassifyFeatures,
        {
            "target": target,
            "num_gpus": pools.cnn_gpus,
            "lookups": [ray.put(lookups)],
            "newest": [ray.put(NewestManifest(features[0]))],
            "pending_ids": [ray.put(pending_ids)],
            "tally": tally,
            "logs_events": config.json_logs,
        },
        batch_size=VIDEOS_PER_BATCH,
        num_workers=pools.embedding_workers,
        num_cpus=pools.cnn_cpus,
        num_gpus=pools.cnn_gpus,
        env_vars=ray_cluster.CPU_WORKER_ENV if pools.cnn_gpus == 0 else None,
    )
    num_workers = {"head": pools.embedding_workers}
    return graph.run(videos, config=config, job=job, before=before, tally=tally, num_workers=num_workers)


class ClassifyFeatures:
    """Ray worker that classifies stored features: the second stage of the job.

    In: rows of `schema.features`. Out: `written_columns`, 1 row per video that is not finished yet. A video with a
    feature that is not finite is rejected as `features_not_finite`.
    """

    def __init__(
        self,
        target: RunSpec,
        num_gpus: float,
        lookups: list[Any],
        newest: list[Any],
        pending_ids: list[Any],
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        """Load the ensemble of `target` onto the GPU, or onto the CPU if `num_gpus` is 0.

        `num_gpus` is the share of a GPU that Ray reserved for this worker. `lookups`, `newest` and `pending_ids` are
        lists with one Ray reference each: to the rows of the other backbones, to the newest manifest of the features
        and to the ids of the videos to classify. The references are in lists, so that Ray passes them on instead of the
        objects.
        """
        assert target.make_head is not None
        with ray_cluster.refusals_told(tally):
            self._head = target.make_head(device.claim(num_gpus))
        tally.add.remote({f"head_engine:{self._head.engine}": 1})
        self._target = target
        self._lookups: list[FeatureLookup] = ray.get(lookups[0])
        self._newest: NewestManifest = ray.get(newest[0])
        self._pending_ids = ray.get(pending_ids[0])
        self._tally = tally
        self._logs_events = logs_events
        self._columns = written_columns([target.row_schema])

    def __call__(self, batch: pa.Table) -> pa.Table:
        started = time.perf_counter()
        batch = self._newest.join(batch.filter(pc.is_in(batch[schema.VIDEO_ID], self._pending_ids)))
        if not batch.num_rows:
            return self._columns.empty_table()
        columns = schema.features(self._target.specs[0].feature_dim)
        batch = arrow.conform(arrow.completed(batch, columns), columns, "features")
        ids = batch[schema.VIDEO_ID].combine_chunks()
        embedded_S = [batch.drop_columns(schema.CARRIED), *(lookup(ids) for lookup in self._lookups)]
        carried = batch.select([schema.VIDEO_ID, *schema.CARRIED])
        reject_message_B = self._reject_messages(embedded_S)
        is_ok = pa.array([message is None for message in reject_message_B], pa.bool_())
        num_ok = pc.sum(is_ok).as_py()
        tables = []
        if num_ok:
            ok = carried
            # Filtering copies the features, so a batch without rejected rows is not filtered.
            if num_ok < batch.num_rows:
                embedded_S = [table.filter(is_ok) for table in embedded_S]
                ok = carried.filter(is_ok)
            rows = arrow.conform(self._head(embedded_S), self._target.row_schema, "output")
            columns = {name: ok[name] for name in ok.column_names}
            columns[target_column(0)] = pa.chunked_array([rows.to_struct_array().combine_chunks()])
            tables.append(self._written(columns))
        if num_ok < batch.num_rows:
            rejected = carried.filter(pc.invert(is_ok))
            columns = {name: rejected[name] for name in rejected.column_names}
            messages = [message for message in reject_message_B if message is not None]
            columns["reject_reason"] = pa.array([RejectReason.FEATURES_NOT_FINITE.value] * len(messages))
            columns["reject_message"] = pa.array(messages)
            tables.append(self._written(columns))
        self._count(batch[schema.VIDEO_ID].to_pylist(), reject_message_B, time.perf_counter() - started)
        return pa.concat_tables(tables)

    def _reject_messages(self, embedded_S: Sequence[pa.Table]) -> list[str | None]:
        """Per video of the tables, one per backbone, the message why it is rejected; None for a video that is not."""
        messages: list[str | None] = [None] * embedded_S[0].num_rows
        for spec, table in zip(self._target.specs, embedded_S, strict=True):
            for index in np.flatnonzero(~are_finite(table["features"])).tolist():
                messages[index] = f"the stored features of {spec.backbone} have values that are not finite"
        return messages

    def _written(self, columns: dict[str, pa.ChunkedArray | pa.Array]) -> pa.Table:
        """Table with `written_columns`; those that `columns` lacks are null."""
        num_rows = len(columns[schema.VIDEO_ID])
        return pa.table(
            {field.name: columns.get(field.name, pa.nulls(num_rows, field.type)) for field in self._columns}
        ).cast(self._columns)

    def _count(self, ids: Sequence[str], reject_message_B: Sequence[str | None], taken_s: float) -> None:
        """Add the videos `ids` of a batch to the counts of the job, and log an event for each of them."""
        outcomes = ["ok" if message is None else RejectReason.FEATURES_NOT_FINITE.value for message in reject_message_B]
        counts = {"done": len(ids), "ok": outcomes.count("ok"), "cnn_s": taken_s}
        if counts["ok"] < len(ids):
            counts[f"rejected:{RejectReason.FEATURES_NOT_FINITE}"] = len(ids) - counts["ok"]
        self._tally.add.remote(counts)
        if self._logs_events:
            for video_id, outcome in zip(ids, outcomes, strict=True):
                event_log.write("head", video_id, taken_s / len(ids), outcome)


def _copy_quarantine(features: str, run: str, video_ids: pa.Array) -> None:
    """Copy the rejections of `video_ids`, with their reasons, from the directory `features` into the output `run`."""
    tables = list(storage.iter_tables(Run(features).quarantine_shards(), schema.QUARANTINE.names))
    rows = pa.concat_tables(tables or [schema.QUARANTINE.empty_table()]).cast(schema.QUARANTINE)
    rows = rows.filter(pc.is_in(rows[schema.VIDEO_ID], video_ids))
    if rows.num_rows:
        storage.publish_table(storage.join(Run(run).quarantine_dir, QUARANTINE_FILE), rows)
