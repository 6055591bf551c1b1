"""The closed lists of what each job writes: names of files by kind of output, and the marks that tell a job's own
directory or file from another one with the same names.

`vidclf/outputs.py` refuses and deletes by these lists. A job that writes a file of a new name adds it here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vidclf import schema, storage

BACKBONES = ("resnet50", "resnet101", "efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_lite0")
"""Names of the directories that a job of several backbones fills, one run in each."""

OUTPUT_FILE = "_vidclf.json"
"""The mark of an output whose other files may have the names of anybody's, such as `index.html`."""

TEMPORARY = r"\.[0-9a-f]{32}\.tmp"
"""Ending of a file that `storage.publish` had not put in place when its job was killed."""

MAX_MARK_BYTES = 256 * 1024**2
"""Size of a mark above which it is not read: it is then nobody's."""

_UUID = "[0-9a-f]{32}"

_TRIAL = r"(?:[0-9a-f]{8}|[0-9a-f]{5}(?:_\d+)?_\d{5})"
"""Ray Tune's ids, of a searcher's trials and of its own."""

_SHARD = rf"part-{_UUID}-\d{{6}}\.parquet"

_RUN_FILES = (
    rf"(?:manifest|duplicates)\.parquet|run_identity\.json|summary\.json|(?:quarantine/)?{_SHARD}"
    rf"|quarantine/part-features\.parquet"
)

_JOB_FILES = r"run_config\.yaml|timeline\.json|pending\.parquet|_attempts\.parquet|_checkpoint/.+"

_MEMBER_FILES = (
    r"member_\d+\.(?:json|safetensors)|ensemble\.json|trust\.safetensors|(?:splits|leakage)\.parquet"
    r"|_state/member_\d+-[0-9a-f]{16}\.pt|_ray_train/.+|tensorboard/member_\d+/events\.out\.tfevents\.[^/]+"
)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A file by which a job knows its own directory: its name and what it must hold."""

    name: str
    is_ours: Callable[[str], bool]
    """called with the file's location"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A directory of an output with marks of its own."""

    at: str = ""
    """regular expression of its path in the output, with a slash at its end; empty for the output itself"""
    files: str
    """regular expression of its files' paths in it"""
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a job writes into a directory."""

    name: str
    """with its article, for messages"""
    parts: tuple[Part, ...]
    shared: str = ""
    """regular expression of files in the output itself that belong to all of its marked parts together"""
    reads: str = ""
    """regular expression of files that the job takes for its own whoever wrote them; others of such names are in
    its way"""


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """What a job writes as a single file."""

    name: str
    is_ours: Callable[[str], bool]


def _json(location: str) -> Any:
    if storage.size(location) > MAX_MARK_BYTES:
        return None
    try:
        return storage.read_json(location)
    except (OSError, ValueError):
        return None


def _holds(*keys: str) -> Callable[[str], bool]:
    """Whether a JSON file is an object with all of `keys`."""

    def is_ours(location: str) -> bool:
        value = _json(location)
        return isinstance(value, dict) and all(key in value for key in keys)

    return is_ours


def _identity(of_predictions: bool) -> Callable[[str], bool]:
    def is_ours(location: str) -> bool:
        value = _json(location)
        is_run = isinstance(value, dict) and {"feature_key", "columns"} <= value.keys()
        return is_run and (value.get("ensemble_id") is not None) == of_predictions

    return is_ours


def _is_member(of_search: bool) -> Callable[[str], bool]:
    """Whether a member's marker was written by a search, whose recipe is `trial …`, or by a training."""

    def is_ours(location: str) -> bool:
        value = _json(location)
        member = value.get("member") if isinstance(value, dict) else None
        recipe = member.get("recipe") if isinstance(member, dict) else None
        return isinstance(recipe, str) and recipe.startswith("trial ") == of_search

    return is_ours


def _is_table(columns: pa.Schema) -> Callable[[str], bool]:
    def is_ours(location: str) -> bool:
        filesystem, path = storage.resolve(location)
        try:
            return bool(pq.read_schema(path, filesystem=filesystem).names == columns.names)
        except (OSError, pa.ArrowInvalid):
            return False

    return is_ours


def _is_kind(name: str) -> Callable[[str], bool]:
    def is_ours(location: str) -> bool:
        value = _json(location)
        return isinstance(value, dict) and value.get("kind") == name

    return is_ours


def _is_quantized(location: str) -> bool:
    """Whether a safetensors file has the arrays of `features/quantized.py`, by its header alone."""
    filesystem, path = storage.resolve(location)
    try:
        with filesystem.open_input_file(path) as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= MAX_MARK_BYTES else None
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and {"openvino.graph", "openvino.constants"} <= header.keys()


def _is_pools(location: str) -> bool:
    """Whether a YAML file has the keys of `jobs/plan.py --write`, and no other."""
    try:
        value = yaml.safe_load(storage.read_bytes(location)) if storage.size(location) < 2**20 else None
    except (OSError, ValueError, yaml.YAMLError):
        return False
    keys = {"decode_workers", "gpus_per_cnn_worker", "precision"}
    return isinstance(value, dict) and keys <= value.keys() <= keys | {"cnn_workers"}


def _run(of_predictions: bool) -> tuple[Part, ...]:
    mark = (Mark(name="run_identity.json", is_ours=_identity(of_predictions)),)
    names = "|".join(BACKBONES)
    if not of_predictions:
        files = rf"{_RUN_FILES}|\w+_features_multiscale\.h5"
        return Part(files=f"{files}|{_JOB_FILES}", marks=mark), Part(at=rf"(?:{names})/", files=files, marks=mark)
    files = rf"{_RUN_FILES}|segments/{_SHARD}"
    passes = r"_passes/(?:keyframes|full)/"
    return tuple(Part(at=at, files=f"{files}|{_JOB_FILES}", marks=mark) for at in ("", passes))


_READ_SHARDS = rf"(?:(?:{'|'.join(BACKBONES)})/|_passes/\w+/)?(?:quarantine/|segments/)?part-[^/]*\.parquet"

FEATURES = Kind(name="a run", parts=_run(False), shared=_JOB_FILES, reads=_READ_SHARDS)
"""What extract writes, and classify with `--save-features`."""

PREDICTIONS = Kind(name="a run", parts=_run(True), shared=_JOB_FILES, reads=_READ_SHARDS)
"""What classify writes."""

_SPLITS = Mark(name="splits.parquet", is_ours=_is_table(schema.SPLIT_TABLE))

ENSEMBLE = Kind(
    name="an ensemble",
    parts=(
        Part(
            files=rf"{_MEMBER_FILES}|run_config\.yaml",
            marks=(
                _SPLITS,
                Mark(name="member_0.json", is_ours=_is_member(of_search=False)),
                Mark(name="ensemble.json", is_ours=_holds("ensemble_id", "classes", "members")),
            ),
        ),
    ),
)
"""What train writes."""

_CHOSEN = Part(
    files=rf"{_MEMBER_FILES}|_vidclf\.json",
    marks=(
        Mark(name=OUTPUT_FILE, is_ours=_is_kind("an ensemble of trials")),
        Mark(name="member_0.json", is_ours=_is_member(of_search=True)),
    ),
)

CHOSEN = Kind(name="an ensemble of trials", parts=(_CHOSEN,))
"""What tune writes into `ensemble/` of its output."""

SEARCH = Kind(
    name="a search",
    parts=(
        Part(
            files=r"study\.json|summary\.json|run_config\.yaml|best\.yaml|index\.html|(?:trials|splits|leakage)\.parquet"
            rf"|trials/{_TRIAL}/(?:progress\.json|state\.pt)|_ray_tune/.+"
            rf"|tensorboard/trial_{_TRIAL}/events\.out\.tfevents\.[^/]+",
            marks=(Mark(name="study.json", is_ours=_holds("num_samples", "seed", "split", "features")),),
        ),
        replace(_CHOSEN, at="ensemble/"),
    ),
)
"""What tune writes."""

REPORT = Kind(
    name="a report",
    parts=(
        Part(
            files=r"_vidclf\.json|index\.html|metrics\.json|(?:misclassified|abstained)\.csv|predictions\.parquet"
            r"|run_config\.yaml",
            marks=(
                Mark(name=OUTPUT_FILE, is_ours=_is_kind("a report")),
                Mark(name="metrics.json", is_ours=_holds("headline", "per_split", "detail", "classes")),
            ),
        ),
    ),
)
"""What evaluate writes."""

COMPARISON = Kind(
    name="a comparison",
    parts=(
        Part(
            files=r"_vidclf\.json|index\.html|diff\.json|flipped\.parquet|run_config\.yaml",
            marks=(
                Mark(name=OUTPUT_FILE, is_ours=_is_kind("a comparison")),
                Mark(name="diff.json", is_ours=_holds("overall", "transitions", "verdicts")),
            ),
        ),
    ),
)
"""What diff writes."""

MANIFEST = FileKind(name="a manifest of jobs/index.py", is_ours=_is_table(schema.MANIFEST))

QUANTIZED = FileKind(name="weights of jobs/quantize.py", is_ours=_is_quantized)

POOLS = FileKind(name="pools of jobs/plan.py", is_ours=_is_pools)


def is_lease(path: str) -> bool:
    """Whether a path in an output is a lease's."""
    return not storage.LEASE_NAMES.isdisjoint(path.split("/"))


def matches(pattern: str, path: str) -> bool:
    """Whether the whole of `path`, less the ending of a temporary file, is in a closed list."""
    return bool(pattern) and re.fullmatch(pattern, re.sub(rf"{TEMPORARY}$", "", path), re.DOTALL) is not None
