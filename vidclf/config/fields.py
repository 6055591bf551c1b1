"""Rules for the values of configuration fields, and conversion of flags and YAML values to the types of fields.

The type of a field states which values are allowed:

- `Literal["asha", "none"]` allows these words only,
- `Annotated[int, at_least(1, "video")]` allows a range, here whole numbers from 1, with the unit for messages. None is
  also allowed if the type says so (`| None`).

`check` tests all fields when a configuration is made. Rules between two fields are in the `__post_init__` of their
class. The string under a field is its help text: `vidclf/cli.py` reads it from the source and adds default and range.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from vidclf.errors import ConfigError

SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Number of bytes in each unit of a file size, by the name of the unit."""


@dataclass(frozen=True)
class Rule:
    """A condition that the value of a configuration field must meet: its words for messages and `--help`, and its
    test."""

    text: str
    """condition in words; completes the sentence "--flag must be …" """
    holds: Callable[[Any], bool]
    """function that says whether a value meets the condition"""
    reason: str = ""
    """reason for the condition, shown only in the error message, not in `--help`; empty if none is needed"""

    @property
    def message(self) -> str:
        """Text for the error message when a value is refused: the condition and, after a comma, its reason."""
        return f"{self.text}, {self.reason}" if self.reason else self.text


def at_least(least: float, unit: str = "") -> Rule:
    """Rule that a value is a number of `least` or more; `unit` follows the number in messages."""
    return Rule(_with_unit(f"at least {least}", unit), lambda value: value >= least)


def above(bound: float, unit: str = "") -> Rule:
    """Rule that a value is a number greater than `bound`; `unit` follows the number in messages."""
    return Rule(_with_unit(f"above {bound}", unit), lambda value: value > bound)


def between(least: float, most: float, unit: str = "", reason: str = "") -> Rule:
    """Rule that a value is a number from `least` to `most`, both included; `unit` and `reason` are for messages."""
    return Rule(_with_unit(f"between {least} and {most}", unit), lambda value: least <= value <= most, reason)


def within(interval: str) -> Rule:
    """Rule that a value is a number inside `interval`, in mathematical notation: `[0, 1)` includes 0 and excludes 1."""
    lower, upper = (float(end) for end in interval[1:-1].split(","))

    def holds(value: float) -> bool:
        is_above = value >= lower if interval[0] == "[" else value > lower
        is_below = value <= upper if interval[-1] == "]" else value < upper
        return is_above and is_below

    return Rule(f"in {interval}", holds)


def one_of(choices: Collection[str]) -> Rule:
    """Rule that a value is one of the words in `choices`."""
    names = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
    return Rule(names, lambda value: value in choices)


def _with_unit(text: str, unit: str) -> str:
    """`text` followed by a space and `unit`; `text` alone if `unit` is empty."""
    return f"{text} {unit}" if unit else text


ONE_GPU = between(0, 1, "GPU", "because a worker computes on one GPU alone")

GpuShare = Annotated[float, ONE_GPU]
"""Type of fields with the share of one GPU that a worker process reserves: 0 for none, 1 for a whole GPU."""


def check(config: Any) -> None:
    """Raise ConfigError for the first field of `config` whose value breaks the rule in its type; None always passes."""
    for name, rule in field_rules(config.__class__).items():
        value = getattr(config, name)
        if value is not None:
            require(rule.holds(value), name, rule.message, value)


@lru_cache
def field_rules(config_class: type) -> dict[str, Rule]:
    """Rules of the fields of a configuration class, by field name; fields whose type has no rule are left out."""
    kinds = typing.get_type_hints(config_class, include_extras=True)
    rules = {name: _rule(kind) for name, kind in kinds.items()}
    return {name: rule for name, rule in rules.items() if rule is not None}


def _rule(kind: Any) -> Rule | None:
    """Rule in the type `kind` of a field, also if it is inside a union such as `… | None`; None if the type has no
    rule."""
    if is_union(kind):
        return next(filter(None, map(_rule, typing.get_args(kind))), None)
    if typing.get_origin(kind) is Literal:
        return one_of(typing.get_args(kind))
    if typing.get_origin(kind) is Annotated:
        return next((extra for extra in kind.__metadata__ if isinstance(extra, Rule)), None)
    return None


def require(holds: bool, field: str, rule: str, value: object) -> None:
    """Raise ConfigError unless `holds` is true. The message is "--field must be {rule}, got {value}"."""
    if not holds:
        raise ConfigError(f"--{field.replace('_', '-')} must be {rule}, got {value!r}")


def check_named_once(field: str, names: tuple[str, ...], item: str = "") -> None:
    """Raise ConfigError if `names`, the value of the field `field`, is empty or contains a name twice.

    `item` is the word for one name in the message, for example "directory".
    """
    require(len(names) >= 1, field, _with_unit("at least one", item), names)
    require(len(set(names)) == len(names), field, "each named once", ",".join(names))


def check_known(keys: Collection[Any], known: Collection[str], where: Callable[[str], str]) -> None:
    """Raise ConfigError for the first of `keys` that is not in `known`.

    The message begins with the text `where(key)`, which names the unknown key and its place, and ends with a similar
    known key or, if there is none, with all known keys.
    """
    for key in keys:
        if key not in known:
            similar = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"known keys: {', '.join(known)}"
            raise ConfigError(f"{where(key)}; {hint}")


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Text that lists the values in which two nested mappings differ, such as `a.b: 1 != 2; …`; empty if all are
    equal."""
    ones, others = _flat(one), _flat(other)
    names = sorted(ones.keys() | others.keys())
    return "; ".join(
        f"{name}: {ones.get(name)} != {others.get(name)}" for name in names if ones.get(name) != others.get(name)
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Copy of a nested mapping without nesting: `{"a": {"b": 1}}` gives `{"a.b": 1}`. `prefix` begins every name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def parse_fractions(split: str, otherwise: str = "none") -> tuple[float, float, float] | None:
    """The train, val and test fractions in a text such as `"0.7,0.2,0.1"`, as three numbers.

    None if `split` is the word `otherwise`, which stands for no new split. Raises ConfigError for any other text.
    """
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
    """Number of bytes in a size such as `"500MB"`. Raises ConfigError, naming `field`, if the text is not a size."""
    rule = f"a number with one of {', '.join(SIZE_UNITS)}"
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", size)
    require(parts is not None and parts[2] in SIZE_UNITS, field, rule, size)
    assert parts is not None
    return int(float(parts[1]) * SIZE_UNITS[parts[2]])


def convert(name: str, value: Any, kind: Any) -> Any:
    """The text of a flag, or a YAML value, converted to the type `kind` of the field `name`.

    A list may be written `[1, 2]` in YAML and `1,2` on the command line. Raises ConfigError if the value does not fit
    the type. Ranges and choices are not tested here, but in `check`.
    """
    optional = type(None) in typing.get_args(kind)
    if optional and (value is None or value == "none"):
        return None
    base = base_kind(kind)
    if base is tuple:
        item_kind = typing.get_args(kind)[0]
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, (list, tuple)):
            return tuple(convert(name, item, item_kind) for item in items if item != "")
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
    """Plain Python type in a field's type: int for `int | None`, tuple for `tuple[str, ...]`, str for a `Literal` of
    words."""
    if is_union(kind):
        return base_kind(next(arg for arg in typing.get_args(kind) if arg is not type(None)))
    if typing.get_origin(kind) is Literal:
        return type(typing.get_args(kind)[0])
    return typing.get_origin(kind) or kind


def is_union(kind: Any) -> bool:
    """Whether a type is a union, written `int | None` or `Optional[int]`."""
    return isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
