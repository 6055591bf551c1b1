"""The CNNs and the optional head (from features to predictions) of a job, for decoded videos. Free of Ray.

Shape suffixes: B videos, T frames, D features, S backbones (pretrained CNNs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import arrow, schema
from vidclf.backbones.engine import Engine
from vidclf.pipeline.embedder import BackboneEmbedder, merge_by_position
from vidclf.pipeline.job import BackboneSetup, Head, PipelineJob, RunSpec, StagedHead
from vidclf.video.sampling import evenly_spread


class VideoEmbedder:
    """The loaded CNNs and heads of a job. A head, such as an ensemble, turns features into the row to write."""

    def __init__(self, job: PipelineJob) -> None:
        """`job`: the runs (output directories) whose rows are computed. A call of `load_models` must follow."""
        self._job = job
        self._heads: list[Head | None] = []
        self._cnns: dict[str, BackboneEmbedder] = {}

    def load_models(self, device_name: str, engine_of: Callable[[BackboneSetup], Engine]) -> None:
        """Load the heads onto the device `device_name` (`cpu` or `cuda`), and the CNNs that `engine_of` returns."""
        self._heads = [
            target.make_head(device_name) if target.make_head is not None else None for target in self._job.targets
        ]
        transforms = self._job.transforms()
        for setup in self._job.embeddings:
            self._cnns[setup.spec.key] = BackboneEmbedder(setup, engine_of(setup), transforms)

    def take_not_finite(self) -> dict[str, str]:
        """Message by video id, of the videos with features that are not finite since the last call of this method.
        Their rows must not be used."""
        return {name: text for cnn in self._cnns.values() for name, text in cnn.take_not_finite().items()}

    def take_num_frames(self) -> int:
        """Number of frames whose features were computed since the last call of this method.

        A frame counts once, for any number of backbones.
        """
        return max(cnn.take_count() for cnn in self._cnns.values())

    def rows(self, ok: pa.Table) -> list[pa.Table]:
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


def most_trusted(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Return per video the row with the higher `trust_score`, in the order of `rows`.

    `others` holds second rows of some of the same videos. Where both scores are equal, the row of `rows` stays.
    """
    index = pc.index_in(rows[schema.VIDEO_ID], others[schema.VIDEO_ID].combine_chunks())
    is_better = pc.greater(others["trust_score"].take(index), rows["trust_score"])
    index = pc.if_else(pc.fill_null(is_better, False), pc.add(index, rows.num_rows), pa.array(np.arange(rows.num_rows)))
    return pa.concat_tables([rows, others]).take(index)
