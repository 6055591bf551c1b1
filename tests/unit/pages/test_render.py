"""Texts of numbers on pages, and files that a page embeds for download."""

from __future__ import annotations

import pytest

from vidclf.pages.render import MAX_EMBEDDED_BYTES, download, points


def test_two_embedded_lists_leave_a_report_below_5_mb() -> None:
    largest = download(b"x" * MAX_EMBEDDED_BYTES)
    assert largest is not None
    assert 2 * len(largest) < 3_000_000
    assert download(b"x" * (MAX_EMBEDDED_BYTES + 1)) is None
    assert download(b"a,b\n") == "data:text/csv;base64,YSxiCg=="


@pytest.mark.parametrize(("share", "text"), [(0.0123, "+1.2"), (-0.0123, "−1.2"), (-0.0, "+0.0"), (-0.0004, "+0.0")])
def test_a_difference_that_rounds_to_nothing_has_no_minus_sign(share: float, text: str) -> None:
    assert points(share) == text
