"""Description of a pipeline job: backbones (pretrained CNNs), sampling, output directories, and an optional head.

A head, such as an ensemble of classifiers, turns the features of a video into the row to write. Without a head, the
features are written themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from vidclf import arrow, schema, storage
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.credentials import masked
from vidclf.features.spec import FeatureSpec
from vidclf.video.frame_transform import FrameTransform, FrameTransforms
from vidclf.video.sampling import SamplingPlan


class Head(Protocol):
    """Last step of the pipeline, such as an ensemble: turns the features of videos into the rows to write.

    A head is called with one table of `schema.embedded` per backbone of the run, with the same videos in the same
    order, and returns 1 row of `RunSpec.row_schema` per video. Facts about a video come from the first table. From the
    other tables only `features` is used.
    """

    @property
    def engine(self) -> str:
        """Runtime, device and precision in which the head computes, as text, such as `torch cpu bf16`."""
        ...

    def __call__(self, embedded_S: Sequence[pa.Table], /) -> pa.Table: ...


class StagedHead(Head, Protocol):
    """A head (the step from features to predictions) that can decide on some videos after a few of their frames."""

    def early(self, embedded_S: Sequence[pa.Table], /) -> pa.Table:
        """Return rows from the features of a few frames per video.

        Rows with `verdict` `accepted` are written. For the other videos the head is called again with all frames.
        """


@dataclass(frozen=True, kw_only=True)
class BackboneSetup:
    """A backbone (pretrained CNN) with its weights, and the specification of the features that it computes."""

    spec: FeatureSpec
    weights: str
    """the value of `--weights`: a name, file or URI"""
    state: dict[str, Any]
    """the backbone's weights as arrays by name; empty if they are not read yet (`engines.state_of`), or not needed"""
    model: BackboneModel | None = None
    """the description from which workers build the backbone; None where stored features are read"""

    @property
    def transform(self) -> FrameTransform:
        """Scaling and cropping of frames that the backbone expects."""
        values = dict(self.spec.transform["transform"])
        if "fill" in values:
            values["fill"] = tuple(values["fill"])  # JSON has lists, and a transform must be hashable
        return FrameTransform(**values)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Description of one run (output directory) of a job.

    It names the location, the columns, and the backbones and the head (ensemble) that give the rows.
    """

    name: str = ""
    """name of the run's directory inside the job's output; empty where the output itself is the run"""
    embeddings: tuple[BackboneSetup, ...]
    """the backbones whose features the head (ensemble) takes, in this order; exactly one without a head"""
    output_schema: pa.Schema
    """columns of the Parquet files in the run"""
    make_head: Callable[[str], Head] | None = None
    """function that makes the head in a CNN worker from the worker's device; None writes the features themselves"""
    ensemble_id: str | None = None
    """id of the ensemble that serves as head; None for a run of features"""
    classes: tuple[str, ...] = ()
    """class names, in the order of the probabilities that the head gives"""
    settings: dict[str, Any] = field(default_factory=dict)
    """further settings that decide the rows that the head gives; a run is continued only with equal settings"""
    stated: dict[str, Any] = field(default_factory=dict)
    """further entries for the run's `summary.json`"""
    conclude: Callable[[str], dict[str, Any]] | None = None
    """function that computes further entries for `summary.json` from the finished run at a location; None for none"""
    segments_schema: pa.Schema | None = None
    """columns of the run's `segments/` files, 1 row per segment (part) of a video; None without segments. Until they
    are written, the column `schema.SEGMENTS_COLUMN` carries the segments of a video."""
    early_frames: int | None = None
    """number of frames per video for the first call of a `StagedHead`, evenly spread over the sampled frames"""
    sharpen_blurry: bool = False
    """call the head again with sharpened frames of blurry videos, and keep the row with the higher trust score"""
    directory: str | None = None
    """location of the run if it is outside the job's output; None if it is inside"""

    def run(self, output: str) -> str:
        """Return the location of this output directory, for a job with `--output` `output`."""
        if self.directory is not None:
            return self.directory
        return storage.join(output, self.name) if self.name else output

    @property
    def specs(self) -> list[FeatureSpec]:
        """Feature specification (what was computed and how) of each backbone, in the order of the head's input."""
        return [setup.spec for setup in self.embeddings]

    def identity(self) -> dict[str, Any]:
        """Return the content of the run's `run_identity.json`: everything that decides the rows, and the columns.

        A job may continue a run only if both identities are equal.
        """
        return {
            "feature_key": "+".join(spec.key for spec in self.specs),
            "feature_specs": [spec.as_json() for spec in self.specs],
            "weights": [masked(setup.weights) for setup in self.embeddings],
            "ensemble_id": self.ensemble_id,
            "classes": list(self.classes),
            "settings": self.settings,
            "columns": arrow.column_types(self.output_schema),
            **({"segment_columns": arrow.column_types(self.segments_schema)} if self.segments_schema else {}),
        }

    @property
    def row_schema(self) -> pa.Schema:
        """Columns of a row as the CNN or the head computes it.

        They are those of `output_schema` except the columns that the row carries anyway (`schema.CARRIED`), and a
        column for segments if the run has segments. Label and sublabel are computed columns if the head has classes.
        """
        of_head = ("label", "sublabel") if self.classes else ()
        carried = [name for name in schema.CARRIED if name not in of_head]
        computed = pa.schema([column for column in self.output_schema if column.name not in carried])
        if self.segments_schema is None:
            return computed
        return computed.append(schema.segments_field(len(self.classes)))


@dataclass(frozen=True, kw_only=True)
class PipelineJob:
    """All runs (output directories) that a job fills while it decodes every video only once."""

    targets: tuple[RunSpec, ...]
    """the runs to fill; they share one sampling plan and are filled together, video by video"""

    def runs(self, output: str) -> list[str]:
        """Return the locations of the job's run directories, for a job with `--output` `output`."""
        return [target.run(output) for target in self.targets]

    @property
    def embeddings(self) -> list[BackboneSetup]:
        """The backbones (pretrained CNNs) of all runs, each once."""
        return list({setup.spec.key: setup for target in self.targets for setup in target.embeddings}.values())

    @property
    def plan(self) -> SamplingPlan:
        """The sampling plan (which frames of a video are used), which all runs share."""
        return self.embeddings[0].spec.plan

    def transforms(self) -> FrameTransforms:
        """The scalings and crops of frames that the backbones expect, each once."""
        return FrameTransforms(tuple(dict.fromkeys(setup.transform for setup in self.embeddings)))

    def without_states(self) -> PipelineJob:
        """Return the same job without the backbones' weights, which are large and reach the workers separately."""
        bare = {setup.spec.key: replace(setup, state={}) for setup in self.embeddings}
        targets = (
            replace(target, embeddings=tuple(bare[spec.key] for spec in target.specs)) for target in self.targets
        )
        return PipelineJob(targets=tuple(targets))
