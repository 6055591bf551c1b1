"""The CNN stage of the pipeline, alone or in one worker with the decode stage: features or predictions out. [Ray]"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from vidclf import device, event_log, ray_cluster, schema
from vidclf.backbones.engine import Engine
from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.engines import described, load_engine
from vidclf.pipeline.job import BackboneSetup, PipelineJob
from vidclf.pipeline.sink import target_column, written_columns
from vidclf.pipeline.video_embedder import VideoEmbedder
from vidclf.schema import RejectReason
from vidclf.video.decoder_process import DecodeLimits

VIDEOS_AT_ONCE = 4
"""Number of videos per batch for the CNN and the head (the step from features to predictions) in `DecodeAndEmbed`.

The head's small matrix products cost almost as much as large ones.
"""


class EmbedVideos(VideoEmbedder):
    """Stage 3 of the pipeline: the CNNs and the optional head (from features to predictions). 1 row out per row in.

    In: `schema.decoded`. Out: `written_columns`; the rows of decoded videos of a batch come first, then those of
    rejected videos.
    """

    def __init__(
        self,
        job: PipelineJob,
        networks: dict[str, Any],
        precision: str,
        num_gpus: float,
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        """`networks`: by feature key (digest of backbone and sampling), a reference to the input of `load_engine`.

        `job`: the output directories to fill. `precision`: of the CNNs. `num_gpus`: the share of a GPU that this
        worker reserved; 0 means the CPU. `tally`: a `Tally` actor that counts finished work. `logs_events`: write a
        JSON line per video to standard output.
        """
        super().__init__(job)
        self._tally = tally
        self._logs_events = logs_events
        self._columns = written_columns([target.row_schema for target in job.targets])
        with ray_cluster.refusals_told(tally):
            self._load(device.claim(num_gpus), networks, precision)

    def _load(self, device_name: str, networks: dict[str, Any], precision: str) -> None:
        def engine_of(setup: BackboneSetup) -> Engine:
            # The references are in a dictionary, so that Ray passes them on unresolved. All workers of a node then
            # share the arrays.
            network = ray.get(networks[setup.spec.key])
            cnn = load_engine(network, described(setup), device_name, precision)
            self._tally.add.remote({f"cnn_engine:{cnn.name}": 1})
            return cnn

        self.load_models(device_name, engine_of)
        for head in self._heads:
            if head is not None:
                self._tally.add.remote({f"head_engine:{head.engine}": 1})

    def __call__(self, batch: pa.Table) -> pa.Table:
        with ray_cluster.refusals_told(self._tally):
            return self._embed_batch(batch)

    def _embed_batch(self, batch: pa.Table) -> pa.Table:
        started = time.perf_counter()
        is_ok = pc.is_null(batch["reject_reason"])
        # Filtering copies the frames, so a batch without rejected rows is not filtered.
        ok = batch if pc.all(is_ok).as_py() else batch.filter(is_ok)
        rejected = batch.filter(pc.invert(is_ok))
        common_columns = [name for name in self._columns.names if name in batch.column_names]
        tables = []
        not_finite: dict[str, str] = {}
        if ok.num_rows:
            columns = {name: ok[name] for name in common_columns}
            for index, rows in enumerate(self.rows(ok.drop_columns(schema.CARRIED))):
                columns[target_column(index)] = pa.chunked_array([rows.to_struct_array().combine_chunks()])
            embedded = pa.table(columns).select(self._columns.names).cast(self._columns)
            not_finite = self.take_not_finite()
            if not_finite:
                is_finite = pc.invert(pc.is_in(ok[schema.VIDEO_ID], pa.array(list(not_finite), pa.string())))
                rejected = pa.concat_tables([rejected, _rejected(ok.filter(pc.invert(is_finite)), not_finite)])
                ok, embedded = ok.filter(is_finite), embedded.filter(is_finite)
            tables.append(embedded)
        if rejected.num_rows:
            tables.append(_with_null_columns(rejected, self._columns))
        counts = {
            "done": batch.num_rows,
            "ok": ok.num_rows,
            "cnn_s": time.perf_counter() - started,
            "frames_embedded": self.take_num_frames(),
        }
        for reason in rejected["reject_reason"].to_pylist():
            counts[f"rejected:{reason}"] = counts.get(f"rejected:{reason}", 0) + 1
        self._tally.add.remote(counts)
        if self._logs_events:
            outcomes = dict.fromkeys(ok[schema.VIDEO_ID].to_pylist(), "ok")
            outcomes |= dict.fromkeys(not_finite, RejectReason.FEATURES_NOT_FINITE.value)
            for video_id, outcome in outcomes.items():
                event_log.write("cnn", video_id, counts["cnn_s"] / len(outcomes), outcome)
        return pa.concat_tables(tables) if tables else self._columns.empty_table()


class DecodeAndEmbed:
    """Stages 2 and 3 of the pipeline (decoding, then CNN and head) in one worker. 1 row out per row in.

    In: `schema.MANIFEST`. Out: the columns of `EmbedVideos`, one table per group of `VIDEOS_AT_ONCE` videos.

    It serves pipelines without GPUs. There, one process that alternates between decoding and the CNN keeps its core's
    caches and passes its frames to no other process. A decode worker and a CNN worker per core, with the object store
    between them, took a quarter more CPU time for the same videos. With GPUs the stages are separate, because CPUs of
    other machines can decode for them.
    """

    def __init__(
        self,
        *,
        job: PipelineJob,
        limits: DecodeLimits,
        networks: dict[str, Any],
        precision: str,
        num_gpus: float,
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        """The arguments of `DecodeVideos` and `EmbedVideos`; sampling plan and frame transforms come from `job`."""
        # The decoder process comes first, so that it starts while the CNN loads.
        self._decode = DecodeVideos(job.plan, job.transforms(), limits, tally, logs_events)
        self._embed = EmbedVideos(job, networks, precision, num_gpus, tally, logs_events)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for row in self._decode(batch):
            waiting.append(row)
            if len(waiting) == VIDEOS_AT_ONCE:
                yield self._embed(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            yield self._embed(pa.concat_tables(waiting))


def _rejected(videos: pa.Table, messages: dict[str, str]) -> pa.Table:
    """`videos` as rejected rows, with the message of each video id."""
    texts = [messages[video_id] for video_id in videos[schema.VIDEO_ID].to_pylist()]
    values = {"reject_reason": [RejectReason.FEATURES_NOT_FINITE.value] * len(texts), "reject_message": texts}
    for name, column in values.items():
        videos = videos.set_column(
            videos.column_names.index(name), videos.schema.field(name), pa.array(column, pa.string())
        )
    return videos


def _with_null_columns(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """Return `table` with exactly the columns `columns`; those that `table` lacks are filled with nulls."""
    return pa.table(
        [table[f.name] if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in columns],
        schema=columns,
    )
