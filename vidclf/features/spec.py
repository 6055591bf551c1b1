"""Features on disk: the key that says how they were made, rows to Arrow, and reading them back.

Shape suffixes: T frames, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import ledger, storage
from vidclf.archive.decode import DECODER_VERSION
from vidclf.archive.sampling import SamplingPlan
from vidclf.config import ConfigError
from vidclf.features.preprocessing import FEATURE_DIMS, preprocessing
from vidclf.ledger import IDENTITY_FILE
from vidclf.schema import nested_list


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Everything that decides a video's features. Two sets may be mixed only if all of it is equal."""

    backbone: str
    weights_digest: str
    sampling: dict[str, Any]
    """fields of `SamplingPlan`"""
    transform: dict[str, Any]
    decoder: str
    dtype: str
    repeat_tolerance: float = 0.0
    """grey levels by which a frame may differ from another one whose features it takes"""

    @classmethod
    def of(cls, name: str, weights: str, digest: str, plan: SamplingPlan, repeat_tolerance: float = 0.0) -> FeatureSpec:
        return cls(
            backbone=name,
            weights_digest=digest,
            sampling=asdict(plan),
            transform=json.loads(json.dumps(asdict(preprocessing(name, weights)))),
            decoder=DECODER_VERSION,
            dtype="float16",
            repeat_tolerance=repeat_tolerance,
        )

    @property
    def key(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        values = asdict(self)
        if not self.repeat_tolerance:
            del values["repeat_tolerance"]  # so that features have the key that they had before there was one
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def plan(self) -> SamplingPlan:
        return SamplingPlan(**self.sampling)

    @property
    def feature_dim(self) -> int:
        return FEATURE_DIMS[self.backbone]

    @property
    def frames(self) -> dict[str, Any]:
        """What decides which frames are looked at. Features of several backbones go together where it is
        equal: frame by frame they are of the same moments."""
        return {"sampling": self.sampling, "decoder": self.decoder}

    def differences(self, other: FeatureSpec) -> str:
        """What differs, spelt out as `name: this != that`; empty where nothing does."""
        mine, theirs = _flat(asdict(self)), _flat(asdict(other))
        names = sorted(mine.keys() | theirs.keys())
        return "; ".join(
            f"{name}: {mine.get(name)} != {theirs.get(name)}" for name in names if mine.get(name) != theirs.get(name)
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def read_spec(features: str) -> FeatureSpec:
    """The spec of a features directory; ConfigError where it is none."""
    path = storage.join(features, IDENTITY_FILE)
    if not storage.exists(path):
        raise ConfigError(
            f"--features must be a directory that jobs/extract.py wrote, got {features!r} (no {IDENTITY_FILE})"
        )
    identity = storage.read_json(path)
    if identity.get("ensemble_id") is not None:
        raise ConfigError(f"--features must be a directory of features, {features!r} holds predictions")
    return specs_of(features, identity)[0]


def specs_of(run: str, identity: dict[str, Any]) -> list[FeatureSpec]:
    """What the rows of a run were made from, by its `run_identity.json`: one spec a backbone."""
    if "feature_specs" not in identity:
        raise ConfigError(f"{run}: was written by another version of this software; run the job anew")
    return [FeatureSpec(**spec) for spec in identity["feature_specs"]]


def read_weights_location(features: str) -> str:
    """Where the weights were when these features were made; the spec has their digest."""
    return str(storage.read_json(storage.join(features, IDENTITY_FILE))["weights"][0])


def features_column(features_TD: Sequence[npt.NDArray[np.float16] | None], feature_dim: int) -> pa.Array:
    """Rows of [T, D] float16 (None: null) as list<fixed_size_list<D>>, without a Python loop over values."""
    return nested_list(
        [None if rows is None else len(rows) for rows in features_TD],
        pa.FixedSizeListArray.from_arrays(
            pa.array(
                np.concatenate(
                    [rows for rows in features_TD if rows is not None] or [np.empty((0, feature_dim), np.float16)]
                )
                .astype(np.float16, copy=False)
                .reshape(-1)
            ),
            feature_dim,
        ),
    )


def features_TD(row: pa.ListScalar) -> npt.NDArray[np.float16]:
    """One row of the `features` column as [T, D] float16."""
    inner = row.values
    flat: npt.NDArray[np.float16] = inner.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(inner), inner.type.list_size)


def writable_view(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same memory under an array that does not say it is read-only, as Arrow's buffers and Ray's
    object store do: torch warns of such. For those who only read."""
    if array.flags.writeable:
        return array
    interface = {**array.__array_interface__, "data": (array.__array_interface__["data"][0], False)}
    holder = type("_Holder", (), {"__array_interface__": interface, "owner": array})()
    return np.asarray(holder)


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """The features of a run in memory, sorted by location: an order that training's random draws
    depend on, and that does not change when an archive moves to another root (video ids do)."""

    spec: FeatureSpec
    video_ids: list[str]
    video_uris: list[str]
    labels: list[str | None]
    sublabels: list[str | None]
    groups: list[str]
    splits: list[str | None]
    content_digests: list[str]
    """equal where two files are the same, byte for byte (`vidclf/archive/content.py`)"""
    features: list[npt.NDArray[np.float16]]
    """[T, D] each"""


def read_features(features: str) -> FeatureSet:
    """Read a finished features directory whole (73 × 1280 × 2 bytes a video: 0.19 GB a thousand).

    Raises ConfigError where it is none, is not finished, is empty, or mixes feature keys.
    """
    spec = read_spec(features)
    state = ledger.read_state(features)
    if state.num_pending:
        raise ConfigError(f"--features {features}: {state.num_pending} videos are pending; run jobs/extract.py again")
    plain = ("video_uri", "video_id", "label", "sublabel", "group", "split", "content_digest")
    columns = [*plain, "feature_key", "features"]
    rows: list[tuple[Any, ...]] = []
    for table in storage.iter_tables(ledger.part_files(features), columns):
        keys = set(table["feature_key"].unique().to_pylist())
        if keys != {spec.key}:
            raise ConfigError(f"--features {features}: must hold one feature key {spec.key}, holds {sorted(keys)}")
        values = [table[name].to_pylist() for name in plain]
        rows += zip(*values, [features_TD(row) for row in table["features"]], strict=True)
    if not rows:
        raise ConfigError(f"--features {features}: holds no video ({state.num_quarantined} are quarantined)")
    rows.sort(key=lambda row: row[0])
    uris, ids, labels, sublabels, groups, splits, digests, arrays = (list(column) for column in zip(*rows, strict=True))
    return FeatureSet(
        spec=spec,
        video_ids=ids,
        video_uris=uris,
        labels=labels,
        sublabels=sublabels,
        groups=groups,
        splits=splits,
        content_digests=digests,
        features=arrays,
    )
