"""Charts as SVG text, coloured by the page's CSS variables, so that one drawing reads on light and dark.

Tones are places in the page's palette (`style.css`): `t0` to `t7`, `muted` for what is there to compare
with. Every chart has a viewBox and no size: it fills the width that the page gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

NUM_TONES = 8

WIDTH, HEIGHT = 390, 290

LEFT, RIGHT, TOP, BOTTOM = 60, 16, 12, 44
"""Room around the plot, in the drawing's units; a unit is about a pixel on a desktop."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear scale from `low` to `high`; `ticks` are labelled with `form` (a format of one number)."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    form: str = "{:g}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A polyline; `name` is its tooltip."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    tone: str
    is_dashed: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    """what the page's script knows it by: `data-…` attributes"""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point, with its interval as a whisker and `size` in the drawing's units as its radius; `label` stands
    above it, or below."""

    name: str
    x: float
    y: float
    interval: tuple[float, float] | None = None
    size: float = 4.0
    tone: str = "t0"
    label: str = ""
    is_label_below: bool = False


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """An axis of parallel coordinates: `ticks` are places from 0 (below) to 1 and their labels."""

    label: str
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, kw_only=True)
class Path:
    """A line across parallel coordinates, at a place from 0 to 1 on each; `share` from 0 (muted) to 1 (accent) is
    its colour, and `name` its tooltip."""

    name: str
    places: Sequence[float]
    share: float
    data: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Bar:
    name: str
    low: float
    high: float
    value: float


PARALLEL_WIDTH, PARALLEL_SPACING = 1150, 100
"""Width of parallel coordinates, and the least between two axes, in whose favour they become wider."""

Scale = Callable[[float], float]
"""From a value to its place in the drawing."""

UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)


def share_axis(label: str, low: float = 0.0, high: float = 1.0) -> Axis:
    """An axis of shares, labelled in percent, with ticks that suit its span."""
    ticks = tuple(round(low + (high - low) * part, 4) for part in UNIT)
    is_whole = all(abs(100 * tick - round(100 * tick)) < 1e-6 for tick in ticks)
    return Axis(label=label, low=low, high=high, ticks=ticks, form="{:.0%}" if is_whole else "{:.1%}")


def count_axis(label: str, most: float) -> Axis:
    """An axis from 0 to a round number at or above `most`."""
    step = next(s for s in _round_steps() if s * 4 >= most and s == int(s))
    ticks = tuple(step * index for index in range(5) if step * index < most + step)
    return Axis(label=label, low=0.0, high=ticks[-1], ticks=ticks, form="{:,.0f}")


def value_axis(label: str, most: float) -> Axis:
    """An axis from 0 to a round number at or above `most`, not only for whole ones."""
    step = next(s for s in _round_steps() if s * 4 >= most)
    ticks = tuple(step * index for index in range(5) if step * index < most + step)
    return Axis(label=label, low=0.0, high=ticks[-1], ticks=ticks)


def error_limit(risk: float) -> float:
    """The top of an axis of error rates: the least round one at or above `risk`."""
    return next(limit for limit in (0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 1.0) if risk <= limit)


def tone(index: int) -> str:
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
    """One chart: gridlines, bars, lines and marks, in this order. `title` is read to who cannot see it."""
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
        parts.append(_text(LEFT - 7, at_y(tick) + 4, y.form.format(tick), "end"))
    for tick in x.ticks:
        parts.append(_text(at_x(tick), height - BOTTOM + 17, x.form.format(tick), "middle"))
    parts.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(LEFT, WIDTH - RIGHT, y=height - BOTTOM)
    )
    parts.append(_text(LEFT + inner_width / 2, height - 8, x.label, "middle", "label"))
    turned = Markup('<g transform="translate(12 {:.1f}) rotate(-90)">{}</g>')
    parts.append(turned.format(TOP + inner_height / 2, _text(0, 0, y.label, "middle", "label")))
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


def parallel(title: str, axes: Sequence[Coordinate], paths: Sequence[Path]) -> Markup:
    """Parallel coordinates (Inselberg 1985); the last paths lie on top. Names of axes stand on two lines in turn,
    so that long ones fit beside each other."""
    height, top, bottom = 340, 48, 14
    spacing = max(PARALLEL_SPACING, PARALLEL_WIDTH // len(axes))
    width = spacing * len(axes)

    def at(place: float) -> float:
        return top + (height - top - bottom) * (1 - place)

    xs = [spacing * index + spacing // 2 + 18 for index in range(len(axes))]
    parts = [
        Markup(
            '<svg class="parallel" viewBox="0 0 {w} {h}" style="min-width: {w}px" role="img" aria-label="{t}">'
        ).format(w=width, h=height, t=title)
    ]
    for path in paths:
        points = " ".join(f"{x},{at(place):.1f}" for x, place in zip(xs, path.places, strict=True))
        parts.append(
            Markup('<polyline class="path" style="--p: {:.0f}" points="{}"{}><title>{}</title></polyline>').format(
                100 * path.share, points, _data(path.data), path.name
            )
        )
    for index, (x, axis) in enumerate(zip(xs, axes, strict=True)):
        parts.append(Markup('<line class="axis" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(at(0), at(1), x=x))
        parts.append(_text(x, 14 + 17 * (index % 2), axis.label, "middle", "label"))
        parts += [_text(x - 6, at(place) + 4, text, "end", "tick halo") for place, text in axis.ticks]
    return Markup("").join([*parts, Markup("</svg>")])


def interval(value: float, low_high: tuple[float, float] | None) -> Markup:
    """A share and its interval on one line, for a table's cell."""
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


def attention(weights: Sequence[float], chosen: Sequence[int]) -> Markup:
    """The pooling weight of every sampled frame over the video, and which of them are shown."""
    width, height = 240, 26
    step, most = width / len(weights), max(weights)
    bars = [
        Markup('<rect class="{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"/>').format(
            "seen" if index in chosen else "unseen",
            index * step,
            height - (tall := max(height * weight / most, 0.8)),
            max(step - 0.6, 0.4),
            tall,
        )
        for index, weight in enumerate(weights)
    ]
    head = Markup(
        '<svg class="attention" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="attention over the video">'
    ).format(width, height)
    return head + Markup("").join(bars) + Markup("</svg>")


def _round_steps() -> Sequence[float]:
    return [base * 10**power for power in range(-6, 12) for base in (1, 2, 2.5, 5)]


def _text(x: float, y: float, text: str, anchor: str, css: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(css, x, y, anchor, text)


def _line(line: Line, at_x: Scale, at_y: Scale) -> Markup:
    path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
    return Markup('<polyline class="line {}{}" points="{}"{}><title>{}</title></polyline>').format(
        line.tone, " dashed" if line.is_dashed else "", path, _data(line.data), line.name
    )


def _data(values: Mapping[str, str]) -> Markup:
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
    return drawn + _text(x, at_y(mark.y) + away, mark.label, "middle", "tick halo")
