"""The HTML page of a hyperparameter search, with its charts, and the table of its best trials for a terminal.

A trial is one training with one choice of hyperparameters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from vidclf import storage
from vidclf.credentials import is_masked
from vidclf.pages import render, svg
from vidclf.pages.svg import Axis, Line, Mark
from vidclf.reports import provenance
from vidclf.schema import TrialStatus
from vidclf.tuning import trial_files
from vidclf.tuning.parameter_importance import importances
from vidclf.tuning.search_progress import shown
from vidclf.tuning.space import FEATURES
from vidclf.tuning.tune import SearchResult

PAGE_FILE = "index.html"
"""File name of the HTML page."""

MAX_DRAWN = 200
"""Largest number of trials in a chart, the best ones; more lines would be unreadable."""

NUM_TONED = 5
"""Number of best trials whose learning curves have a colour of their own."""

MAX_LISTED = 500
"""Largest number of trials in the table of the page; trials.parquet has all."""

NUM_PRINTED = 10
"""Number of trials in the table for a terminal."""

PARALLEL_WIDTH, MIN_AXIS_SPACING = 1150, 100
"""Width of the chart of parallel coordinates, and smallest distance between its axes; more axes make the
chart wider."""

Row = Mapping[str, Any]
"""One row of `schema.trials`: the hyperparameters and results of one trial."""

Ticks = list[tuple[float, str]]
"""Ticks of an axis, each with its place on the axis, from 0 to 1, and its label."""


@dataclass(frozen=True, kw_only=True)
class _Coordinate:
    """One axis of a chart of parallel coordinates; each tick has a place from 0 (bottom) to 1 (top) and a label."""

    label: str
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, kw_only=True)
class _Path:
    """A line across a chart of parallel coordinates, at a place from 0 to 1 on each axis, with `name` as its tooltip.

    `share` is the line's colour, from 0 (muted) to 1 (accent). `data` are the `data-…` attributes of its SVG element.
    """

    name: str
    places: Sequence[float]
    share: float
    data: Mapping[str, str]


def publish(search: SearchResult) -> None:
    """Write the page of a finished hyperparameter search, index.html, next to trials.parquet."""
    # A page that is shared names no home directory, so paths are relative to it.
    place = partial(provenance.shown, output=search.config.output)
    rows = [{**row, FEATURES: place(row[FEATURES])} for row in search.trials.to_pylist()]
    fixed = {name: value for name, value in search.space["space"].items() if name not in search.searched}
    if isinstance(fixed.get(FEATURES), str):
        fixed[FEATURES] = place(fixed[FEATURES])
    scored = [row for row in rows if row["best_epoch"]]
    best = scored[0]
    shares = importances([{name: row[name] for name in search.searched} for row in scored], scores(scored))
    html = render.render(
        "tuning.html.j2",
        search=search,
        ensemble=place(search.ensemble) if search.ensemble is not None else None,
        rows=rows[:MAX_LISTED],
        num_rows=len(rows),
        scored=scored,
        best=best,
        failed=[row for row in rows if row["error"]],
        statuses=Counter(row["status"] for row in rows),
        num_epochs=sum(row["num_epochs"] for row in rows),
        duration_s=sum(row["duration_s"] for row in rows),
        importances=shares,
        so_far=so_far_charts(scored),
        parallel=parallel_chart(search.searched, scored[:MAX_DRAWN]),
        curves=curve_charts(scored[:MAX_DRAWN]),
        toned=[(svg.tone(index), row) for index, row in enumerate(scored[:NUM_TONED])],
        lowest=math.floor(100 * min(scores(scored))) / 100,
        highest=max(scores(scored)),
        shown=shown,
        first_line=trial_files.first_line,
        searched=search.searched,
        fixed=[(name, shown(value)) for name, value in fixed.items()],
        method=search.space["search"],
        provenance={
            "command": provenance.command("tune", search.config),
            "date": provenance.now(),
            "features": ", ".join(map(place, search.config.features)),
            "seed": str(search.config.seed),
            "versions": provenance.versions(),
        },
    )
    storage.publish_bytes(storage.join(search.config.output, PAGE_FILE), html.encode())


def table(search: SearchResult) -> str:
    """Text for a terminal: the best trials of a search, numbers of trials by status, and where the results are."""
    rows = search.trials.to_pylist()
    head = ["trial", "macro F1", "accuracy", "epochs", "status", *search.searched]
    lines = [head]
    for row in rows[:NUM_PRINTED]:
        figures = [f"{row[name]:.3f}" if row[name] is not None else "–" for name in ("macro_f1", "accuracy")]
        parameters = [shown(row[name]) for name in search.searched]
        lines.append([row["trial_id"], *figures, str(row["num_epochs"]), row["status"], *parameters])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    printed = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    counts = Counter(row["status"] for row in rows)
    statuses = ", ".join(f"{counts[status]} {status}" for status in TrialStatus if counts[status])
    output, failed = search.config.output, [row for row in rows if row["error"]]
    printed.append(
        f"{len(rows)} of {search.num_planned} trials: {statuses}; {sum(row['num_epochs'] for row in rows)} epochs"
    )
    if failed:
        printed.append(f"first error: trial {failed[0]['trial_id']}: {trial_files.first_line(failed[0]['error'])}")
    printed.append(
        "validation selected the best of these trials, so its score is optimistic: train and evaluate on test"
    )
    printed.append(f"page: {storage.join(output, PAGE_FILE)}")
    if search.ensemble is not None:
        printed.append(f"ensemble: {search.ensemble}")
    best_file = storage.join(output, trial_files.BEST_FILE)
    printed.append(f"train it: {trial_files.train_command(rows[0], best_file)}")
    if is_masked(rows[0]["features"]):
        printed.append("give --features again: the credentials of its location are not stored")
    return "\n".join(printed)


def scores(rows: Sequence[Row]) -> list[float]:
    """Score of each trial: its macro F1 on validation."""
    return [row["macro_f1"] for row in rows]


def best_so_far(rows: Sequence[Row]) -> list[tuple[float, int, float]]:
    """Rises of the best macro F1 during a search, sorted by time, and a last entry for the end of the search.

    Each entry has the seconds since the first trial began, the training epochs spent so far, and the best score.
    """
    start_s = min(row["started_s"] for row in rows)
    epochs = sorted(
        (at - start_s, score) for row in rows for at, score in zip(row["ended_s"], row["epoch_macro_f1"], strict=True)
    )
    steps: list[tuple[float, int, float]] = []
    for number, (elapsed_s, score) in enumerate(epochs, 1):
        if not steps or score > steps[-1][2]:
            steps.append((elapsed_s, number, score))
    return [*steps, (epochs[-1][0], len(epochs), steps[-1][2])]


def so_far_charts(rows: Sequence[Row]) -> list[Markup]:
    """Two charts of the best macro F1 so far in a search: against minutes, and against training epochs spent."""
    steps = best_so_far(rows)
    # Each of these lower ends gives ticks in whole percent; the axis starts just below the first score.
    low = next(low for low in (0.92, 0.8, 0.6, 0.2, 0.0) if low <= steps[0][2])
    y = svg.share_axis("best macro F1 so far", low)
    return [
        _stairs("Best macro F1 so far by time", x, y, [(step[place] / unit, step[2]) for step in steps])
        for x, place, unit in (
            (svg.value_axis("minutes since the search began", steps[-1][0] / 60), 0, 60),
            (svg.count_axis("epochs spent, all trials together", steps[-1][1]), 1, 1),
        )
    ]


def _stairs(title: str, x: Axis, y: Axis, points: Sequence[tuple[float, float]]) -> Markup:
    """Chart of a step line through `points`, with a mark at each rise."""
    corners = [points[0]]
    for at, score in points[1:]:
        corners += [(at, corners[-1][1]), (at, score)]
    line = Line(name=title, x=[at for at, _ in corners], y=[score for _, score in corners], tone="t0")
    marks = [Mark(name=render.percent(score), x=at, y=score, size=3.4) for at, score in points[:-1]]
    return svg.plot(title, x, y, [line], marks)


def curve_charts(rows: Sequence[Row]) -> list[Markup]:
    """Two charts of learning curves, one line per trial: macro F1 and loss on validation by epoch.

    The best trials are drawn on top, in colours of their own.
    """
    x = svg.count_axis("epoch", max(row["num_epochs"] for row in rows))
    # The axis is cut, because one diverged loss would flatten all other curves.
    highest = 1.5 * sorted(row["epoch_val_loss"][0] for row in rows)[len(rows) // 2]
    charts = []
    for title, key, y in (
        ("Macro F1 on validation by epoch", "epoch_macro_f1", svg.share_axis("macro F1")),
        ("Validation loss by epoch", "epoch_val_loss", svg.value_axis("validation loss", highest)),
    ):
        lines = [
            Line(
                name=f"trial {row['trial_id']}: {render.percent(row['macro_f1'])}",
                x=range(1, row["num_epochs"] + 1),
                y=[min(value, y.high) for value in row[key]],
                tone=svg.tone(index) if index < NUM_TONED else "muted",
                data=_data(row),
            )
            for index, row in reversed(list(enumerate(rows)))
        ]
        charts.append(svg.plot(title, x, y, lines))
    return charts


def parallel_chart(searched: Sequence[str], rows: Sequence[Row]) -> Markup:
    """Chart with one line per trial, through its hyperparameters to its score.

    The best trials are on top, in the accent colour.
    """
    columns = [(name, *places([row[name] for row in rows])) for name in searched]
    columns.append(("macro F1", *places(scores(rows))))
    num = max(len(rows) - 1, 1)
    paths = [
        _Path(
            name=f"trial {row['trial_id']}: {render.percent(row['macro_f1'])}",
            places=[column[1][index] for column in columns],
            share=(1 - index / num) ** 2,
            data=_data(row),
        )
        for index, row in reversed(list(enumerate(rows)))
    ]
    axes = [_Coordinate(label=name, ticks=ticks) for name, _, ticks in columns]
    return _parallel("Parallel coordinates of the trials", axes, paths)


def _parallel(title: str, axes: Sequence[_Coordinate], paths: Sequence[_Path]) -> Markup:
    """Chart of parallel coordinates (Inselberg 1985), with the last paths on top.

    The names of the axes alternate between two lines, so that long names fit side by side.
    """
    height, top, bottom = 340, 48, 14
    spacing = max(MIN_AXIS_SPACING, PARALLEL_WIDTH // len(axes))
    width = spacing * len(axes)

    def at_y(place: float) -> float:
        return top + (height - top - bottom) * (1 - place)

    xs = [spacing * index + spacing // 2 + 18 for index in range(len(axes))]
    parts = [
        Markup(
            '<svg class="parallel" viewBox="0 0 {w} {h}" style="min-width: {w}px" role="img" aria-label="{t}">'
        ).format(w=width, h=height, t=title)
    ]
    for path in paths:
        points = " ".join(f"{x},{at_y(place):.1f}" for x, place in zip(xs, path.places, strict=True))
        parts.append(
            Markup('<polyline class="path" style="--p: {:.0f}" points="{}"{}><title>{}</title></polyline>').format(
                100 * path.share, points, svg.data_attributes(path.data), path.name
            )
        )
    for index, (x, axis) in enumerate(zip(xs, axes, strict=True)):
        parts.append(Markup('<line class="axis" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(at_y(0), at_y(1), x=x))
        parts.append(svg.text_element(x, 14 + 17 * (index % 2), axis.label, "middle", "label"))
        parts += [svg.text_element(x - 6, at_y(place) + 4, text, "end", "tick halo") for place, text in axis.ticks]
    return Markup("").join([*parts, Markup("</svg>")])


def places(values: Sequence[Any]) -> tuple[list[float], Ticks]:
    """Place of each value on an axis from 0 to 1, and the ticks of the axis.

    Fractions, and whole numbers with more than six different values, are placed by size. All other values are placed at
    even distances.
    """
    different = sorted({_hashable(value) for value in values}, key=_order)
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in different)
    if is_number and (len(different) > 6 or (len(different) > 1 and isinstance(different[0], float))):
        return _numeric_places(values, low=different[0], high=different[-1])
    return _ordinal_places(values, different)


def _numeric_places(values: Sequence[float], low: float, high: float) -> tuple[list[float], Ticks]:
    """Places of numbers on an axis by their size, and the ticks of the axis.

    The scale is logarithmic if all numbers are positive and the largest is at least ten times the smallest.
    """
    is_log = low > 0 and high >= 10 * low
    scale, undo = (math.log, math.exp) if is_log else (float, float)
    span = scale(high) - scale(low)
    ticks = [(part, shown(float(undo(scale(low) + part * span)))) for part in svg.UNIT]
    return [(scale(value) - scale(low)) / span for value in values], ticks


def _ordinal_places(values: Sequence[Any], different: Sequence[Any]) -> tuple[list[float], Ticks]:
    """Places of values on an axis at even distances, sorted as in `different`, and one tick per value.

    A single value is in the middle.
    """
    step = 1 / max(len(different) - 1, 1)
    place_of = {value: index * step if len(different) > 1 else 0.5 for index, value in enumerate(different)}
    return [place_of[_hashable(value)] for value in values], [(at, shown(value)) for value, at in place_of.items()]


def _hashable(value: Any) -> Any:
    """The value unchanged, or as a tuple if it is a list."""
    return tuple(value) if isinstance(value, list) else value


def _order(value: Any) -> tuple[bool, Any]:
    """Sort key that puts None after all other values."""
    return value is None, () if value is None else (value,)


def _data(row: Row) -> dict[str, str]:
    """Attributes of a trial's lines in the charts, by which the script of the page finds them."""
    return {"trial": row["trial_id"], "score": f"{row['macro_f1']:.6f}"}
