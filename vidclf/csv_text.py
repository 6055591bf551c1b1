"""Text for cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

FORMULA_STARTS = ("=", "+", "-", "@")
"""First characters of a spreadsheet formula (OWASP, CSV injection)."""


def plain_text(text: str) -> str:
    """`text` as a spreadsheet shows it: text that looks like a formula gets an apostrophe in front."""
    # A spreadsheet skips leading white space when it looks for a formula.
    return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) or text.startswith(("\t", "\r")) else text
