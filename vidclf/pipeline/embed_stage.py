"""The CNN stage of the pipeline, alone or in one worker with the decode stage: features or predictions out. [Ray]

Shape suffixes: B videos, T frames, H W pixels, D features, S backbones (pretrained CNNs).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from vidclf import arrow, device, event_log, ray_cluster, schema
from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.embedder import BackboneEmbedder, merge_by_position
from vidclf.pipeline.engines import load_engine
from vidclf.pipeline.job import Head, PipelineJob, RunSpec, StagedHead
from vidclf.pipeline.sink import target_column, written_columns
from vidclf.schema import RejectReason
from vidclf.video.decoder_process import DecodeLimits
from vidclf.video.sampling import evenly_spread

VIDEOS_AT_ONCE = 4
"""Number of videos per batch for the CNN and the head (the step from features to predictions) in `DecodeAndEmbed`.

The head's small matrix products cost almost as much as large ones.
"""


class EmbedVideos:
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
        self._job = job
        self._tally = tally
        self._logs_events = logs_events
        self._columns = written_columns([target.row_schema for target in job.targets])
        self._cnns: dict[str, BackboneEmbedder] = {}
        with ray_cluster.refusals_told(tally):
            self._load(device.claim(num_gpus), networks, precision)

    def _load(self, device_name: str, networks: dict[str, Any], precision: str) -> None:
        job, tally = self._job, self._tally
        self._heads = [
            target.make_head(device_name) if target.make_head is not None else None for target in job.targets
        ]
        for head in self._heads:
            if head is not None:
                tally.add.remote({f"head_engine:{head.engine}": 1})
        # The references are in a dictionary, so that Ray passes them on unresolved. All workers of a node then share
        # the arrays.
        transforms = job.transforms()
        for setup in job.embeddings:
            spec = setup.spec
            network = ray.get(networks[spec.key])
            cnn = load_engine(network, spec.backbone, setup.weights, device_name, precision)
            self._cnns[spec.key] = BackboneEmbedder(setup, cnn, transforms)
            tally.add.remote({f"cnn_engine:{cnn.name}": 1})

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
        if ok.num_rows:
            columns = {name: ok[name] for name in common_columns}
            for index, rows in enumerate(self._rows(ok.drop_columns(schema.CARRIED))):
                columns[target_column(index)] = pa.chunked_array([rows.to_struct_array().combine_chunks()])
            embedded = pa.table(columns).select(self._columns.names).cast(self._columns)
            not_finite = {name: text for cnn in self._cnns.values() for name, text in cnn.take_not_finite().items()}
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
            # A frame counts once, for any number of backbones.
            "frames_embedded": max(cnn.take_count() for cnn in self._cnns.values()),
        }
        for reason in rejected["reject_reason"].to_pylist():
            counts[f"rejected:{reason}"] = counts.get(f"rejected:{reason}", 0) + 1
        self._tally.add.remote(counts)
        if self._logs_events:
            for video_id in ok[schema.VIDEO_ID].to_pylist():
                event_log.write("cnn", video_id, counts["cnn_s"] / ok.num_rows, "ok")
        return pa.concat_tables(tables) if tables else self._columns.empty_table()

    def _rows(self, ok: pa.Table) -> list[pa.Table]:
        """Return one table per run (output directory) of the job, with its computed rows for the decoded videos `ok`.

        The columns are those of `RunSpec.row_schema`. Runs with the same CNN share its features.
        """
        embedded: dict[str, pa.Table] = {}
        written = []
        for target, head in zip(self._job.targets, self._heads, strict=True):
            if target.early_frames is not None:
                rows = self._staged_rows(target, cast(StagedHead, head), ok)
            else:
                for key in {spec.key for spec in target.specs} - embedded.keys():
                    embedded[key] = self._cnns[key](ok)
                embedded_S = [embedded[spec.key] for spec in target.specs]
                rows = embedded_S[0] if head is None else head(embedded_S)
            if target.sharpen_blurry:
                assert head is not None
                rows = self._with_sharpened(target, head, ok, rows)
            written.append(arrow.conform(rows, target.row_schema, "output"))
        return written

    def _staged_rows(self, target: RunSpec, head: StagedHead, ok: pa.Table) -> pa.Table:
        """Return the rows to write for the videos `ok` with a head (last step) that can decide early.

        The head first sees a few frames of every video. If it does not accept its prediction for a video, it sees all
        frames of that video.
        """
        assert target.early_frames is not None
        lengths = ok["num_frames"].to_pylist()
        early_B = [evenly_spread(length, target.early_frames) for length in lengths]
        cnns = [self._cnns[spec.key] for spec in target.specs]
        few_S = [cnn.features(ok, early_B) for cnn in cnns]
        early = head.early([cnn.rows(ok, few_B, early_B) for cnn, few_B in zip(cnns, few_S, strict=True)])
        is_undecided = pc.not_equal(early["verdict"], schema.Verdict.ACCEPTED)
        undecided_B = np.flatnonzero(is_undecided.to_numpy())
        if not len(undecided_B):
            return early
        # Features of the early frames are not computed again.
        undecided = ok.take(undecided_B) if len(undecided_B) < ok.num_rows else ok
        others_B = [np.setdiff1d(np.arange(lengths[video]), early_B[video]) for video in undecided_B]
        whole_S = []
        for cnn, few_B in zip(cnns, few_S, strict=True):
            rest_B = cnn.features(undecided, others_B)
            whole_B = [
                merge_by_position(few_B[video], early_B[video], rest_TD, others)
                for video, rest_TD, others in zip(undecided_B, rest_B, others_B, strict=True)
            ]
            whole_S.append(cnn.rows(undecided, whole_B))
        row_B = np.arange(ok.num_rows)
        row_B[undecided_B] = ok.num_rows + np.arange(len(undecided_B))
        return pa.concat_tables([early, head(whole_S)]).take(row_B)

    def _with_sharpened(self, target: RunSpec, head: Head, ok: pa.Table, rows: pa.Table) -> pa.Table:
        """Classify blurry videos a second time with sharpened frames.

        Returns `rows`, in which a blurry video has its second row if that row has a higher trust score. `ok`: the
        decoded videos. `target`, `head`: the run and the classifier that gave `rows`.
        """
        is_blurry = rows["is_blurry"]
        if not pc.any(is_blurry).as_py():
            return rows
        blurry = ok.filter(is_blurry)
        sharpened = head([self._cnns[spec.key](blurry, is_sharpened=True) for spec in target.specs])
        position = sharpened.column_names.index("sharpened")
        sharpened = sharpened.set_column(position, "sharpened", pa.array([True] * sharpened.num_rows))
        return most_trusted(rows, sharpened)


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


def most_trusted(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Return per video the row with the higher `trust_score`, in the order of `rows`.

    `others` holds second rows of some of the same videos. Where both scores are equal, the row of `rows` stays.
    """
    index = pc.index_in(rows[schema.VIDEO_ID], others[schema.VIDEO_ID].combine_chunks())
    is_better = pc.greater(others["trust_score"].take(index), rows["trust_score"])
    index = pc.if_else(pc.fill_null(is_better, False), pc.add(index, rows.num_rows), pa.array(np.arange(rows.num_rows)))
    return pa.concat_tables([rows, others]).take(index)


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
