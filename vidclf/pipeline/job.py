"""Description of a pipeline job: backbones, sampling, runs to write and an optional head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from vidclf import arrow, schema, storage
from vidclf.credentials import masked
from vidclf.features.spec import FeatureSpec
from vidclf.video.frame_transform import FrameTransform, FrameTransforms


class Head(Protocol):
    """Turns embedded videos into the rows to write, one for one: a table of `schema.features` for each of the
    target's backbones, of the same videos in the same order. Facts about a video are taken from the first; of
    the others the `features` alone."""

    @property
    def engine(self) -> str:
        """What runs it, as `torch cpu bf16`."""
        ...

    def __call__(self, embedded_S: Sequence[pa.Table], /) -> pa.Table: ...


class StagedHead(Head, Protocol):
    """A head that may be content with a few of a video's frames."""

    def early(self, embedded_S: Sequence[pa.Table], /) -> pa.Table:
        """The rows by these few frames. One whose `verdict` is `accepted` is written; of the other videos the
        head is shown all frames."""


@dataclass(frozen=True, kw_only=True)
class BackboneSetup:
    """A backbone with its weights, and the spec of the features that it makes."""

    spec: FeatureSpec
    weights: str
    """where they were taken from"""
    state: dict[str, Any]
    """the backbone's state dict as arrays"""

    @property
    def transform(self) -> FrameTransform:
        return FrameTransform(**self.spec.transform["transform"])


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One of the runs that a job fills: what its rows are made of."""

    name: str = ""
    """its directory in the job's output; empty where the output itself is the run"""
    embeddings: tuple[BackboneSetup, ...]
    """those that its head wants, in that order; one without a head"""
    output_schema: pa.Schema
    make_head: Callable[[str], Head] | None = None
    """called once in every CNN worker, with its device; None writes the features themselves"""
    ensemble_id: str | None = None
    classes: tuple[str, ...] = ()
    """the head's classes, in the order of its probabilities"""
    settings: dict[str, Any] = field(default_factory=dict)
    """what else decides the head's rows; a run is continued only with the same"""
    stated: dict[str, Any] = field(default_factory=dict)
    """what else `summary.json` of the run holds"""
    segments_schema: pa.Schema | None = None
    """of the rows in the run's `segments/`, which the head's rows carry in `schema.SEGMENTS_COLUMN`"""
    early_frames: int | None = None
    """frames of each video, evenly chosen from the sampled ones, that a `StagedHead` is shown first"""
    sharpen_blurry: bool = False
    """hand the head the sharpened frames of blurry videos too, and keep the row of higher trust"""
    directory: str | None = None
    """where the run is, unless in the job's output"""

    def run(self, output: str) -> str:
        """The run's directory."""
        if self.directory is not None:
            return self.directory
        return storage.join(output, self.name) if self.name else output

    @property
    def specs(self) -> list[FeatureSpec]:
        return [embedding.spec for embedding in self.embeddings]

    def identity(self) -> dict[str, Any]:
        """What `run_identity.json` says."""
        return {
            "feature_key": "+".join(spec.key for spec in self.specs),
            "feature_specs": [vars(spec) for spec in self.specs],
            "weights": [masked(embedding.weights) for embedding in self.embeddings],
            "ensemble_id": self.ensemble_id,
            "classes": list(self.classes),
            "settings": self.settings,
            "columns": arrow.column_types(self.output_schema),
            **({"segment_columns": arrow.column_types(self.segments_schema)} if self.segments_schema else {}),
        }

    @property
    def row_schema(self) -> pa.Schema:
        """A row until it is written: with its segments, where there are any."""
        if self.segments_schema is None:
            return self.output_schema
        return self.output_schema.append(schema.segments_field(len(self.classes)))


@dataclass(frozen=True, kw_only=True)
class PipelineJob:
    """What to do with every video of a manifest."""

    targets: tuple[RunSpec, ...]
    """of one sampling plan; their runs are done together, video by video"""

    def runs(self, output: str) -> list[str]:
        return [target.run(output) for target in self.targets]

    @property
    def embeddings(self) -> list[BackboneSetup]:
        """What the targets take, each once."""
        return list({e.spec.key: e for target in self.targets for e in target.embeddings}.values())

    def transforms(self) -> FrameTransforms:
        """What the targets' CNNs want to see, each once."""
        return FrameTransforms(tuple(dict.fromkeys(embedding.transform for embedding in self.embeddings)))

    def without_states(self) -> PipelineJob:
        """The same without weights, which are big and travel by themselves."""
        bare = {e.spec.key: replace(e, state={}) for e in self.embeddings}
        return PipelineJob(
            targets=tuple(replace(t, embeddings=tuple(bare[spec.key] for spec in t.specs)) for t in self.targets)
        )
