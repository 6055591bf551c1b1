"""Closed lists of the files that each job writes, and the marks that prove that a job wrote an output.

A mark is a file with a certain name and content. It tells an output of a job from a user's own directory in which files
happen to have the same names. `vidclf/runs/outputs.py` uses these lists to refuse an output and to delete its files. A
job that writes a file with a new name must add the name here.

The module is longer than 350 lines because it holds the lists of all jobs.
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
from vidclf.runs.layout import LABEL_NEXT_FILE, SHARD_PATTERN, Run

BACKBONES = (
    *("resnet50", "resnet101", "efficientnet_v2_s", "efficientnet_v2_m"),
    *("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
)
"""Names of backbones (image networks) of the catalog."""

BACKBONE_DIRECTORY = rf"{'|'.join(BACKBONES)}|(?:timm|hf-hub|local-dir|open_clip|onnx)_[A-Za-z0-9._-]+"
"""Regular expression of the names of the subdirectories in the output of a job with several backbones; each holds the
results of one backbone."""

OUTPUT_FILE = "_vidclf.json"
"""Name of the file that marks an output directory as written by a job, if its other files have common names such as
`index.html`."""

TEMPORARY = r"\.[0-9a-f]{32}\.tmp"
"""Regular expression of the name ending of temporary files, which `storage.publish` leaves behind if its job is
killed."""

MAX_MARK_BYTES = 256 * 1024**2
"""Largest size in bytes of a mark (a file that proves who wrote the directory). A larger file is not read and does not
count as a mark."""

_TRIAL = r"(?:[0-9a-f]{8}|[0-9a-f]{5}(?:_\d+)?_\d{5})"
"""Regular expression of the ids that Ray Tune gives to trials (single trainings of a hyperparameter search): those made
by a search algorithm and those made by Ray Tune itself."""

_RUN_FILES = (
    rf"(?:manifest|duplicates)\.parquet|run_identity\.json|summary\.json|(?:quarantine/)?{SHARD_PATTERN}"
    rf"|quarantine/part-features\.parquet"
)
"""Regular expression of the files in a run directory (output of extract or classify for one backbone or ensemble), as
paths relative to it."""

_JOB_FILES = r"run_config\.yaml|timeline\.json|pending\.parquet|_attempts\.parquet|_checkpoint/.+"
"""Regular expression of the files that extract and classify write once per job, however many run directories the job
fills, as paths relative to the job's output."""

_CARD = r"README\.md"
"""Regular expression of the model card in an ensemble's directory. Users write files with this name too."""

_MEMBER_FILES = (
    r"member_\d+\.(?:json|safetensors)|ensemble\.json|(?:trust|linear_member)\.safetensors|(?:splits|leakage|folds)\.parquet"
    r"|_state/member_\d+-[0-9a-f]{16}\.pt|_ray_train/.+|tensorboard/member_\d+/events\.out\.tfevents\.[^/]+"
    r"|_folds/fold_\d+/.+"
)
"""Regular expression of the files of an ensemble, as paths relative to its directory."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A file that proves that a job wrote the directory: the name of the file, and a test of its content."""

    name: str
    """path of the file, relative to the directory"""
    is_genuine: Callable[[str], bool]
    """function that tells whether the file at a location has the content that the job writes"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The output directory itself, or a directory inside it, with its own list of files and its own marks (files that
    prove who wrote it)."""

    at: str = ""
    """regular expression of the directory's path inside the output, with a slash at the end; empty for the output
    itself"""
    files: str
    """regular expression of the files that the job writes there, as paths relative to the directory"""
    marks: tuple[Mark, ...]
    """the possible marks; if one of them is there and genuine, the job wrote the directory"""
    signed: str = ""
    """regular expression of the signed files (`vidclf/runs/signed_text.py`) that the job writes there. One that
    somebody else wrote or edited is foreign, but the job goes on beside it"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The closed list of files for one kind of output directory, such as a run (output of extract or classify) or a
    report."""

    name: str
    """name of the kind with its article, for messages"""
    parts: tuple[Part, ...]
    """the output directory itself and the directories inside it that have their own marks"""
    shared: str = ""
    """regular expression of the files in the output itself that count as the job's as soon as any part is marked"""
    reads: str = ""
    """regular expression of the files that the job would read as its own, whoever wrote them. Other programs' files
    with such names stop the job"""


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of output that is a single file, such as a manifest."""

    name: str
    """name of the kind, for messages"""
    is_genuine: Callable[[str], bool]
    """function that tells whether the file at a location was written by such a job"""


def _json(location: str) -> Any:
    """The value in a JSON file; None if the file is larger than `MAX_MARK_BYTES` or cannot be read."""
    if storage.size(location) > MAX_MARK_BYTES:
        return None
    try:
        return storage.read_json(location)
    except (OSError, ValueError):
        return None


def _holds(*keys: str) -> Callable[[str], bool]:
    """Return a function that tells whether the JSON file at a location holds an object with all of `keys`."""

    def is_genuine(location: str) -> bool:
        value = _json(location)
        return isinstance(value, dict) and all(key in value for key in keys)

    return is_genuine


def _is_identity(of_predictions: bool) -> Callable[[str], bool]:
    """Return a function that tells whether the file at a location is the `run_identity.json` of predictions
    (`of_predictions`) or else of features."""

    def is_genuine(location: str) -> bool:
        value = _json(location)
        is_run = isinstance(value, dict) and {"feature_key", "columns"} <= value.keys()
        return is_run and (value.get("ensemble_id") is not None) == of_predictions

    return is_genuine


def _is_member(of_search: bool) -> Callable[[str], bool]:
    """Return a function that tells whether a `member_<i>.json` was written by a hyperparameter search (`of_search`) or
    else by training.

    The file of a member from a search has a `recipe` that begins with `trial `.
    """

    def is_genuine(location: str) -> bool:
        value = _json(location)
        member = value.get("member") if isinstance(value, dict) else None
        recipe = member.get("recipe") if isinstance(member, dict) else None
        return isinstance(recipe, str) and recipe.startswith("trial ") == of_search

    return is_genuine


def _is_table(columns: pa.Schema) -> Callable[[str], bool]:
    """Return a function that tells whether the file at a location is a Parquet file whose column names are those of
    `columns`."""

    def is_genuine(location: str) -> bool:
        filesystem, path = storage.resolve(location)
        try:
            return bool(pq.read_schema(path, filesystem=filesystem).names == columns.names)
        except (OSError, pa.ArrowInvalid):
            return False

    return is_genuine


def _is_indexed(location: str) -> bool:
    """Whether the file at a location is a manifest outside of a run. A run keeps its own copy of its manifest, which no
    other job may replace."""
    directory = storage.parent(location)
    is_in_run = directory is not None and storage.exists(Run(directory).identity_file)
    return not is_in_run and _is_table(schema.MANIFEST)(location)


def _is_kind(name: str) -> Callable[[str], bool]:
    """Return a function that tells whether the file at a location was written by `outputs.begin` to mark an output of
    the `Kind` with this name."""

    def is_genuine(location: str) -> bool:
        value = _json(location)
        return isinstance(value, dict) and value.get("kind") == name

    return is_genuine


def _is_quantized(location: str) -> bool:
    """Whether the file at a location is a safetensors file with the arrays of `vidclf/backbones/int8_weights.py`. Reads
    only its header."""
    filesystem, path = storage.resolve(location)
    try:
        with filesystem.open_input_file(path) as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= MAX_MARK_BYTES else None
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and {"openvino.graph", "openvino.constants"} <= header.keys()


def _is_pools(location: str) -> bool:
    """Whether the file at a location is a YAML file with exactly the keys that `jobs/plan.py --write` writes."""
    try:
        value = yaml.safe_load(storage.read_bytes(location)) if storage.size(location) < 2**20 else None
    except (OSError, ValueError, yaml.YAMLError):
        return False
    keys = {"decode_workers", "gpus_per_cnn_worker", "precision"}
    return isinstance(value, dict) and keys <= value.keys() <= keys | {"cnn_workers"}


def _run_parts(of_predictions: bool) -> tuple[Part, ...]:
    """The parts (directories with their own file lists) of an extract or classify output.

    For features: the output itself and one directory per backbone. For predictions: the output itself and one directory
    for each pass of a progressive classification (first the keyframes of all videos, then all frames of the undecided
    ones).
    """
    mark = (Mark(name="run_identity.json", is_genuine=_is_identity(of_predictions)),)
    if not of_predictions:
        files = rf"{_RUN_FILES}|\w+_features_multiscale\.h5"
        return Part(files=f"{files}|{_JOB_FILES}", marks=mark), Part(
            at=rf"(?:{BACKBONE_DIRECTORY})/", files=files, marks=mark
        )
    files = (
        rf"{_RUN_FILES}|segments/{SHARD_PATTERN}|{re.escape(LABEL_NEXT_FILE)}"
        r"|ensemble/(?:ensemble\.json|member_0\.safetensors|trust\.safetensors)"
    )
    passes = r"_passes/(?:keyframes|full)/"
    return tuple(Part(at=at, files=f"{files}|{_JOB_FILES}", marks=mark) for at in ("", passes))


_READ_SHARDS = rf"(?:(?:{BACKBONE_DIRECTORY})/|_passes/\w+/)?(?:quarantine/|segments/)?part-[^/]*\.parquet"
"""Regular expression of the result files in an extract or classify output that its readers would read, whatever program
wrote them."""

FEATURES = Kind(name="a run", parts=_run_parts(False), shared=_JOB_FILES, reads=_READ_SHARDS)
"""Output directory of extract, and the features that classify keeps with `--save-features`."""

PREDICTIONS = Kind(name="a run", parts=_run_parts(True), shared=_JOB_FILES, reads=_READ_SHARDS)
"""Output directory of classify."""

_SPLITS = tuple(
    Mark(name="splits.parquet", is_genuine=_is_table(columns))
    for columns in (schema.SPLIT_TABLE, schema.EARLIER_SPLIT_TABLE)
)

ENSEMBLE = Kind(
    name="an ensemble",
    parts=(
        Part(
            files=rf"{_MEMBER_FILES}|run_config\.yaml",
            signed=_CARD,
            marks=(
                *_SPLITS,
                Mark(name="member_0.json", is_genuine=_is_member(of_search=False)),
                Mark(name="ensemble.json", is_genuine=_holds("ensemble_id", "classes", "members")),
            ),
        ),
    ),
)
"""Output directory of train."""

_CHOSEN = Part(
    files=rf"{_MEMBER_FILES}|_vidclf\.json",
    signed=_CARD,
    marks=(
        Mark(name=OUTPUT_FILE, is_genuine=_is_kind("an ensemble of trials")),
        Mark(name="member_0.json", is_genuine=_is_member(of_search=True)),
    ),
)

CHOSEN = Kind(name="an ensemble of trials", parts=(_CHOSEN,))
"""The ensemble of the best trials (single trainings of a hyperparameter search), which tune writes into `ensemble/` of
its output."""

SEARCH = Kind(
    name="a search",
    parts=(
        Part(
            files=r"study\.json|summary\.json|run_config\.yaml|best\.yaml|index\.html|(?:trials|splits|leakage)\.parquet"
            rf"|trials/{_TRIAL}/(?:progress\.json|state\.pt)|_ray_tune/.+"
            rf"|tensorboard/trial_{_TRIAL}/events\.out\.tfevents\.[^/]+",
            marks=(Mark(name="study.json", is_genuine=_holds("num_samples", "seed", "split", "features")),),
        ),
        replace(_CHOSEN, at="ensemble/"),
    ),
)
"""Output directory of tune (hyperparameter search)."""

REPORT = Kind(
    name="a report",
    parts=(
        Part(
            files=r"_vidclf\.json|index\.html|metrics\.json|(?:misclassified|abstained)\.csv|predictions\.parquet"
            r"|run_config\.yaml",
            marks=(
                Mark(name=OUTPUT_FILE, is_genuine=_is_kind("a report")),
                Mark(name="metrics.json", is_genuine=_holds("headline", "per_split", "detail", "classes")),
            ),
        ),
    ),
)
"""Output directory of evaluate."""

COMPARISON = Kind(
    name="a comparison",
    parts=(
        Part(
            files=r"_vidclf\.json|index\.html|diff\.json|flipped\.parquet|run_config\.yaml",
            marks=(
                Mark(name=OUTPUT_FILE, is_genuine=_is_kind("a comparison")),
                Mark(name="diff.json", is_genuine=_holds("overall", "transitions", "verdicts")),
            ),
        ),
    ),
)
"""Output directory of diff, which compares two classifications."""

MANIFEST = FileKind(name="a manifest of jobs/index.py", is_genuine=_is_indexed)
"""Output file of index: the list of videos."""

QUANTIZED = FileKind(name="weights of jobs/quantize.py", is_genuine=_is_quantized)
"""Output file of quantize: the int8 weights of a backbone."""

POOLS = FileKind(name="pools of jobs/plan.py", is_genuine=_is_pools)
"""Output file of plan: the settings of the worker pools."""


def _begins_with(*starts: bytes) -> Callable[[str], bool]:
    """Return a function that tells whether the file at a location begins with one of `starts`."""

    def is_genuine(location: str) -> bool:
        filesystem, path = storage.resolve(location)
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bool(stream.read(max(map(len, starts))).startswith(starts))

    return is_genuine


def _table(name: str, *marks: str) -> Kind:
    """A directory that a table format fills with files of its own names. `marks` are files that the format writes."""
    genuine = (Mark(name=OUTPUT_FILE, is_genuine=_is_kind(name)),)
    given = tuple(Mark(name=mark, is_genuine=storage.exists) for mark in marks)
    return Kind(name=name, parts=(Part(files=".+", marks=(*genuine, *given)),))


_HUB_PART = Part(
    files=r"_vidclf\.json|member_\d+\.safetensors|ensemble\.json|(?:trust|linear_member)\.safetensors",
    signed=_CARD,
    marks=(Mark(name=OUTPUT_FILE, is_genuine=_is_kind("an ensemble for a hub")),),
)

EXPORTS: dict[str, Kind | FileKind] = {
    "csv": FileKind(name="a CSV file of jobs/export.py", is_genuine=_begins_with(b"run_id,video_id,")),
    "label-studio": FileKind(
        name="tasks of jobs/export.py", is_genuine=_begins_with(b'[\n{"data": {"run_id": ', b"[\n]")
    ),
    "activitynet": FileKind(name="results of jobs/export.py", is_genuine=_begins_with(b'{"version": "vidclf')),
    "onnx": FileKind(
        name="an ONNX file of jobs/export.py",
        # The fields of a model are stored by their numbers: version of the format (1), producer (2).
        is_genuine=_begins_with(b"\x08\x08\x12\x06vidclf"),
    ),
    "hub-directory": Kind(name="an ensemble for a hub", parts=(_HUB_PART,)),
    "fiftyone": _table("a FiftyOne dataset"),
    "delta": _table("a Delta table", "_delta_log/00000000000000000000.json", "_delta_log/_last_checkpoint"),
    "iceberg": _table("an Iceberg catalog"),
    "lance": _table("a Lance dataset"),
}
"""Outputs of export, by its target (`--to`). The job deletes no file in those of the table formats, so their lists are
open."""


def is_backbone(directory: str) -> bool:
    """Whether a directory's name is one that a job with several backbones gives to the results of a backbone."""
    return re.fullmatch(BACKBONE_DIRECTORY, directory) is not None


def is_lease(path: str) -> bool:
    """Whether a path inside an output belongs to a lease."""
    return storage.is_lease(path)


def matches(pattern: str, path: str) -> bool:
    """Whether a regular expression matches the whole of `path`, from which the ending of a temporary file is removed
    first. An empty expression matches nothing."""
    return bool(pattern) and re.fullmatch(pattern, re.sub(rf"{TEMPORARY}$", "", path), re.DOTALL) is not None
