"""The CNN stage of a pipeline: decoded rows in, rows to write out, of the features or of a head. [Ray]

Shape suffixes: B videos, T frames, H W pixels, D features.
"""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from vidclf import arrow, device, event_log, ray_cluster, schema
from vidclf.pipeline.embedder import BackboneEmbedder, interleaved
from vidclf.pipeline.engines import load_engine
from vidclf.pipeline.job import Head, PipelineJob, RunSpec, StagedHead
from vidclf.pipeline.sink import target_column, written_columns
from vidclf.video.sampling import evenly_spread


class EmbedVideos:
    """Stage 3. In: `schema.decoded`. Out: `written_columns`; ok rows first, then rejected ones."""

    def __init__(
        self,
        job: PipelineJob,
        networks: dict[str, Any],
        precision: str,
        num_gpus: float,
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        """`networks`: by feature key, a reference to what `conversions.loaded` takes. `num_gpus`: what this worker
        reserved of a GPU, which decides its device."""
        self._job = job
        self._tally = tally
        self._logs_events = logs_events
        self._columns = written_columns([target.row_schema for target in job.targets])
        self._cnns: dict[str, BackboneEmbedder] = {}
        with ray_cluster.refusals_told(tally):
            self._load(device.claim(num_gpus), networks, precision)

    def _load(self, own_device: str, networks: dict[str, Any], precision: str) -> None:
        job, tally = self._job, self._tally
        self._heads = [target.make_head(own_device) if target.make_head is not None else None for target in job.targets]
        for head in self._heads:
            if head is not None:
                tally.add.remote({f"head_engine:{head.engine}": 1})
        # The references are in a dictionary, so that Ray hands them over as they are and every worker of a
        # node shares the arrays.
        transforms = job.transforms()
        for embedding in job.embeddings:
            spec = embedding.spec
            network = ray.get(networks[spec.key])
            cnn = load_engine(network, spec.backbone, embedding.weights, own_device, precision)
            self._cnns[spec.key] = BackboneEmbedder(embedding, cnn, transforms)
            tally.add.remote({f"cnn_engine:{cnn.name}": 1})

    def __call__(self, batch: pa.Table) -> pa.Table:
        with ray_cluster.refusals_told(self._tally):
            return self._embedded(batch)

    def _embedded(self, batch: pa.Table) -> pa.Table:
        started = time.perf_counter()
        is_ok = pc.is_null(batch["reject_reason"])
        # Filtering copies the frames, so not where nothing is to be left out.
        ok = batch if pc.all(is_ok).as_py() else batch.filter(is_ok)
        rejected = batch.filter(pc.invert(is_ok))
        kept = [name for name in self._columns.names if name in batch.column_names]
        tables = []
        if ok.num_rows:
            columns = {name: ok[name] for name in kept}
            for index, rows in enumerate(self._rows(ok)):
                columns[target_column(index)] = pa.chunked_array([rows.to_struct_array().combine_chunks()])
            tables.append(pa.table(columns).select(self._columns.names).cast(self._columns))
        if rejected.num_rows:
            tables.append(_widen(rejected, self._columns))
        counts = {
            "done": batch.num_rows,
            "ok": ok.num_rows,
            "cnn_s": time.perf_counter() - started,
            # Of the videos: a frame counts once, however many backbones see it.
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
        """Each target's rows of some decoded videos; targets of one CNN share it."""
        embedded: dict[str, pa.Table] = {}
        written = []
        for target, head in zip(self._job.targets, self._heads, strict=True):
            if target.early_frames is not None:
                rows = self._staged_rows(target, cast(StagedHead, head), ok)
            else:
                for key in {spec.key for spec in target.specs} - embedded.keys():
                    embedded[key] = self._cnns[key](ok)
                own = [embedded[spec.key] for spec in target.specs]
                rows = own[0] if head is None else head(own)
            if target.sharpen_blurry:
                assert head is not None
                rows = self._with_sharpened(target, head, ok, rows)
            written.append(arrow.conform(rows, target.row_schema, "output"))
        return written

    def _staged_rows(self, target: RunSpec, head: StagedHead, ok: pa.Table) -> pa.Table:
        """The head's rows, from a few frames of each video where these are enough for it."""
        assert target.early_frames is not None
        lengths = ok["num_frames"].to_pylist()
        early_B = [evenly_spread(length, target.early_frames) for length in lengths]
        cnns = [self._cnns[spec.key] for spec in target.specs]
        few_S = [cnn.features(ok, early_B) for cnn in cnns]
        early = head.early([cnn.rows(ok, few_B, early_B) for cnn, few_B in zip(cnns, few_S, strict=True)])
        is_undecided = pc.not_equal(early["verdict"], schema.Verdict.ACCEPTED)
        left = np.flatnonzero(is_undecided.to_numpy())
        if not len(left):
            return early
        # The frames that were seen already are not computed again.
        undecided = ok.take(left) if len(left) < ok.num_rows else ok
        others_B = [np.setdiff1d(np.arange(lengths[video]), early_B[video]) for video in left]
        whole_S = []
        for cnn, few_B in zip(cnns, few_S, strict=True):
            rest_B = cnn.features(undecided, others_B)
            whole_B = [
                interleaved(few_B[video], early_B[video], rest, others)
                for video, rest, others in zip(left, rest_B, others_B, strict=True)
            ]
            whole_S.append(cnn.rows(undecided, whole_B))
        place = np.arange(ok.num_rows)
        place[left] = ok.num_rows + np.arange(len(left))
        return pa.concat_tables([early, head(whole_S)]).take(place)

    def _with_sharpened(self, target: RunSpec, head: Head, ok: pa.Table, rows: pa.Table) -> pa.Table:
        """The rows, with those of the sharpened frames in the place of blurry videos' that are trusted less."""
        is_blurry = rows["is_blurry"]
        if not pc.any(is_blurry).as_py():
            return rows
        blurry = ok.filter(is_blurry)
        others = head([self._cnns[spec.key](blurry, is_sharpened=True) for spec in target.specs])
        sharpened = others.column_names.index("sharpened")
        others = others.set_column(sharpened, "sharpened", pa.array([True] * others.num_rows))
        return most_trusted(rows, others)


def most_trusted(rows: pa.Table, others: pa.Table) -> pa.Table:
    """`rows`, with those of `others`, which are some of the same videos, in their place where their
    `trust_score` is higher."""
    place = pc.index_in(rows[schema.VIDEO_ID], others[schema.VIDEO_ID].combine_chunks())
    is_better = pc.greater(others["trust_score"].take(place), rows["trust_score"])
    place = pc.if_else(pc.fill_null(is_better, False), pc.add(place, rows.num_rows), pa.array(np.arange(rows.num_rows)))
    return pa.concat_tables([rows, others]).take(place)


def _widen(table: pa.Table, columns: pa.Schema) -> pa.Table:
    return pa.table(
        [table[f.name] if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in columns],
        schema=columns,
    )
