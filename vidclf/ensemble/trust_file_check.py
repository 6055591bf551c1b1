"""Check of `trust.safetensors`, which may come from an untrusted source, before its arrays are read.

The shapes in the file's header are compared with the sizes in `ensemble.json`, so that a wrong one is an error that
names the array, and never an array of a wrong size, or a file of any size in memory.

Shape suffixes: B videos, T frames, D features, C classes, R directions, K numbers that describe motion, V views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vidclf.ensemble.bf16 import NUM_PROBED
from vidclf.ensemble.info import EnsembleInfo, mode
from vidclf.ensemble.info_rules import MAX_FRAMES
from vidclf.ensemble.weights_file_check import Header
from vidclf.errors import ConfigError
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import EARLY_LOOKS
from vidclf.uncertainty.ood import MAX_DIRECTIONS

MAX_VALIDATION_VIDEOS = 4 * 1024**2
"""Largest number of validation videos whose scores are read."""

NUM_MOTION = 2
"""Numbers that describe the motion of a video: roughness and spread."""

PROBED = "probe.probabilities_VBC"
"""Name of the array that a file has if it has a probe (videos on which a worker tests bfloat16)."""

FLOATS, INTEGERS = ("F16", "F32", "F64"), ("BOOL", "U8", "I32", "I64")
"""Number formats of safetensors that an array may have."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size that `ensemble.json` does not state. All sizes of a file with the same `name` must be equal."""

    name: str
    most: int


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array that the file may hold, by the sizes in `ensemble.json`."""

    name: str
    shape: tuple[int | Size, ...]
    dtypes: tuple[str, ...] = FLOATS
    is_needed: bool = True
    """whether the file must hold the array"""


def check_trust_file(location: str, header: Header, info: EnsembleInfo) -> None:
    """Raise ConfigError unless the header of `trust.safetensors` lists the arrays of the ensemble that `info`
    describes: all that it needs, no others, and each with its shape and number format."""
    arrays = {array.name: array for array in _arrays(info, has_probe=PROBED in header.shapes)}
    found: dict[str, int] = {}
    for name, shape in sorted(header.shapes.items()):
        array = arrays.get(name)
        if array is None:
            raise ConfigError(f"--ensemble {location}: holds {name!r}, which is no array of this ensemble")
        if header.dtypes[name] not in array.dtypes:
            rule = f"have one of the number formats {', '.join(array.dtypes)}"
            raise ConfigError(f"--ensemble {location}: {name} must {rule}, has {header.dtypes[name]}")
        if not _fits(array, shape, found):
            rule = f"have the shape [{', '.join(_text(size, found) for size in array.shape)}] by the sizes in"
            raise ConfigError(f"--ensemble {location}: {name} must {rule} ensemble.json, has {list(shape)}")
    missing = [name for name, array in arrays.items() if array.is_needed and name not in header.shapes]
    if missing:
        raise ConfigError(f"--ensemble {location}: must hold {missing[0]}, which is missing")


def _fits(array: Array, shape: tuple[int, ...], found: dict[str, int]) -> bool:
    """Whether an array may have this shape. Sizes that are seen for the first time are added to `found`."""
    if len(shape) != len(array.shape):
        return False
    for size, expected in zip(shape, array.shape, strict=True):
        if isinstance(expected, Size):
            if size > expected.most or found.setdefault(expected.name, size) != size:
                return False
        elif size != expected:
            return False
    return True


def _text(size: int | Size, found: dict[str, int]) -> str:
    """A size as text for a message."""
    if isinstance(size, int):
        return str(size)
    known = found.get(size.name)
    return str(known) if known is not None and known <= size.most else f"at most {size.most}"


def _arrays(info: EnsembleInfo, has_probe: bool) -> Iterator[Array]:
    """All arrays that the file of the ensemble may hold. With `has_probe` it must hold all arrays of a probe (videos on
    which a worker tests bfloat16)."""
    num_classes = len(info.classes)
    has_look = {Look.FULL: True, **{look: look in info.stages for look in EARLY_LOOKS}}
    probed = Size(name="probed videos", most=NUM_PROBED)
    for index, backbone in enumerate(info.backbones):
        dim = backbone.feature_dim
        yield Array(name=f"{index}.towards_DC", shape=(dim, num_classes))
        yield Array(name=f"{index}.offset_C", shape=(num_classes,))
        frames = Size(name="probed frames", most=NUM_PROBED * MAX_FRAMES)
        yield Array(name=f"{index}.probe_TD", shape=(frames, dim), is_needed=has_probe)
        for look, is_needed in has_look.items():
            directions = Size(name=f"directions of {look}.{index}", most=MAX_DIRECTIONS)
            for name, shape in (
                ("centres_CD", (num_classes, dim)),
                ("directions_CRD", (num_classes, directions, dim)),
                ("inverse_variance_C", (num_classes,)),
                ("motion_means_CK", (num_classes, NUM_MOTION)),
                ("motion_precision_CKK", (num_classes, NUM_MOTION, NUM_MOTION)),
                ("motion_weight", (1,)),
            ):
                yield Array(name=f"{look}.{index}.{name}", shape=shape, is_needed=is_needed)
    yield Array(name="probe.num_frames_B", shape=(probed,), dtypes=INTEGERS, is_needed=has_probe)
    yield Array(name=PROBED, shape=(len(info.views), probed, num_classes), is_needed=False)
    has_scores = {mode(False): True, mode(True): True, **{str(look): has_look[look] for look in EARLY_LOOKS}}
    yield from _score_arrays(has_scores, has_sublabels=info.sublabels is not None)


def _score_arrays(is_needed: Mapping[str, bool], has_sublabels: bool) -> Iterator[Array]:
    """The arrays of the validation videos' scores, for each name in `is_needed`: a mode, or an early look."""
    for name, needed in is_needed.items():
        videos = Size(name=f"videos of {name}", most=MAX_VALIDATION_VIDEOS)
        for field, dtypes in (("trust_B", FLOATS), ("correct_B", INTEGERS), ("ood_B", FLOATS), ("source_B", INTEGERS)):
            yield Array(name=f"{name}.{field}", shape=(videos,), dtypes=dtypes, is_needed=needed)
        if has_sublabels:
            yield Array(name=f"{name}.sublabel_trust_B", shape=(videos,), is_needed=needed)
            yield Array(name=f"{name}.sublabel_right_B", shape=(videos,), dtypes=INTEGERS, is_needed=needed)
        # Only a cross calibration has it.
        yield Array(name=f"{name}.confidence_B", shape=(videos,), is_needed=False)
        # Ensembles of earlier versions lack these.
        if name not in EARLY_LOOKS:
            yield Array(name=f"{name}.truth_B", shape=(videos,), is_needed=False)
            yield Array(name=f"{name}.label_B", shape=(videos,), dtypes=INTEGERS, is_needed=False)
            if has_sublabels:
                yield Array(name=f"{name}.leaf_truth_B", shape=(videos,), is_needed=False)
                yield Array(name=f"{name}.leaf_B", shape=(videos,), dtypes=INTEGERS, is_needed=False)
