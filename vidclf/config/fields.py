"""Configuration: one frozen dataclass per job. Flags, YAML keys and --help are derived from these.

The string under a field is its help text and states its unit; `cli.py` reads it from the source, so
no flag is described twice. A range is checked on construction: a job that starts has a valid one.
"""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass
from typing import Any

from vidclf.errors import ConfigError

SAMPLING_MODES = ("uniform", "middle", "random", "keyframes")

PRECISIONS = ("auto", "fp32", "bf16", "int8")

ONE_GPU = "between 0 and 1 GPU, because a worker computes on one GPU alone"
"""Rule of every share of a GPU."""

SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Bytes of each unit that a size may be given in."""


def require(holds: bool, field: str, rule: str, value: object) -> None:
    """Raise ConfigError naming the field (as a flag), the rule and the value, unless it holds."""
    if not holds:
        raise ConfigError(f"--{field.replace('_', '-')} must be {rule}, got {value!r}")


def require_clip(sampling: str, clip: float | None) -> None:
    """ConfigError unless the sampling has a clip's length where it samples a clip, and only there."""
    needs_clip = sampling in ("middle", "random")
    rule = "above 0 seconds with --sampling middle or random, and not given otherwise"
    require(clip is not None and clip > 0 if needs_clip else clip is None, "clip_duration", rule, clip)


def parse_fractions(split: str, otherwise: str = "none") -> tuple[float, float, float] | None:
    """`"0.7,0.2,0.1"` as train, val, test fractions; None for the word `otherwise`. ConfigError else."""
    if split == otherwise:
        return None
    rule = f"{otherwise!r} or three fractions train,val,test that add up to 1"
    try:
        parts = [float(part) for part in split.split(",")]
    except ValueError:
        raise ConfigError(f"--split must be {rule}, got {split!r}") from None
    require(
        len(parts) == 3 and min(parts) >= 0 and parts[0] > 0 and abs(sum(parts) - 1) < 1e-6,
        "split",
        rule,
        split,
    )
    return parts[0], parts[1], parts[2]


def parse_size(field: str, size: str) -> int:
    """`"500MB"` as bytes; ConfigError naming `field` where it is no size."""
    rule = f"a number with one of {', '.join(SIZE_UNITS)}"
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", size)
    require(parts is not None and parts[2] in SIZE_UNITS, field, rule, size)
    assert parts is not None
    return int(float(parts[1]) * SIZE_UNITS[parts[2]])


def convert(name: str, value: Any, kind: Any) -> Any:
    """`value` (text of a flag, or a YAML value) as the field's type; ConfigError if it is not one.

    Lists may be written `[1, 2]` in YAML and `1,2` on the command line.
    """
    optional = type(None) in typing.get_args(kind)
    if optional and (value is None or value == "none"):
        return None
    if typing.get_origin(kind) is tuple:
        item_kind = typing.get_args(kind)[0]
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, (list, tuple)):
            return tuple(convert(name, item, item_kind) for item in items if item != "")
    base = base_kind(kind)
    if isinstance(value, base) and not (base is not bool and isinstance(value, bool)):
        return value
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if base in (int, float) and isinstance(value, str):
        try:
            return base(value)
        except ValueError:
            pass
    expected = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(base, "a list")
    raise ConfigError(f"--{name.replace('_', '-')} must be {expected}, got {value!r}")


def base_kind(kind: Any) -> Any:
    """The type behind an optional or a generic one: int of `int | None`, tuple of `tuple[str, ...]`."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return next(arg for arg in typing.get_args(kind) if arg is not type(None))
    return typing.get_origin(kind) or kind


@dataclass(frozen=True, kw_only=True)
class LeasedConfig:
    """What every job that writes an output of many minutes has."""

    take_over: bool = False
    """write although another job does (vidclf/lease.py): that one stops. Not needed where it has died"""
