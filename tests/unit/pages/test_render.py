"""Files that a page embeds for download."""

from __future__ import annotations

from vidclf.pages.render import MAX_EMBEDDED_BYTES, download


def test_two_embedded_lists_leave_a_report_below_5_mb() -> None:
    largest = download(b"x" * MAX_EMBEDDED_BYTES)
    assert largest is not None
    assert 2 * len(largest) < 3_000_000
    assert download(b"x" * (MAX_EMBEDDED_BYTES + 1)) is None
    assert download(b"a,b\n") == "data:text/csv;base64,YSxiCg=="
