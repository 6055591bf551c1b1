"""The page of a search, and its table for a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vidclf import storage
from vidclf.pages import render, svg
from vidclf.pages.svg import Axis, Coordinate, Line, Mark, Path
from vidclf.reports import provenance
from vidclf.schema import TrialStatus
from vidclf.tuning import trial_files
from vidclf.tuning.parameter_importance import importances
from vidclf.tuning.tune import SearchResult, shown

PAGE_FILE = "index.html"

MAX_DRAWN = 200
"""Trials in a chart, the best ones: more lines tell no more."""

NUM_TONED = 5
"""Trials that have a tone of their own among the learning curves."""

MAX_LISTED = 500
"""Trials in the page's table; trials.parquet has all."""

NUM_PRINTED = 10

Row = Mapping[str, Any]


def publish(search: SearchResult) -> None:
    """Write index.html beside trials.parquet."""
    rows = search.trials.to_pylist()
    scored = [row for row in rows if row["best_epoch"]]
    best = scored[0]
    shares = importances([{name: row[name] for name in search.searched} for row in scored], scores(scored))
    html = render.render(
        "tuning.html.j2",
        search=search,
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
        fixed=[(name, shown(value)) for name, value in search.space["space"].items() if name not in search.searched],
        method=search.space["search"],
        provenance={
            "command": provenance.command("tune", search.config),
            "date": provenance.now(),
            "features": ", ".join(provenance.shown(at, search.config.output) for at in search.config.features),
            "seed": str(search.config.seed),
            "versions": provenance.versions(),
        },
    )
    storage.publish_bytes(storage.join(search.config.output, PAGE_FILE), html.encode())


def table(search: SearchResult) -> str:
    """The best trials, what became of the others, and where everything is."""
    rows = search.trials.to_pylist()
    head = ["trial", "macro F1", "accuracy", "epochs", "status", *search.searched]
    lines = [head]
    for row in rows[:NUM_PRINTED]:
        figures = [f"{row[name]:.3f}" if row[name] is not None else "–" for name in ("macro_f1", "accuracy")]
        drawn = [shown(row[name]) for name in search.searched]
        lines.append([row["trial_id"], *figures, str(row["num_epochs"]), row["status"], *drawn])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    printed = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    counts = Counter(row["status"] for row in rows)
    told = ", ".join(f"{counts[status]} {status}" for status in TrialStatus if counts[status])
    output, failed = search.config.output, [row for row in rows if row["error"]]
    printed.append(
        f"{len(rows)} of {search.num_planned} trials: {told}; {sum(row['num_epochs'] for row in rows)} epochs"
    )
    if failed:
        printed.append(f"first error: trial {failed[0]['trial_id']}: {trial_files.first_line(failed[0]['error'])}")
    printed.append("validation chose the best of these, so its score flatters: train and evaluate on test")
    printed.append(f"page: {storage.join(output, PAGE_FILE)}")
    if search.ensemble is not None:
        printed.append(f"ensemble: {search.ensemble}")
    printed.append(f"train it: python jobs/train.py --config {storage.join(output, trial_files.BEST_FILE)} --output …")
    return "\n".join(printed)


def scores(rows: Sequence[Row]) -> list[float]:
    return [row["macro_f1"] for row in rows]


def best_so_far(rows: Sequence[Row]) -> list[tuple[float, int, float]]:
    """When the search's best macro F1 rose: seconds since the first trial began, epochs spent till then, the
    score; and, last, where it ended."""
    began = min(row["started_s"] for row in rows)
    ended = sorted(
        (at - began, score) for row in rows for at, score in zip(row["ended_s"], row["epoch_macro_f1"], strict=True)
    )
    steps: list[tuple[float, int, float]] = []
    for number, (elapsed_s, score) in enumerate(ended, 1):
        if not steps or score > steps[-1][2]:
            steps.append((elapsed_s, number, score))
    return [*steps, (ended[-1][0], len(ended), steps[-1][2])]


def so_far_charts(rows: Sequence[Row]) -> list[Markup]:
    """The best macro F1 by minutes, and by epochs spent."""
    steps = best_so_far(rows)
    # Steps of whole percents, from just below where the search began.
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
    corners = [points[0]]
    for at, score in points[1:]:
        corners += [(at, corners[-1][1]), (at, score)]
    line = Line(name=title, x=[at for at, _ in corners], y=[score for _, score in corners], tone="t0")
    marks = [Mark(name=render.percent(score), x=at, y=score, size=3.4) for at, score in points[:-1]]
    return svg.plot(title, x, y, [line], marks)


def curve_charts(rows: Sequence[Row]) -> list[Markup]:
    """Macro F1 and loss on validation over the epochs; the best trials in tones of their own, on top."""
    x = svg.count_axis("epoch", max(row["num_epochs"] for row in rows))
    # A loss that blew up would flatten all others.
    highest = 1.5 * sorted(row["epoch_val_loss"][0] for row in rows)[len(rows) // 2]
    drawn = []
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
        drawn.append(svg.plot(title, x, y, lines))
    return drawn


def parallel_chart(searched: Sequence[str], rows: Sequence[Row]) -> Markup:
    """A line a trial through its parameters to its score; the best in the accent's colour, on top."""
    columns = [(name, *places([row[name] for row in rows])) for name in searched]
    columns.append(("macro F1", *places(scores(rows))))
    num = max(len(rows) - 1, 1)
    paths = [
        Path(
            name=f"trial {row['trial_id']}: {render.percent(row['macro_f1'])}",
            places=[column[1][index] for column in columns],
            share=(1 - index / num) ** 2,
            data=_data(row),
        )
        for index, row in reversed(list(enumerate(rows)))
    ]
    axes = [Coordinate(label=name, ticks=ticks) for name, _, ticks in columns]
    return svg.parallel("Parallel coordinates of the trials", axes, paths)


def places(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """A place from 0 to 1 for each value, and ticks: fractions and many whole numbers by size (logarithmically,
    where the greatest is ten times the least), everything else evenly."""
    different = sorted({_hashable(value) for value in values}, key=_order)
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in different)
    if is_number and (len(different) > 6 or (len(different) > 1 and isinstance(different[0], float))):
        low, high = different[0], different[-1]
        scale = math.log if low > 0 and high >= 10 * low else float
        span = scale(high) - scale(low)
        undo = math.exp if scale is math.log else float
        ticks = [(part, shown(float(undo(scale(low) + part * span)))) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
        return [(scale(value) - scale(low)) / span for value in values], ticks
    step = 1 / max(len(different) - 1, 1)
    place = {value: index * step if len(different) > 1 else 0.5 for index, value in enumerate(different)}
    return [place[_hashable(value)] for value in values], [(at, shown(value)) for value, at in place.items()]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _order(value: Any) -> tuple[bool, Any]:
    """None last; numbers, texts and lists by themselves."""
    return value is None, () if value is None else (value,)


def _data(row: Row) -> dict[str, str]:
    return {"trial": row["trial_id"], "score": f"{row['macro_f1']:.6f}"}
