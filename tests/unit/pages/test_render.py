"""Texts of numbers on pages."""

from __future__ import annotations

import pytest

from vidclf.pages.render import points


@pytest.mark.parametrize(("share", "text"), [(0.0123, "+1.2"), (-0.0123, "−1.2"), (-0.0, "+0.0"), (-0.0004, "+0.0")])
def test_a_difference_that_rounds_to_nothing_has_no_minus_sign(share: float, text: str) -> None:
    assert points(share) == text
