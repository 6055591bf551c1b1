"""Rules for the values of `ensemble.json`, which may come from an untrusted source."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vidclf.backbones.catalog import FEATURE_DIMS
from vidclf.ensemble.known_sources import are_counts
from vidclf.ensemble.nan_values import names_where
from vidclf.ensemble.views import VIEWS
from vidclf.ensemble.weights_file_check import MAX_MEMBERS, is_plain_name
from vidclf.features.spec import FeatureSpec
from vidclf.schema import Look
from vidclf.uncertainty.early_exit import EARLY_LOOKS

if TYPE_CHECKING:
    from vidclf.ensemble.info import EnsembleInfo  # `info` imports this module

MAX_FRAMES = 4096
"""Largest number of frames per video that `ensemble.json` may state."""

MAX_DIM = 65536
"""Largest number of features per frame that `ensemble.json` may state."""

MAX_SUBLABELS = 65536
"""Largest number of sublabels that `ensemble.json` may state."""

Rule = tuple[str, bool, str, Any]
"""A check of one value: the name of the value, whether the value is valid, the rule in words, and the value itself."""


FITTED_PARTS = ("calibration", "trust", "views", "stages", "segments", "linear", "sublabels")
"""Names of the fields of `EnsembleInfo` with fitted values, which must all be numbers."""

FINITE = "above 0 and finite"
"""The rule for a temperature."""


def first_invalid(info: EnsembleInfo) -> str:
    """Message about the first value of an ensemble that is out of range, with its name and rule; empty text if all are
    valid."""
    rules = itertools.chain(
        _ensemble_rules(info),
        _backbone_rules(info),
        _member_rules(info),
        _linear_rules(info),
        _sublabel_rules(info),
        _number_rules(info),
    )
    return next((f"{name} must be {rule}, got {value!r}" for name, is_valid, rule, value in rules if not is_valid), "")


def _ensemble_rules(info: EnsembleInfo) -> Iterator[Rule]:
    """Checks of the values that exist once per ensemble, such as its classes and its temperature."""
    names, temperature = info.backbone_names, info.calibration.temperature
    yield "classes", len(set(info.classes)) == len(info.classes) >= 2, "at least 2, each once", info.classes
    yield "members", 1 <= len(info.members) <= MAX_MEMBERS, f"between 1 and {MAX_MEMBERS}", len(info.members)
    yield "temperature", 0 < temperature < math.inf, FINITE, temperature
    for index, segment in enumerate(info.segments):
        yield f"temperature of segments {index}", 0 < segment.temperature < math.inf, FINITE, segment.temperature
    sources = info.training.get("sources")
    yield "training.sources", are_counts(sources), "two counts, num_videos and num_unknown", sources
    yield "backbones", len(set(names)) == len(names) >= 1, "at least 1, each once", names
    views = [view.name for view in info.views]
    yield "views", len(set(views) & set(VIEWS)) == len(views), f"of {', '.join(VIEWS)}, each once", views
    yield "stages", set(info.stages) <= set(EARLY_LOOKS), f"of {', '.join(EARLY_LOOKS)}", list(info.stages)


def _backbone_rules(info: EnsembleInfo) -> Iterator[Rule]:
    """Checks of each backbone's values. The ensemble must have at least one backbone, which `_ensemble_rules` checks
    first."""
    first = info.backbones[0].feature_spec
    with_members = {member.backbone for member in info.members}
    for fitted in info.backbones:
        spec, name = fitted.feature_spec, fitted.name
        dim, num_frames = _known_dim(spec), spec.sampling.get("num_frames", 1)
        transform = f"its feature_spec's transform {spec.transform}"
        yield "backbone", dim is not None, f"one of {', '.join(FEATURE_DIMS)}, or have a described network", name
        yield f"feature_dim of {name}", dim is None or 1 <= dim <= MAX_DIM, f"between 1 and {MAX_DIM}", dim
        yield f"num_frames of {name}", 1 <= num_frames <= MAX_FRAMES, f"between 1 and {MAX_FRAMES}", num_frames
        yield f"feature_dim of {name}", fitted.feature_dim == dim, str(dim), fitted.feature_dim
        yield f"preprocessing of {name}", fitted.preprocessing == spec.transform, transform, fitted.preprocessing
        is_like_first = spec.frames == first.frames
        yield f"sampling and decoder of {name}", is_like_first, f"those of {first.backbone} {first.frames}", spec.frames
        yield f"members of {name}", name in with_members, "at least 1", 0


def _known_dim(spec: FeatureSpec) -> int | None:
    """Number of features per frame that a feature spec states, or that its backbone has; None if neither is known."""
    if spec.network is None:
        return FEATURE_DIMS.get(spec.backbone)
    stated = spec.network.get("feature_dim")
    return stated if isinstance(stated, int) else None


def _member_rules(info: EnsembleInfo) -> Iterator[Rule]:
    """Checks of each member's backbone name and file name."""
    names, files = info.backbone_names, [member.file for member in info.members]
    for index, member in enumerate(info.members):
        file = member.file
        yield f"backbone of member {index}", member.backbone in names, f"one of {names}", member.backbone
        yield f"file of member {index}", is_plain_name(file), "the name of a file in the ensemble's directory", file
        yield f"file of member {index}", files.count(file) == 1, "of no other member", file


def _linear_rules(info: EnsembleInfo) -> Iterator[Rule]:
    """Checks of the weights of the linear member, if the ensemble has one."""
    if info.linear is None:
        return
    looks, segments = info.linear.looks, info.linear.segments
    needed = {str(Look.FULL), *map(str, info.stages)}
    yield "looks of the linear member", set(looks) == needed, f"{', '.join(sorted(needed))}", sorted(looks)
    count = len(info.segments)
    yield "segments of the linear member", len(segments) == count, f"{count}, one per segment length", len(segments)
    weights = {
        **{name: look.weight for name, look in looks.items()},
        **{f"segments {i}": w for i, w in enumerate(segments)},
    }
    for name, weight in weights.items():
        yield f"weight of the linear member for {name}", 0 <= weight <= 1, "between 0 and 1", weight


def _sublabel_rules(info: EnsembleInfo) -> Iterator[Rule]:
    """Checks of the taxonomy and of the temperatures of its sublabels."""
    taxonomy, sublabels = info.taxonomy, info.sublabels
    yield "sublabels", (sublabels is None) == (not taxonomy), "present exactly with a taxonomy", taxonomy
    yield "classes of the taxonomy", set(taxonomy) <= set(info.classes), f"of {info.classes}", list(taxonomy)
    num_sublabels = sum(map(len, taxonomy.values()))
    yield "taxonomy", num_sublabels <= MAX_SUBLABELS, f"of at most {MAX_SUBLABELS} sublabels", num_sublabels
    for name, names in taxonomy.items():
        yield f"sublabels of {name}", len(set(names)) == len(names) >= 2, "at least 2, each once", names
    if sublabels is None:
        return
    temperatures = sublabels.temperatures
    needed = {"plain", "tta", *map(str, info.stages)}
    yield "temperatures of sublabels", set(temperatures) == needed, f"{', '.join(sorted(needed))}", sorted(temperatures)
    for name, temperature in temperatures.items():
        yield f"temperature of sublabels, {name}", 0 < temperature < math.inf, FINITE, temperature


def _number_rules(info: EnsembleInfo) -> Iterator[Rule]:
    """A check of the number of OOD distances, and a failed check for every fitted value that is NaN."""
    num_distances, num_backbones = len(info.trust.ood.distances), len(info.backbones)
    yield "trust.ood.distances", num_distances == num_backbones, f"{num_backbones}, one per backbone", num_distances
    values = asdict(info)
    for part in FITTED_PARTS:
        for name in names_where(math.isnan, values[part], part):
            yield name, False, "a number", math.nan


def first_not_finite(info: EnsembleInfo) -> str:
    """Message about the first fitted value that is not finite, for an ensemble to be written; empty if there is none.

    A file of an earlier version may hold an infinite standard error, so that reading cannot refuse it.
    """
    values = asdict(info)
    names = (
        name
        for part in FITTED_PARTS
        for name in names_where(lambda number: not math.isfinite(number), values[part], part)
    )
    return next((f"{name} must be finite" for name in names), "")
