"""Text of a model card: tables, numbers and code in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

NOT_RECORDED = "not recorded"
"""Text in place of a number that the records of the ensemble lack."""


def number(value: float | None) -> str:
    """A share with three digits after the point."""
    return NOT_RECORDED if value is None else f"{value:.3f}"


def code(value: object) -> str:
    """A digest, key or file name in the style of code."""
    return f"`{value}`" if value else NOT_RECORDED


def plain(text: str) -> str:
    """Text in which no character is markup of Markdown or HTML, on one line."""
    escaped = re.sub(r"[\\`*_{}\[\]|~#]", lambda match: f"&#{ord(match[0])};", html.escape(text, quote=False))
    return " ".join(escaped.split())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
