"""The space of a hyperparameter search, read from YAML, and the settings of a training at a point of this space.

    search: {algorithm: tpe, scheduler: asha}
    space:
      epochs: 60                                                  a fixed value
      lr: {type: loguniform, lower: 1.0e-4, upper: 1.0e-2}        tune.loguniform(lower=1e-4, upper=1e-2)
      hidden_dim: {type: choice, categories: [64, 96, 128]}       tune.choice(categories=[64, 96, 128])

The possible values of a setting are its domain. A domain's `type` is a function of `ray.tune`, and its other keys are
the parameters of this function. Keys under `space` are the flags of `jobs/train.py` that affect a member (model of an
ensemble), and `features`, which selects one of several feature directories.
"""

from __future__ import annotations

import itertools
import math
import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from vidclf import installation, storage
from vidclf.config import FitConfig, SearchConfig
from vidclf.config.fields import base_kind, check_known, convert
from vidclf.config.train import RECIPES
from vidclf.credentials import masked
from vidclf.errors import ConfigError

FEATURES, HEADS, HIDDEN = "features", "num_attention_heads", "hidden_dim"

POINT = "point"
"""Name under which a trial of a grid search receives all its setting values."""

RANGES = {"uniform": float, "loguniform": float, "randint": int, "lograndint": int}
"""Domain types with `lower` and `upper`, and the type of the values in such a range. For whole numbers `upper` is
exclusive, like in `ray.tune`."""

TYPES = (*RANGES, "choice")
"""All domain types that the YAML may name."""

MUTABLE = (
    *("lr", "weight_decay", "dropout", "batch_size", "focal_gamma", "label_smoothing", "max_grad_norm"),
    *("multi_scale", "min_kept_frames", "max_shift", "feature_noise"),
)
"""Settings that may change during a training, so that population-based training can vary them."""

KINDS = {**typing.get_type_hints(FitConfig), FEATURES: str}
"""Settings that a search space may contain, with the type of each setting's values."""

del KINDS["seed"]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The possible values of one setting in a search space: the call `getattr(ray.tune, type)(**arguments)`.

    Lists among the categories of a choice are written as text, `1,2`, because Optuna accepts plain values only.
    """

    type: str
    arguments: dict[str, Any]

    @property
    def num_values(self) -> int | None:
        """Number of possible values; None for a range of real numbers."""
        if self.type == "choice":
            return len(self.arguments["categories"])
        return self.arguments["upper"] - self.arguments["lower"] if RANGES[self.type] is int else None

    def values(self) -> list[Any]:
        """All possible values, for a choice or for a range of whole numbers."""
        if self.type == "choice":
            return list(self.arguments["categories"])
        assert RANGES[self.type] is int, f"{self.type} has no countable values"
        return list(range(self.arguments["lower"], self.arguments["upper"]))


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space: the search method, the settings with one fixed value, and the settings to search with their
    possible values."""

    search: SearchConfig
    fixed: dict[str, Any]
    """values of the settings that are not searched, by name"""
    domains: dict[str, Domain]
    """possible values of the settings that are searched, by name"""
    heads: tuple[int, ...] | None = None
    """All numbers of attention heads to search, if the valid ones depend on `hidden_dim`; otherwise None.

    The searched value of `num_attention_heads` is then a place from 0 to 1 in the list of those numbers that divide 2 ×
    hidden_dim. Every point is therefore valid for every search algorithm, and the valid numbers for a `hidden_dim` are
    equally likely.
    """

    def settings(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a training by name (fields of FitConfig, and `features`), at a point that the search
        algorithm has chosen."""
        drawn = dict(point.get(POINT, point))
        values = {
            **self.fixed,
            **{
                name: convert(name, value, KINDS[name])
                for name, value in drawn.items()
                if name != HEADS or self.heads is None
            },
        }
        if self.heads is not None:
            possible = dividing(self.heads, values[HIDDEN])
            values[HEADS] = possible[min(int(drawn[HEADS] * len(possible)), len(possible) - 1)]
        return {**RECIPES[values.get("recipe", "robust")], **values}

    def fit_config(self, point: Mapping[str, Any], seed: int) -> FitConfig:
        """The configuration of a training at a point (setting values that the search algorithm has chosen)."""
        values = self.settings(point)
        values.pop(FEATURES, None)
        return FitConfig(**values, seed=seed)

    def grid(self) -> list[dict[str, Any]]:
        """All points of a grid search, without invalid combinations. Settings are in the order of the YAML; the value
        of the last one changes fastest."""
        names = [name for name in self.domains if name != HEADS or self.heads is None]
        points = [
            dict(zip(names, values, strict=True))
            for values in itertools.product(*(self.domains[name].values() for name in names))
        ]
        if self.heads is None:
            return points
        return [
            {**point, HEADS: (place + 0.5) / len(possible)}
            for point in points
            for possible in [dividing(self.heads, {**self.fixed, **point}[HIDDEN])]
            for place in range(len(possible))
        ]

    @property
    def max_epochs(self) -> int:
        """Largest number of epochs that a trial (one training) can take, including epochs before new starts after a
        collapse (a constant answer)."""
        largest = {}
        for name in ("epochs", "max_restarts", "collapse_epoch"):
            domain = self.domains.get(name)
            fixed = self.fixed.get(name, getattr(FitConfig(), name))
            largest[name] = max(domain.values()) if domain is not None else fixed
        return int(largest["epochs"] + largest["max_restarts"] * largest["collapse_epoch"])

    def described(self) -> dict[str, Any]:
        """The search space as plain values for JSON, for a comparison with another search space."""
        return {
            "search": dict(vars(self.search)),
            "space": {
                **{name: list(value) if isinstance(value, tuple) else value for name, value in self.fixed.items()},
                **{name: {"type": domain.type, **domain.arguments} for name, domain in self.domains.items()},
                **({HEADS: {"type": "choice", "categories": list(self.heads)}} if self.heads is not None else {}),
            },
        }


def dividing(heads: Sequence[int], hidden_dim: int) -> list[int]:
    """The numbers of attention heads in `heads` that divide 2 × hidden_dim and are therefore valid, in the same
    order."""
    return [number for number in heads if (2 * hidden_dim) % number == 0]


def read_space(location: str) -> Space:
    """The search space in a YAML file at a path or URI, or one that comes with vidclf, by its name, such as `default`.

    Raises ConfigError with file, key, rule and value if it is not valid.
    """
    values = storage.read_yaml(_file(location), "--space")
    try:
        return parse_space(values)
    except ConfigError as error:
        raise ConfigError(f"--space {location}: {error}") from error


def _file(location: str) -> str:
    """Location of the YAML file for a value of --space: that of the search space with this name, if no file has it.

    Raises ConfigError if there is neither.
    """
    if "/" in location or os.path.exists(location):
        return location
    known = {path.stem: str(path) for path in sorted(installation.directory("tune_configs").glob("*.yaml"))}
    if location not in known:
        raise ConfigError(
            f"--space must be a readable YAML file or one of {', '.join(known)}, got {location!r} (no such file)"
        )
    return known[location]


def parse_space(values: Any) -> Space:
    """The search space described by parsed YAML. ConfigError with key, rule and value if it is not valid."""
    if not isinstance(values, dict) or not isinstance(values.get("space"), dict) or not values["space"]:
        raise ConfigError("must hold `space:` with at least one key, and may hold `search:`")
    _check_known("", values, ("search", "space"))
    search = _parse_search(values.get("search") or {})
    fixed: dict[str, Any] = {}
    domains: dict[str, Domain] = {}
    for name, value in values["space"].items():
        if name == "seed":
            raise ConfigError("space.seed: must be left out, because all trials have the same seed; give --seed")
        _check_known("space.", {name: value}, tuple(KINDS))
        if isinstance(value, dict):
            domains[name] = _parse_domain(name, value)
        else:
            fixed[name] = _parse_value(name, value)
    heads = _restrict_heads(fixed, domains)
    space = Space(search=search, fixed=fixed, domains=domains, heads=heads)
    _check_search(space)
    return space


def _parse_search(values: Any) -> SearchConfig:
    """The search method, read from the part `search:` of the YAML search space. ConfigError if it is not valid."""
    if not isinstance(values, dict):
        raise ConfigError(f"search: must hold `key: value` lines, got {values!r}")
    kinds = typing.get_type_hints(SearchConfig)
    _check_known("search.", values, tuple(kinds))
    try:
        return SearchConfig(**{name: convert(name, value, kinds[name]) for name, value in values.items()})
    except ConfigError as error:
        raise ConfigError(f"search: {error}") from error


def _check_search(space: Space) -> None:
    """Raise ConfigError if the algorithm that a search space names cannot search this space."""
    algorithm = space.search.algorithm
    if not space.domains:
        raise ConfigError(
            "space: must have at least one domain to search, has fixed values only; an example of a domain is "
            "{type: choice, categories: [...]}"
        )
    for name, domain in space.domains.items():
        if algorithm == "grid" and domain.num_values is None and (name != HEADS or space.heads is None):
            raise ConfigError(
                f"space.{name}: must be a choice or whole numbers for search.algorithm grid, is a {domain.type}"
            )
    if algorithm == "pbt":
        if not any(name in MUTABLE for name in space.domains):
            raise ConfigError(
                f"space: must search one of {', '.join(MUTABLE)} for search.algorithm pbt, searches "
                f"{', '.join(space.domains)}"
            )
        if FEATURES in space.domains:
            raise ConfigError("space.features: must be fixed for search.algorithm pbt, because trials exchange weights")


def _parse_domain(name: str, value: dict[str, Any]) -> Domain:
    """The possible values of the setting `name`, read from its YAML entry. ConfigError if the type or the limits are
    not valid for this setting."""
    where, kind = f"space.{name}", value.get("type")
    if kind not in TYPES:
        raise ConfigError(f"{where}.type: must be one of {', '.join(TYPES)} (functions of ray.tune), got {kind!r}")
    arguments = {key: item for key, item in value.items() if key != "type"}
    expected_keys = ("categories",) if kind == "choice" else ("lower", "upper")
    _check_known(f"{where}.", arguments, expected_keys)
    for key in expected_keys:
        if key not in arguments:
            raise ConfigError(f"{where}.{key}: must be given with type {kind}")
    if kind == "choice":
        return _parse_choice(name, arguments["categories"])
    expected = base_kind(KINDS[name])
    if expected is not RANGES[kind]:
        rule = {int: "randint, lograndint or choice", float: "uniform, loguniform or choice"}.get(expected, "choice")
        raise ConfigError(f"{where}.type: must be {rule} for this key, got {kind!r}")
    lower, upper = (
        _parse_value(name, arguments[key], f".{key}", is_exclusive=key == "upper" and kind in ("randint", "lograndint"))
        for key in expected_keys
    )
    if not lower < upper or not math.isfinite(upper):
        raise ConfigError(f"{where}.upper: must be above lower {lower!r}, got {upper!r}")
    if kind.startswith("log") and lower <= 0:
        raise ConfigError(f"{where}.lower: must be above 0 with type {kind}, got {lower!r}")
    return Domain(type=kind, arguments={"lower": lower, "upper": upper})


def _parse_choice(name: str, categories: Any) -> Domain:
    """The choice between the categories that the YAML lists for the setting `name`. ConfigError unless they are
    different and valid values of this setting."""
    where = f"space.{name}.categories"
    if not isinstance(categories, list) or not categories:
        raise ConfigError(f"{where}: must be a list of at least one value, got {categories!r}")
    values = [_parse_value(name, value, ".categories") for value in categories]
    if len({repr(value) for value in values}) < len(values):
        raise ConfigError(f"{where}: must name each value once, got {categories!r}")
    return Domain(
        type="choice",
        arguments={"categories": [",".join(map(str, v)) if isinstance(v, tuple) else v for v in values]},
    )


def _parse_value(name: str, value: Any, suffix: str = "", is_exclusive: bool = False) -> Any:
    """A value from the YAML, converted to the type of the setting `name`. ConfigError if the setting does not allow it.

    With `is_exclusive`, the value is the exclusive upper end of a range of whole numbers, and the number below it must
    be allowed.
    """
    try:
        converted = convert(name, value, KINDS[name])
        if name != FEATURES:
            checked = converted - 1 if is_exclusive else converted
            # Whether heads and width fit each other is checked later, when both are known.
            other = {HEADS: 1} if name == HIDDEN else {HIDDEN: max(checked, 1)} if name == HEADS else {}
            FitConfig(**{name: checked, **other})
    except ConfigError as error:
        raise ConfigError(f"space.{name}{suffix}: {error}") from error
    return masked(converted) if name == FEATURES else converted  # like the locations of the search, see `tune.prepare`


def _restrict_heads(fixed: dict[str, Any], domains: dict[str, Domain]) -> tuple[int, ...] | None:
    """Change `domains`, in place, so that every point has a number of attention heads that divides 2 × hidden_dim.

    Returns all numbers of heads if the valid ones depend on `hidden_dim`, otherwise None. ConfigError if a `hidden_dim`
    has no valid number of heads.
    """
    default = FitConfig()
    widths = domains[HIDDEN].values() if HIDDEN in domains else [fixed.get(HIDDEN, default.hidden_dim)]
    heads = domains[HEADS].values() if HEADS in domains else [fixed.get(HEADS, default.num_attention_heads)]
    for width in widths:
        if not dividing(heads, width):
            raise ConfigError(
                f"space.{HEADS}: must include a divisor of 2 × hidden_dim = {2 * width}, got {heads}; give a choice "
                f"with a divisor for each hidden_dim, or leave out hidden_dim {width}"
            )
    if HEADS not in domains:
        return None
    possible = [dividing(heads, width) for width in widths]
    if all(heads_of_width == possible[0] for heads_of_width in possible):
        domains[HEADS] = Domain(type="choice", arguments={"categories": possible[0]})
        return None
    domains[HEADS] = Domain(type="uniform", arguments={"lower": 0.0, "upper": 1.0})
    return tuple(heads)


def _check_known(prefix: str, values: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise ConfigError, with the place in the YAML, if `values` has a key that is not in `known`."""
    check_known(values, known, lambda name: f"{prefix}{name}: unknown key")


def searched(space: Space) -> list[str]:
    """The names of the settings whose values differ between trials: `features` first, then in the order of the fields
    of FitConfig."""
    order = [FEATURES, *(field.name for field in fields(FitConfig))]
    return sorted(space.domains, key=order.index)
