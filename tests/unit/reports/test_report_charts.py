"""Charts that only the report has, with literal coordinates."""

from __future__ import annotations

from xml.etree import ElementTree

from vidclf.reports.report_page import _error_limit, attention_chart


def test_attention_marks_what_is_shown() -> None:
    svg = ElementTree.fromstring(attention_chart([0.1, 0.6, 0.3], [1]))
    assert [(bar.get("class"), bar.get("height")) for bar in svg] == [
        ("unseen", "4.3"),
        ("seen", "26.0"),
        ("unseen", "13.0"),
    ]


def test_the_error_axis_ends_at_a_round_number() -> None:
    assert (_error_limit(0.0), _error_limit(0.093), _error_limit(1.0)) == (0.02, 0.1, 1.0)
