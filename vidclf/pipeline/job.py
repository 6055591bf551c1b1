"""Description of a pipeline job: backbones, sampling, runs to write, and an optional head.

A head turns the features of a video into the row to write, such as a prediction. Without a head, the features are
written themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from vidclf import arrow, schema, storage
from vidclf.credentials import masked
from vidclf.features.spec import FeatureSpec
from vidclf.video.frame_transform import FrameTransform, FrameTransforms
from vidclf.video.sampling import SamplingPlan


class Head(Protocol):
    """Turns embedded videos into the rows to write, 1 row out per video in.

    It is called with one table of `schema.features` per backbone of the run, with the same videos in the same order.
    Facts about a video come from the first table. From the other tables only `features` is used.
    """

    @property
    def engine(self) -> str:
        """Runtime, device and precision, such as `torch cpu bf16`."""
        ...

    def __call__(self, embedded_S: Sequence[pa.Table], /) -> pa.Table: ...


class StagedHead(Head, Protocol):
    """A head that can decide on some videos after a few of their frames."""

    def early(self, embedded_S: Sequence[pa.Table], /) -> pa.Table:
        """Rows from these few frames. Rows with `verdict` `accepted` are written; the head is called again with all
        frames of the other videos."""


@dataclass(frozen=True, kw_only=True)
class BackboneSetup:
    """A backbone with its weights, and the spec of the features that it computes."""

    spec: FeatureSpec
    weights: str
    """the value of `--weights`: a name, file or URI"""
    state: dict[str, Any]
    """the backbone's state dict as arrays"""

    @property
    def transform(self) -> FrameTransform:
        """The resizing and cropping of frames that the backbone expects."""
        return FrameTransform(**self.spec.transform["transform"])


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run directory of a job: its location, its columns, and the backbones and head that fill it."""

    name: str = ""
    """name of the run's directory inside the job's output; empty where the output itself is the run"""
    embeddings: tuple[BackboneSetup, ...]
    """the backbones whose features the head takes, in this order; exactly one without a head"""
    output_schema: pa.Schema
    """columns of the run's shards"""
    make_head: Callable[[str], Head] | None = None
    """makes the head in each CNN worker, from the worker's device; None writes the features themselves"""
    ensemble_id: str | None = None
    """the ensemble of the head; None for a run of features"""
    classes: tuple[str, ...] = ()
    """class names, in the order of the head's probabilities"""
    settings: dict[str, Any] = field(default_factory=dict)
    """further settings that decide the head's rows; a run is continued only with equal settings"""
    stated: dict[str, Any] = field(default_factory=dict)
    """further keys of the run's `summary.json`"""
    segments_schema: pa.Schema | None = None
    """columns of the run's `segments/` shards; the head's rows carry segments in `schema.SEGMENTS_COLUMN`"""
    early_frames: int | None = None
    """number of frames per video for a `StagedHead`'s first call, evenly spread over the sampled frames"""
    sharpen_blurry: bool = False
    """for blurry videos, call the head with sharpened frames too, and keep the row with the higher trust score"""
    directory: str | None = None
    """location of the run where it is outside the job's output"""

    def run(self, output: str) -> str:
        """The location of the run's directory, for a job that writes to `output`."""
        if self.directory is not None:
            return self.directory
        return storage.join(output, self.name) if self.name else output

    @property
    def specs(self) -> list[FeatureSpec]:
        """The feature spec of each backbone, in the head's order."""
        return [setup.spec for setup in self.embeddings]

    def identity(self) -> dict[str, Any]:
        """The content of `run_identity.json`: everything that decides the run's rows, and their columns."""
        return {
            "feature_key": "+".join(spec.key for spec in self.specs),
            "feature_specs": [vars(spec) for spec in self.specs],
            "weights": [masked(setup.weights) for setup in self.embeddings],
            "ensemble_id": self.ensemble_id,
            "classes": list(self.classes),
            "settings": self.settings,
            "columns": arrow.column_types(self.output_schema),
            **({"segment_columns": arrow.column_types(self.segments_schema)} if self.segments_schema else {}),
        }

    @property
    def row_schema(self) -> pa.Schema:
        """Columns of a row inside the pipeline: `output_schema`, and a segments column where the run has segments."""
        if self.segments_schema is None:
            return self.output_schema
        return self.output_schema.append(schema.segments_field(len(self.classes)))


@dataclass(frozen=True, kw_only=True)
class PipelineJob:
    """The runs that a job fills from one decoding of every video."""

    targets: tuple[RunSpec, ...]
    """the runs; they share one sampling plan and are filled together, video by video"""

    def runs(self, output: str) -> list[str]:
        """Locations of the run directories, for a job that writes to `output`."""
        return [target.run(output) for target in self.targets]

    @property
    def embeddings(self) -> list[BackboneSetup]:
        """The backbones of all runs, each once."""
        return list({setup.spec.key: setup for target in self.targets for setup in target.embeddings}.values())

    @property
    def plan(self) -> SamplingPlan:
        """The sampling plan of all runs."""
        return self.embeddings[0].spec.plan

    def transforms(self) -> FrameTransforms:
        """The transforms that the backbones expect, each once."""
        return FrameTransforms(tuple(dict.fromkeys(setup.transform for setup in self.embeddings)))

    def without_states(self) -> PipelineJob:
        """The same job without weights, which are large and reach the workers separately."""
        bare = {setup.spec.key: replace(setup, state={}) for setup in self.embeddings}
        targets = (
            replace(target, embeddings=tuple(bare[spec.key] for spec in target.specs)) for target in self.targets
        )
        return PipelineJob(targets=tuple(targets))
