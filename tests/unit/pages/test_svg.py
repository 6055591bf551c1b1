"""Charts: well-formed, escaped, and with every element at its coordinates."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from vidclf.pages.svg import (
    Axis,
    Bar,
    Line,
    Mark,
    count_axis,
    interval,
    plot,
    share_axis,
    value_axis,
)

X = Axis(label="x & y", low=0, high=10, ticks=(0, 5, 10))
Y = share_axis("share")


def drawn(**parts: object) -> ElementTree.Element:
    return ElementTree.fromstring(plot("<title>", X, Y, **parts))  # type: ignore[arg-type]


def test_values_stand_at_their_places() -> None:
    svg = drawn(lines=[Line(name="a<b", x=[0, 10], y=[0, 1], tone="t0")])
    (line,) = svg.iter("polyline")
    assert line.get("points") == "60.0,246.0 374.0,12.0"
    assert [title.text for title in line.iter("title")] == ["a<b"]
    assert svg.get("aria-label") == "<title>"


def test_marks_have_whiskers_and_bars_their_width() -> None:
    svg = drawn(
        marks=[Mark(name="m", x=5, y=0.5, interval=(0.25, 0.75))], bars=[Bar(name="b", low=0, high=5, value=0.5)]
    )
    (circle,) = svg.iter("circle")
    assert (circle.get("cx"), circle.get("cy")) == ("217.0", "129.0")
    assert [(w.get("y1"), w.get("y2")) for w in svg.iter("line") if "whisker" in str(w.get("class"))] == [
        ("187.5", "70.5")
    ]
    assert [(bar.get("x"), bar.get("width"), bar.get("height")) for bar in svg.iter("rect")] == [
        ("61.5", "154.0", "117.0")
    ]


def test_a_marks_label_stands_above_or_below_it() -> None:
    mark = Mark(name="m", x=5, y=0.5, label="here")
    for one, place in ((mark, "121.0"), (replace(mark, is_label_below=True), "147.0")):
        (label,) = (text for text in drawn(marks=[one]).iter("text") if text.text == "here")
        assert (label.get("x"), label.get("y"), label.get("text-anchor")) == ("217.0", place, "middle")


@pytest.mark.parametrize(
    ("most", "ticks"), [(3, (0, 1, 2, 3)), (17, (0, 5, 10, 15, 20)), (1501, (0, 500, 1000, 1500, 2000))]
)
def test_counts_have_round_whole_ticks(most: int, ticks: tuple[int, ...]) -> None:
    assert tuple(count_axis("videos", most).ticks) == ticks


def test_values_below_one_have_round_ticks_too() -> None:
    assert tuple(value_axis("loss", 0.72).ticks) == pytest.approx((0, 0.2, 0.4, 0.6, 0.8))


def test_an_interval_may_be_missing() -> None:
    assert len(list(ElementTree.fromstring(interval(0.5, None)))) == 2
    whisker = list(ElementTree.fromstring(interval(0.5, (0.0, 1.0))))[1]
    assert (whisker.get("x1"), whisker.get("x2")) == ("4.0", "64.0")
