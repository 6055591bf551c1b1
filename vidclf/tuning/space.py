"""What a tuning searches: YAML ▶ domains by name, and a sampled point ▶ the settings of a training.

    search: {algorithm: tpe, scheduler: asha}
    space:
      epochs: 60                                                  a fixed value
      lr: {type: loguniform, lower: 1.0e-4, upper: 1.0e-2}        tune.loguniform(lower=1e-4, upper=1e-2)
      hidden_dim: {type: choice, categories: [64, 96, 128]}       tune.choice(categories=[64, 96, 128])

A domain's `type` is a function of `ray.tune`, its other keys are that function's parameters. Keys are flags of
`jobs/train.py` that decide a member, and `features`, which of several directories.
"""

from __future__ import annotations

import itertools
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from vidclf import storage
from vidclf.config import FitConfig, SearchConfig
from vidclf.config.fields import base_kind, check_known, convert
from vidclf.config.train import RECIPES
from vidclf.errors import ConfigError

FEATURES, HEADS, HIDDEN = "features", "num_attention_heads", "hidden_dim"

POINT = "point"
"""Of a grid, the name under which a trial has its whole point."""

RANGES = {"uniform": float, "loguniform": float, "randint": int, "lograndint": int}
"""Types of domain with `lower` and `upper`, by the type of the values; as in `ray.tune`, `upper` is not drawn
where they are whole."""

TYPES = (*RANGES, "choice")

MUTABLE = (
    *("lr", "weight_decay", "dropout", "batch_size", "focal_gamma", "label_smoothing", "max_grad_norm"),
    *("multi_scale", "min_kept_frames", "max_shift", "feature_noise"),
)
"""What may change in the middle of a training, so that population-based training can exchange it."""

KINDS = {**typing.get_type_hints(FitConfig), FEATURES: str}


del KINDS["seed"]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The call `getattr(ray.tune, type)(**arguments)`. Lists among a choice's categories are text, `1,2`, since
    Optuna takes plain values only."""

    type: str
    arguments: dict[str, Any]

    @property
    def num_values(self) -> int | None:
        """How many values it has; None where they are not to be counted."""
        if self.type == "choice":
            return len(self.arguments["categories"])
        return self.arguments["upper"] - self.arguments["lower"] if RANGES[self.type] is int else None

    def values(self) -> list[Any]:
        """Every value of a choice or of whole numbers."""
        if self.type == "choice":
            return list(self.arguments["categories"])
        assert RANGES[self.type] is int, f"{self.type} has no countable values"
        return list(range(self.arguments["lower"], self.arguments["upper"]))


@dataclass(frozen=True, kw_only=True)
class Space:
    """A space as it is searched."""

    search: SearchConfig
    fixed: dict[str, Any]
    domains: dict[str, Domain]
    heads: tuple[int, ...] | None = None
    """where which numbers of heads are possible depends on `hidden_dim`: all of them. The domain of
    `num_attention_heads` is then a place from 0 to 1 among those that divide 2 × hidden_dim, so that no point
    is invalid, whatever draws it, and each is as likely as the others of its `hidden_dim`."""

    def settings(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Values of FitConfig's fields, and `features`, for a point that a searcher drew."""
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
        values = self.settings(point)
        values.pop(FEATURES, None)
        return FitConfig(**values, seed=seed)

    def grid(self) -> list[dict[str, Any]]:
        """Every point, invalid combinations left out; in the order of the keys, the last one running fastest."""
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
        """Epochs that a trial may take, those before a fresh start included."""
        most = {}
        for name in ("epochs", "max_restarts", "collapse_epoch"):
            drawn = self.domains.get(name)
            given = self.fixed.get(name, getattr(FitConfig(), name))
            most[name] = max(drawn.values()) if drawn is not None else given
        return int(most["epochs"] + most["max_restarts"] * most["collapse_epoch"])

    def described(self) -> dict[str, Any]:
        """As plain values, to tell whether another space is the same."""
        return {
            "search": dict(vars(self.search)),
            "space": {
                **{name: list(value) if isinstance(value, tuple) else value for name, value in self.fixed.items()},
                **{name: {"type": domain.type, **domain.arguments} for name, domain in self.domains.items()},
                **({HEADS: {"type": "choice", "categories": list(self.heads)}} if self.heads is not None else {}),
            },
        }


def dividing(heads: Sequence[int], hidden_dim: int) -> list[int]:
    """The numbers of heads that divide 2 × hidden_dim, in their order."""
    return [number for number in heads if (2 * hidden_dim) % number == 0]


def read_space(location: str) -> Space:
    """A space from a YAML file or URI; ConfigError with file, key, rule and value where it is none."""
    values = storage.read_yaml(location, "--space")
    try:
        return parse_space(values)
    except ConfigError as error:
        raise ConfigError(f"--space {location}: {error}") from error


def parse_space(values: Any) -> Space:
    """A space from what YAML holds; ConfigError naming key, rule and value."""
    if not isinstance(values, dict) or not isinstance(values.get("space"), dict) or not values["space"]:
        raise ConfigError("must hold `space:` with at least one key, and may hold `search:`")
    _refuse_unknown("", values, ("search", "space"))
    search = _search(values.get("search") or {})
    fixed: dict[str, Any] = {}
    domains: dict[str, Domain] = {}
    for name, value in values["space"].items():
        if name == "seed":
            raise ConfigError("space.seed: must be left out, the same seed serves all trials; give --seed")
        _refuse_unknown("space.", {name: value}, tuple(KINDS))
        if isinstance(value, dict):
            domains[name] = _domain(name, value)
        else:
            fixed[name] = _valid(name, value)
    heads = _combine(fixed, domains)
    space = Space(search=search, fixed=fixed, domains=domains, heads=heads)
    _check_search(space)
    return space


def _search(values: Any) -> SearchConfig:
    if not isinstance(values, dict):
        raise ConfigError(f"search: must hold `key: value` lines, got {values!r}")
    kinds = typing.get_type_hints(SearchConfig)
    _refuse_unknown("search.", values, tuple(kinds))
    try:
        return SearchConfig(**{name: convert(name, value, kinds[name]) for name, value in values.items()})
    except ConfigError as error:
        raise ConfigError(f"search: {error}") from error


def _check_search(space: Space) -> None:
    algorithm = space.search.algorithm
    if not space.domains:
        raise ConfigError(
            "space: must leave something to search, holds fixed values only; a domain is "
            "{type: choice, categories: [...]}, for one"
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
            raise ConfigError("space.features: must be fixed for search.algorithm pbt, which hands weights on")


def _domain(name: str, value: dict[str, Any]) -> Domain:
    where, kind = f"space.{name}", value.get("type")
    if kind not in TYPES:
        raise ConfigError(f"{where}.type: must be one of {', '.join(TYPES)} (functions of ray.tune), got {kind!r}")
    arguments = {key: item for key, item in value.items() if key != "type"}
    wanted = ("categories",) if kind == "choice" else ("lower", "upper")
    _refuse_unknown(f"{where}.", arguments, wanted)
    for key in wanted:
        if key not in arguments:
            raise ConfigError(f"{where}.{key}: must be given with type {kind}")
    if kind == "choice":
        return _choice(name, arguments["categories"])
    expected = base_kind(KINDS[name])
    if expected is not RANGES[kind]:
        rule = {int: "randint, lograndint or choice", float: "uniform, loguniform or choice"}.get(expected, "choice")
        raise ConfigError(f"{where}.type: must be {rule} for this key, got {kind!r}")
    lower, upper = (
        _valid(name, arguments[key], f".{key}", at_most=key == "upper" and kind in ("randint", "lograndint"))
        for key in wanted
    )
    if not lower < upper or not math.isfinite(upper):
        raise ConfigError(f"{where}.upper: must be above lower {lower!r}, got {upper!r}")
    if kind.startswith("log") and lower <= 0:
        raise ConfigError(f"{where}.lower: must be above 0 with type {kind}, got {lower!r}")
    return Domain(type=kind, arguments={"lower": lower, "upper": upper})


def _choice(name: str, categories: Any) -> Domain:
    where = f"space.{name}.categories"
    if not isinstance(categories, list) or not categories:
        raise ConfigError(f"{where}: must be a list of at least one value, got {categories!r}")
    values = [_valid(name, value, ".categories") for value in categories]
    if len({repr(value) for value in values}) < len(values):
        raise ConfigError(f"{where}: must name each value once, got {categories!r}")
    return Domain(
        type="choice",
        arguments={"categories": [",".join(map(str, v)) if isinstance(v, tuple) else v for v in values]},
    )


def _valid(name: str, value: Any, suffix: str = "", at_most: bool = False) -> Any:
    """The value as the key's type, if a training may have it; `at_most` for the upper end that is not drawn."""
    try:
        converted = convert(name, value, KINDS[name])
        if name != FEATURES:
            checked = converted - 1 if at_most else converted
            # Whether heads and width fit each other is seen later, where both are known.
            FitConfig(
                **{HIDDEN: checked, HEADS: 1}
                if name == HIDDEN
                else {HIDDEN: 1 if checked < 1 else checked, HEADS: checked}
                if name == HEADS
                else {name: checked}
            )
    except ConfigError as error:
        raise ConfigError(f"space.{name}{suffix}: {error}") from error
    return converted


def _combine(fixed: dict[str, Any], domains: dict[str, Domain]) -> tuple[int, ...] | None:
    """Make heads and width fit each other, in place; the heads where it depends on the width which ones do.

    ConfigError where some width is left without any.
    """
    default = FitConfig()
    widths = domains[HIDDEN].values() if HIDDEN in domains else [fixed.get(HIDDEN, default.hidden_dim)]
    heads = domains[HEADS].values() if HEADS in domains else [fixed.get(HEADS, default.num_attention_heads)]
    for width in widths:
        if not dividing(heads, width):
            raise ConfigError(
                f"space.{HEADS}: must have a divisor of 2 × hidden_dim = {2 * width}, got {heads}; give it as a choice "
                f"with one for each hidden_dim, or leave out hidden_dim {width}"
            )
    if HEADS not in domains:
        return None
    possible = [dividing(heads, width) for width in widths]
    if all(some == possible[0] for some in possible):
        domains[HEADS] = Domain(type="choice", arguments={"categories": possible[0]})
        return None
    domains[HEADS] = Domain(type="uniform", arguments={"lower": 0.0, "upper": 1.0})
    return tuple(heads)


def _refuse_unknown(prefix: str, values: Mapping[str, Any], known: Sequence[str]) -> None:
    check_known(values, known, lambda name: f"{prefix}{name}: unknown key")


def searched(space: Space) -> list[str]:
    """The keys that trials differ in, in the order of FitConfig's fields, `features` first."""
    order = [FEATURES, *(field.name for field in fields(FitConfig))]
    return sorted(space.domains, key=order.index)
