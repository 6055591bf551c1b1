"""Classifying features that are stored already: a features directory, or the reference system's HDF5.

The same head as in a classification job; nothing is decoded.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidclf import arrow, device, ray_cluster, schema, storage
from vidclf.archive.manifest import video_id
from vidclf.classification.compatibility import fitted_runs
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.config import EvaluateConfig
from vidclf.ensemble import calibration_file
from vidclf.ensemble.info import EnsembleInfo, mode, read_info
from vidclf.errors import ConfigError
from vidclf.features import hdf5
from vidclf.features.columns import features_column
from vidclf.features.hdf5 import SplitFeatures
from vidclf.features.lookup import FeatureLookup
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.gpu_worker import OnWorker
from vidclf.runs.layout import Run
from vidclf.uncertainty.risk_threshold import RiskThreshold

VIDEOS_AT_A_TIME = 128
"""Rows of features in memory besides a shard's own: 128 × 73 × 1280 × 2 bytes = 24 MB."""


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Labelled features of one split or all, and what is known of how they were made."""

    batches: Iterator[list[pa.Table]]
    """for each of the ensemble's backbones a table of the same videos: of `schema.features`, without the
    columns that the source does not hold"""
    manifest: pa.Table
    """`schema.MANIFEST` of the same videos"""
    specs: list[FeatureSpec]
    """of each backbone; empty for HDF5, which does not say"""
    summary: dict[str, Any] | None
    """`summary.json` of the extraction"""


def open_features(locations: Sequence[str], split: str, info: EnsembleInfo) -> StoredFeatures:
    """The features at `locations`, a directory for each backbone or an HDF5 file, to be classified by the
    ensemble of `info`.

    Raises ConfigError where they are not finished or labelled, or the ensemble was fitted to others.
    """
    files = [location for location in locations if location.endswith((".h5", ".hdf5"))]
    if not files:
        return _open_runs(fitted_runs(locations, info), split)
    if len(locations) > 1 or len(info.backbones) > 1:
        raise ConfigError(
            f"--features {','.join(locations)}: an HDF5 file must be all there is, for an ensemble of one backbone; "
            f"this one was fitted on {', '.join(info.backbone_names)}, give a directory of features for each"
        )
    return _open_hdf5(files[0], split, info)


def threshold(config: EvaluateConfig) -> RiskThreshold:
    """The trust score from which on a classification with the same flags would accept."""
    assert config.ensemble is not None  # says EvaluateConfig
    trust = calibration_file.read_trust(config.ensemble, read_info(config.ensemble))
    return trust.threshold(mode(config.tta), config.abstain_risk, config.accept_uncertified)


def predictions(features: StoredFeatures, config: EvaluateConfig, found: RiskThreshold, num_classes: int) -> pa.Table:
    """One row of `schema.stored_predictions` for each video of `features`, accepted from `found` on."""
    head = _head(config, found)
    columns = schema.stored_predictions(num_classes)
    parts = []
    for batch in features.batches:
        rows = head(batch)
        unknown = [field for field in columns if field.name not in rows.column_names and field.nullable]
        for field in unknown:
            rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
        parts.append(arrow.conform(rows, columns, "predictions"))
    return pa.concat_tables(parts)


def _head(config: EvaluateConfig, found: RiskThreshold) -> Callable[[list[pa.Table]], pa.Table]:
    """What a classification with the same flags would decide by: here, in float32, or with a share of a GPU in a
    worker, in TF32."""
    assert config.ensemble is not None  # says EvaluateConfig
    directory = storage.canonical(config.ensemble)
    settings = HeadSettings(tta=config.tta, trust_threshold=found.threshold, segments_s=None)
    make = partial(_head_on, config.gpus, directory, settings)
    if not config.gpus:
        return make()
    ray_cluster.check_gpus("--gpus", config.gpus, ray_cluster.connect())
    return OnWorker(config.gpus, make)


def _head_on(gpus: float, directory: str, settings: HeadSettings) -> EnsembleHead:
    return EnsembleHead(directory, settings, device.claim(gpus), precision="fp32")


def _open_runs(runs: Sequence[str], split: str) -> StoredFeatures:
    location = runs[0]
    files = Run(location).shards()
    names = [name for name in schema.MANIFEST.names if name != "size_bytes"]
    told = pa.concat_tables([storage.read_table(path, [*names, "size_bytes"]) for path in files])
    manifest = told.select(schema.MANIFEST.names).filter(_in_split(told, split))
    if not manifest.num_rows:
        there = sorted({str(name) for name in told["split"].to_pylist()})
        raise ConfigError(f"--split {split}: no video of {location} is in it; its splits are {', '.join(there)}")
    return StoredFeatures(
        batches=_run_batches(files, split, [FeatureLookup(Run(run).shards()) for run in runs[1:]]),
        manifest=manifest,
        specs=[read_spec(run) for run in runs],
        summary=Run(location).summary() if Run(location).is_finished() else None,
    )


def _run_batches(files: list[str], split: str, others: Sequence[FeatureLookup]) -> Iterator[list[pa.Table]]:
    for table in storage.iter_tables(files, schema.features(1).names):
        chosen = table.filter(_in_split(table, split))
        for start in range(0, chosen.num_rows, VIDEOS_AT_A_TIME):
            rows = chosen.slice(start, VIDEOS_AT_A_TIME).combine_chunks()
            yield [rows, *(lookup(rows[schema.VIDEO_ID].combine_chunks()) for lookup in others)]


def _in_split(table: pa.Table, split: str) -> pa.Array:
    return pc.equal(table["split"], split) if split != "all" else pc.is_valid(table[schema.VIDEO_ID])


def _open_hdf5(location: str, split: str, info: EnsembleInfo) -> StoredFeatures:
    if split not in schema.SPLITS:
        raise ConfigError(f"--split must say which of {', '.join(schema.SPLITS)} the file {location} is, got {split!r}")
    named = posixpath.basename(location).split("_")[0]
    if named in schema.SPLITS and named != split:
        raise ConfigError(f"--split must be {named}, by the name of {location}, got {split!r}")
    if not storage.exists(location):
        raise ConfigError(f"--features {location}: no such file")
    content, (fitted,) = hdf5.read(location), info.backbones
    dims = sorted({rows_TD.shape[1] for rows_TD in content.features})
    if dims != [fitted.feature_dim]:
        raise ConfigError(
            f"--features {location}: must hold features of {fitted.feature_dim} dimensions, which the "
            f"ensemble was fitted on ({fitted.name}), holds {dims}"
        )
    uris = [f"{storage.canonical(location)}#{row}" for row in range(len(content.labels))]
    manifest = pa.table(
        {
            schema.VIDEO_ID: [video_id(uri) for uri in uris],
            "video_uri": uris,
            "label": [content.classes[label] for label in content.labels],
            "sublabel": pa.nulls(len(uris), pa.string()),
            # The file does not say which videos share a source: each counts as its own.
            "group": uris,
            "split": [split] * len(uris),
            "size_bytes": pa.nulls(len(uris), pa.int64()),
        },
        schema=schema.MANIFEST,
    )
    return StoredFeatures(batches=_hdf5_batches(content, manifest), manifest=manifest, specs=[], summary=None)


def _hdf5_batches(content: SplitFeatures, manifest: pa.Table) -> Iterator[list[pa.Table]]:
    for start in range(0, len(content.features), VIDEOS_AT_A_TIME):
        rows = content.features[start : start + VIDEOS_AT_A_TIME]
        table = manifest.slice(start, len(rows)).drop_columns(["size_bytes"])
        table = table.append_column("num_frames", pa.array([len(rows_TD) for rows_TD in rows], pa.int32()))
        halves = [rows_TD.astype("float16") for rows_TD in rows]
        yield [table.append_column("features", features_column(halves, rows[0].shape[1]))]
