"""Charts as SVG text, for pages in light and dark mode: axes, lines, marks (points) and bars.

Colours are CSS variables of the page (`style.css`): the tones `t0` to `t7`, and `muted` for lines that are only there
for comparison. A chart has a viewBox and no size, so it fills the width that the page gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

NUM_TONES = 8
"""Number of different line colours."""

WIDTH, HEIGHT = 390, 290
"""Size of a chart in units of the drawing."""

LEFT, RIGHT, TOP, BOTTOM = 60, 16, 12, 44
"""Margins around the plot, in units of the drawing; a unit is about one pixel on a desktop."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Axis of a chart: a linear scale from `low` to `high`, whose ticks are labelled with the format string `form`."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    form: str = "{:g}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Line of a chart through the points (`x`, `y`), with `name` as its tooltip."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    tone: str
    """colour: `t0` to `t7`, `many` or `muted`"""
    is_dashed: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    """`data-…` attributes, by which the script of the page finds the line"""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Point of a chart with `name` as its tooltip, a vertical line for its interval, and its label above or below.

    `size` is the radius in units of the drawing.
    """

    name: str
    x: float
    y: float
    interval: tuple[float, float] | None = None
    size: float = 4.0
    tone: str = "t0"
    label: str = ""
    is_label_below: bool = False


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Bar of a chart, from `low` to `high` on the x axis, with height `value` and `name` as its tooltip."""

    name: str
    low: float
    high: float
    value: float


Scale = Callable[[float], float]
"""Function from a value to its coordinate in the drawing."""

UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Places of five evenly spaced ticks on an axis from 0 to 1."""


def share_axis(label: str, low: float = 0.0, high: float = 1.0) -> Axis:
    """Axis for shares from `low` to `high`, with five ticks in percent."""
    ticks = tuple(round(low + (high - low) * part, 4) for part in UNIT)
    is_whole = all(abs(100 * tick - round(100 * tick)) < 1e-6 for tick in ticks)
    return Axis(label=label, low=low, high=high, ticks=ticks, form="{:.0%}" if is_whole else "{:.1%}")


def count_axis(label: str, most: float) -> Axis:
    """Axis for whole numbers from 0 to a round number at or above `most`."""
    step = next(s for s in _round_steps() if s * 4 >= most and s == int(s))
    ticks = tuple(step * index for index in range(5) if step * index < most + step)
    return Axis(label=label, low=0.0, high=ticks[-1], ticks=ticks, form="{:,.0f}")


def value_axis(label: str, most: float) -> Axis:
    """Axis for real numbers from 0 to a round number at or above `most`."""
    step = next(s for s in _round_steps() if s * 4 >= most)
    ticks = tuple(step * index for index in range(5) if step * index < most + step)
    return Axis(label=label, low=0.0, high=ticks[-1], ticks=ticks)


def tone(index: int) -> str:
    """Name of the colour for the line number `index`; colours repeat after `NUM_TONES` lines."""
    return f"t{index % NUM_TONES}"


def plot(
    title: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line] = (),
    marks: Sequence[Mark] = (),
    bars: Sequence[Bar] = (),
    height: int = HEIGHT,
) -> Markup:
    """SVG chart with gridlines, bars, lines and marks, drawn in this order. Screen readers read out `title`."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM

    def at_x(value: float) -> float:
        return LEFT + inner_width * (value - x.low) / (x.high - x.low)

    def at_y(value: float) -> float:
        return TOP + inner_height * (1 - (value - y.low) / (y.high - y.low))

    parts = [Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, title)]
    for tick in y.ticks:
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                LEFT, WIDTH - RIGHT, at_y(tick), at_y(tick)
            )
        )
        parts.append(text_element(LEFT - 7, at_y(tick) + 4, y.form.format(tick), "end"))
    for tick in x.ticks:
        parts.append(text_element(at_x(tick), height - BOTTOM + 17, x.form.format(tick), "middle"))
    parts.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(LEFT, WIDTH - RIGHT, y=height - BOTTOM)
    )
    parts.append(text_element(LEFT + inner_width / 2, height - 8, x.label, "middle", "label"))
    turned = Markup('<g transform="translate(12 {:.1f}) rotate(-90)">{}</g>')
    parts.append(turned.format(TOP + inner_height / 2, text_element(0, 0, y.label, "middle", "label")))
    for bar in bars:
        left, width = at_x(bar.low) + 1.5, max(at_x(bar.high) - at_x(bar.low) - 3, 1)
        parts.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
            ).format(left, at_y(bar.value), width, at_y(y.low) - at_y(bar.value), bar.name)
        )
    parts += [_line(line, at_x, at_y) for line in lines]
    parts += [_mark(mark, at_x, at_y) for mark in marks]
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def interval(value: float, low_high: tuple[float, float] | None) -> Markup:
    """Small SVG drawing for a table cell: a share from 0 to 1 as a dot, and its interval `low_high` as a line."""
    width = 68

    def at(share: float) -> float:
        return 4 + (width - 8) * share

    whisker = Markup("")
    if low_high is not None:
        whisker = Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="8" y2="8"/>').format(*map(at, low_high))
    return Markup(
        '<svg class="interval" viewBox="0 0 {w} 16" width="{w}" height="16" aria-hidden="true">'
        '<line class="grid" x1="4" x2="{end}" y1="8" y2="8"/>{whisker}<circle cx="{x:.1f}" cy="8" r="3.4"/></svg>'
    ).format(w=width, end=width - 4, whisker=whisker, x=at(value))


def _round_steps() -> Sequence[float]:
    """Round numbers that may be the distance between two ticks, in rising order."""
    return [base * 10**power for power in range(-6, 12) for base in (1, 2, 2.5, 5)]


def text_element(x: float, y: float, text: str, anchor: str, css: str = "tick") -> Markup:
    """SVG text element at (x, y); `anchor` is its alignment (start, middle or end), `css` its CSS class."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(css, x, y, anchor, text)


def _line(line: Line, at_x: Scale, at_y: Scale) -> Markup:
    path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
    return Markup('<polyline class="line {}{}" points="{}"{}><title>{}</title></polyline>').format(
        line.tone, " dashed" if line.is_dashed else "", path, data_attributes(line.data), line.name
    )


def data_attributes(values: Mapping[str, str]) -> Markup:
    """Text of `data-…` attributes for an SVG element, one per entry of `values`."""
    return Markup("").join(Markup(' data-{}="{}"').format(name, value) for name, value in values.items())


def _mark(mark: Mark, at_x: Scale, at_y: Scale) -> Markup:
    x = at_x(mark.x)
    whisker = Markup("")
    if mark.interval is not None:
        low, high = map(at_y, mark.interval)
        whisker = Markup('<line class="whisker {}" x1="{x:.1f}" x2="{x:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            mark.tone, low, high, x=x
        )
    circle = Markup('<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>')
    drawn = whisker + circle.format(mark.tone, x, at_y(mark.y), mark.size, mark.name)
    if not mark.label:
        return drawn
    away = mark.size + (14 if mark.is_label_below else -12)
    return drawn + text_element(x, at_y(mark.y) + away, mark.label, "middle", "tick halo")
