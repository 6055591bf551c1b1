"""Predictions for the labelled features of `jobs/evaluate.py --features`: feature directories or one HDF5 file.

The ensemble classifies them as in a classification job. No video is decoded.
"""

from __future__ import annotations

import posixpath
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import arrow, device, ray_cluster, schema, storage
from vidclf.archive.manifest import video_id
from vidclf.classification.compatibility import fitted_runs
from vidclf.classification.head import EnsembleHead, HeadSettings
from vidclf.config import EvaluateConfig
from vidclf.credentials import masked
from vidclf.ensemble import calibration_file
from vidclf.ensemble.held_out import Decision, decide
from vidclf.ensemble.info import EnsembleInfo, mode, read_info
from vidclf.ensemble.split_record import SplitRecord
from vidclf.errors import ConfigError
from vidclf.features import hdf5
from vidclf.features.columns import are_finite, features_column
from vidclf.features.hdf5 import SplitFeatures
from vidclf.features.lookup import FeatureLookup
from vidclf.features.near_duplicates import Means, means_in, video_means
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.gpu_worker import OnWorker
from vidclf.runs.layout import Run
from vidclf.runs.newest_manifest import NewestManifest
from vidclf.uncertainty import sublabel_threshold
from vidclf.uncertainty.risk_threshold import RiskThreshold

VIDEOS_AT_A_TIME = 128
"""Number of videos that the ensemble classifies at a time. Besides the Parquet file that is read, 128 × 73 × 1280 × 2
bytes = 24 MB are in memory."""


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Labelled features of one split or of all splits, with the records of their extraction."""

    batches: Iterator[list[pa.Table]]
    """lists of tables of `schema.features`, one table per backbone of the ensemble, all of the same videos; columns
    that the files do not hold are missing. The next batch raises ConfigError if it has a value that is not finite."""
    manifest: pa.Table
    """table of `schema.MANIFEST` with all videos of `batches`, and the splits of `decision`"""
    decision: Decision
    """splits of all videos in the files by the record of the ensemble"""
    specs: list[FeatureSpec]
    """how the features were made, one entry per backbone; empty for HDF5 files, which do not record this"""
    summary: dict[str, Any] | None
    """content of `summary.json` of the extraction; None if there is none"""


def open_features(locations: Sequence[str], split: str, info: EnsembleInfo, record: SplitRecord) -> StoredFeatures:
    """Open stored features for the ensemble of `info`, from one feature directory per backbone or from one HDF5 file.

    `split` is one of `schema.SPLITS` or `all`; an HDF5 file needs one of `schema.SPLITS`. The videos of a directory are
    in the splits that `record`, the record of the ensemble, gives them. An HDF5 file is read whole.

    Raises ConfigError if the extraction has not finished, if no video is in the split, or if the ensemble was fitted on
    other features.
    """
    files = [location for location in locations if location.endswith((".h5", ".hdf5"))]
    if not files:
        return _open_runs(fitted_runs(locations, info), split, record)
    if len(locations) > 1 or len(info.backbones) > 1:
        raise ConfigError(
            f"--features {','.join(locations)}: an HDF5 file must be given alone, for an ensemble of one backbone; "
            f"this one has {', '.join(info.backbone_names)}; give one directory of features per backbone"
        )
    return _open_hdf5(files[0], split, info, record)


def threshold(config: EvaluateConfig) -> RiskThreshold:
    """Trust threshold that a classification job with the same flags would use, with its evidence from validation."""
    assert config.ensemble is not None  # checked by EvaluateConfig
    trust = calibration_file.read_trust(config.ensemble, read_info(config.ensemble))
    return trust.threshold(mode(config.tta), config.abstain_risk, config.accept_uncertified)


def predictions(features: StoredFeatures, head: Callable[[list[pa.Table]], pa.Table], num_classes: int) -> pa.Table:
    """Table with one row of `schema.stored_predictions` per video of `features`; unknown columns are null."""
    columns = schema.stored_predictions(num_classes)
    parts = []
    for batch in features.batches:
        rows = head(batch)
        missing = [field for field in columns if field.name not in rows.column_names and field.nullable]
        for field in missing:
            rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
        parts.append(arrow.conform(rows, columns, "predictions"))
    return pa.concat_tables(parts)


def make_head(config: EvaluateConfig, risk_threshold: RiskThreshold) -> Callable[[list[pa.Table]], pa.Table]:
    """The ensemble as a callable from feature tables to predictions, as in a classification job with the same flags.

    Without `--gpus` it runs in this process in float32, otherwise in a worker with that share of a GPU in TF32. Raises
    ConfigError if the cluster has no such GPU.
    """
    assert config.ensemble is not None  # checked by EvaluateConfig
    directory = storage.canonical(config.ensemble)
    info = read_info(directory)
    trust = calibration_file.read_trust(directory, info)
    sets = trust.set_thresholds(mode(config.tta), len(info.classes), config.coverage)
    fine_sets = trust.sublabel_set_thresholds(mode(config.tta), info.hierarchy, config.coverage)
    if sets is not None:
        print(sets.text(info.classes), file=sys.stderr)
    sublabels = trust.sublabel_threshold(
        mode(config.tta), risk_threshold, config.abstain_risk, config.accept_uncertified
    )
    if sublabels is not None:
        print(sublabel_threshold.text(sublabels, config.abstain_risk), file=sys.stderr)
    settings = HeadSettings(
        tta=config.tta,
        trust_threshold=risk_threshold.threshold,
        segments_s=None,
        set_thresholds=sets.lowest_C if sets is not None else None,
        sublabel_set_thresholds=fine_sets.lowest_N if fine_sets is not None else None,
        sublabel_threshold=sublabels.threshold if sublabels is not None else None,
    )
    make = partial(_head_on, config.gpus, directory, settings)
    if not config.gpus:
        return make()
    ray_cluster.check_gpus("--gpus", config.gpus, ray_cluster.connect())
    return OnWorker(config.gpus, make)


def _head_on(gpus: float, directory: str, settings: HeadSettings) -> EnsembleHead:
    """Load the ensemble at `directory` into this process, onto its share `gpus` of a GPU, or the CPU if that is 0."""
    return EnsembleHead(directory, settings, device.claim(gpus), precision="fp32")


def _open_runs(runs: Sequence[str], split: str, record: SplitRecord) -> StoredFeatures:
    """Features of `split` from feature directories, one per backbone; the table of videos comes from the first one.

    Raises ConfigError if no video is in `split`.
    """
    location = runs[0]
    files = Run(location).shards()
    newest = NewestManifest(location)
    columns = [*schema.MANIFEST.names, "content_digest"]
    rows = newest.join(pa.concat_tables([storage.read_table(path, columns) for path in files]))
    decision = decide(rows, record, partial(means_in, files))
    manifest = decision.corrected(rows.select(schema.MANIFEST.names))
    if split != "all":
        manifest = manifest.filter(pc.equal(manifest["split"], split))
    if not manifest.num_rows:
        splits = Counter(str(name) for name in decision.splits)
        found = ", ".join(f"{name} {count}" for name, count in sorted(splits.items()))
        moved = decision.facts(decision.video_ids).moved_words
        raise ConfigError(
            f"--split {split}: no video of {location} is in it; its splits are {found}{f'; {moved}' if moved else ''}"
        )
    video_ids = manifest[schema.VIDEO_ID].combine_chunks()
    return StoredFeatures(
        batches=_finite(
            runs, _run_batches(files, video_ids, newest, [FeatureLookup(Run(run).shards()) for run in runs[1:]])
        ),
        manifest=manifest,
        decision=decision,
        specs=[read_spec(run) for run in runs],
        summary=Run(location).summary() if Run(location).is_finished() else None,
    )


def _run_batches(
    files: list[str], video_ids: pa.Array, newest: NewestManifest, others: Sequence[FeatureLookup]
) -> Iterator[list[pa.Table]]:
    """Iterator of batches of the videos `video_ids`, each a list with one table per backbone.

    Splits, labels and locations are those of the `newest` manifest.

    `others` find the rows of the other backbones by video id.
    """
    for table in map(newest.join, storage.iter_tables_of(files, schema.features(1))):
        selected = table.filter(pc.is_in(table[schema.VIDEO_ID], video_ids))
        for start in range(0, selected.num_rows, VIDEOS_AT_A_TIME):
            rows = selected.slice(start, VIDEOS_AT_A_TIME).combine_chunks()
            yield [rows, *(lookup(rows[schema.VIDEO_ID].combine_chunks()) for lookup in others)]


def _open_hdf5(location: str, split: str, info: EnsembleInfo, record: SplitRecord) -> StoredFeatures:
    """Features of one split from an HDF5 file, as the older system wrote them whose checkpoints vidclf reads.

    Raises ConfigError if the file is missing, or does not match `split` or the ensemble.
    """
    if split not in schema.SPLITS:
        raise ConfigError(f"--split must be one of {', '.join(schema.SPLITS)} for the file {location}, got {split!r}")
    split_in_name = posixpath.basename(location).split("_")[0]
    if split_in_name in schema.SPLITS and split_in_name != split:
        raise ConfigError(f"--split must be {split_in_name}, as in the name of {location}, got {split!r}")
    if not storage.exists(location):
        raise ConfigError(f"--features {location}: no such file")
    if hdf5.is_stale(location):
        raise ConfigError(
            f"--features {location}: was exported before its run was continued or relabelled; export it again with "
            f"jobs/extract.py --format hdf5, or evaluate --features {posixpath.dirname(location)}"
        )
    content, (fitted,) = hdf5.read(location), info.backbones
    dims = sorted({rows_TD.shape[1] for rows_TD in content.features})
    if dims != [fitted.feature_dim]:
        raise ConfigError(
            f"--features {location}: must hold features of {fitted.feature_dim} dimensions, like those of the "
            f"ensemble's backbone ({fitted.name}), got {dims}"
        )
    uris = [f"{masked(storage.canonical(location))}#{row}" for row in range(len(content.labels))]
    manifest = pa.table(
        {
            schema.VIDEO_ID: [video_id(uri) for uri in uris],
            "video_uri": uris,
            "label": [content.classes[label] for label in content.labels],
            "sublabel": pa.nulls(len(uris), pa.string()),
            # The file does not record sources, so each video counts as its own source.
            "group": uris,
            "split": [split] * len(uris),
            "size_bytes": pa.nulls(len(uris), pa.int64()),
        },
        schema=schema.MANIFEST,
    )
    row_of = {video: row for row, video in enumerate(manifest[schema.VIDEO_ID].to_pylist())}

    def means_of(video_ids: Collection[str]) -> Means:
        return list(video_ids), video_means([content.features[row_of[video]] for video in video_ids])

    videos = manifest.append_column("content_digest", pa.nulls(len(uris), pa.string()))
    decision = decide(videos, record, means_of)
    return StoredFeatures(
        batches=_finite([location], _hdf5_batches(content, manifest)),
        manifest=decision.corrected(manifest),
        decision=decision,
        specs=[],
        summary=None,
    )


def _finite(locations: Sequence[str], batches: Iterator[list[pa.Table]]) -> Iterator[list[pa.Table]]:
    """The `batches`, with a check of every value. `locations` holds the one of each backbone's features.

    Raises ConfigError at the first batch with a value that is not finite; values beyond float16 count as such.
    """
    for batch in batches:
        for location, table in zip(locations, batch, strict=True):
            spoilt = table.filter(pa.array(~are_finite(table["features"])))
            if spoilt.num_rows:
                raise ConfigError(
                    f"--features {location}: every value must be finite in float16, is not for "
                    f"{spoilt['video_uri'][0]}; extract these features again"
                )
        yield batch


def _hdf5_batches(content: SplitFeatures, manifest: pa.Table) -> Iterator[list[pa.Table]]:
    """Iterator of batches, each a list of one table with the features in float16."""
    for start in range(0, len(content.features), VIDEOS_AT_A_TIME):
        rows = content.features[start : start + VIDEOS_AT_A_TIME]
        table = manifest.slice(start, len(rows)).drop_columns(["size_bytes"])
        table = table.append_column("num_frames", pa.array([len(rows_TD) for rows_TD in rows], pa.int32()))
        with np.errstate(over="ignore"):  # a value beyond float16 is infinite, which `_finite` refuses
            halves = [rows_TD.astype("float16") for rows_TD in rows]
        yield [table.append_column("features", features_column(halves, rows[0].shape[1]))]
