"""Classification of features that are stored already, without decoding. [Ray Data]"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy

from vidclf import arrow, device, event_log, ray_cluster, schema, storage
from vidclf.config import PipelineConfig
from vidclf.features.lookup import FeatureLookup
from vidclf.pipeline.graph import checkpointed_context, write
from vidclf.pipeline.job import PipelineJob, RunSpec
from vidclf.pipeline.pools import pool_sizes
from vidclf.pipeline.prometheus import PipelineMetrics
from vidclf.pipeline.sink import target_column, written_columns
from vidclf.runs import layout, reconcile
from vidclf.runs.state import RunState, asked_ids, one_array
from vidclf.runs.summary import Performance, counted
from vidclf.tally import Tally

VIDEOS_PER_BATCH = 64
"""Rows that the head takes at a time from a run of features: 12 MB of them."""

QUARANTINE_FILE = "part-features.parquet"
"""The quarantine of a run of features, taken over."""


def run_over_features(
    features: Sequence[str], config: PipelineConfig, job: PipelineJob, before: RunState
) -> Performance:
    """The whole graph over rows that are embedded already, in a run for each backbone."""
    resources = ray_cluster.connect()
    pools = pool_sizes(config, resources)
    (target,) = job.targets
    run = target.run(config.output)
    asked = asked_ids(run)
    _take_over_quarantine(features[0], run, asked)
    left = one_array([storage.read_table(reconcile.to_read(config.output, [run]), [schema.VIDEO_ID])])
    tally = Tally.start(partial(PipelineMetrics, config.output))
    checkpointed_context(config.output)

    # 1. The shards of the first run: 1 row a video.
    paths = [storage.resolve(path)[1] for path in layout.part_files(features[0])]
    if not paths:
        return Performance(busy={})
    videos = ray.data.read_parquet(paths, filesystem=storage.resolve(features[0])[0], num_cpus=0)
    # 2. The head: 1 row out per row in, of those that are left to do. As the CNN's workers. A worker reads
    #    the same videos' rows in the other runs by itself, since these may lie in other shards.
    others = [FeatureLookup(layout.part_files(run)) for run in features[1:]]
    videos = videos.map_batches(
        ClassifyFeatures,
        fn_constructor_kwargs={
            "target": target,
            "num_gpus": pools.cnn_gpus,
            "others": [ray.put(others)],
            "asked": [ray.put(left)],
            "tally": tally,
            "logs_events": config.json_logs,
        },
        batch_size=VIDEOS_PER_BATCH,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=pools.embedding_workers, max_tasks_in_flight_per_actor=2),
        num_cpus=pools.cnn_cpus,
        num_gpus=pools.cnn_gpus,
        runtime_env={"env_vars": ray_cluster.CPU_WORKER_ENV} if pools.cnn_gpus == 0 else None,
    )
    # 3. Write, as the extraction pipeline.
    elapsed_s, counts = write(config, job, before, videos, tally)
    head_s = counts.get("cnn_s", 0.0)
    return Performance(
        busy={"head": head_s / (elapsed_s * pools.embedding_workers)},
        worker_s={"head": head_s},
        head_engines=counted(counts, "head_engine"),
    )


class ClassifyFeatures:
    """Stage 2. In: `schema.features`. Out: `written_columns`."""

    def __init__(
        self,
        target: RunSpec,
        num_gpus: float,
        others: list[Any],
        asked: list[Any],
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        """`num_gpus`: what this worker reserved of a GPU, which decides the head's device."""
        assert target.make_head is not None
        with ray_cluster.refusals_told(tally):
            self._head = target.make_head(device.claim(num_gpus))
        tally.add.remote({f"head_engine:{self._head.engine}": 1})
        self._target = target
        # In lists, so that Ray hands over the references.
        self._others: list[FeatureLookup] = ray.get(others[0])
        self._asked = ray.get(asked[0])
        self._tally = tally
        self._logs_events = logs_events
        self._columns = written_columns([target.row_schema])

    def __call__(self, batch: pa.Table) -> pa.Table:
        started = time.perf_counter()
        batch = batch.filter(pc.is_in(batch[schema.VIDEO_ID], self._asked))
        if not batch.num_rows:
            return self._columns.empty_table()
        batch = arrow.conform(batch, schema.features(self._target.specs[0].feature_dim), "features")
        ids = batch[schema.VIDEO_ID].combine_chunks()
        rows = self._head([batch, *(lookup(ids) for lookup in self._others)])
        rows = arrow.conform(rows, self._target.row_schema, "output")
        columns = {name: batch[name] for name in (schema.VIDEO_ID, "video_uri")}
        columns[target_column(0)] = pa.chunked_array([rows.to_struct_array().combine_chunks()])
        for name in ("reject_reason", "reject_message"):
            columns[name] = pa.nulls(batch.num_rows, pa.string())
        taken_s = time.perf_counter() - started
        self._tally.add.remote({"done": batch.num_rows, "ok": batch.num_rows, "cnn_s": taken_s})
        if self._logs_events:
            for video_id in batch[schema.VIDEO_ID].to_pylist():
                event_log.write("head", video_id, taken_s / batch.num_rows, "ok")
        return pa.table(columns).select(self._columns.names).cast(self._columns)


def _take_over_quarantine(features: str, run: str, asked: pa.Array) -> None:
    """Videos that have no features for a reason have no prediction for the same reason."""
    tables = list(storage.iter_tables(layout.quarantine_files(features), schema.QUARANTINE.names))
    rows = pa.concat_tables(tables or [schema.QUARANTINE.empty_table()]).cast(schema.QUARANTINE)
    rows = rows.filter(pc.is_in(rows[schema.VIDEO_ID], asked))
    if rows.num_rows:
        storage.publish_table(storage.join(run, layout.QUARANTINE_DIR, QUARANTINE_FILE), rows)
