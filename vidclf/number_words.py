"""A number with its noun in the singular or plural, as lines of the jobs show it."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as "1 video" and "2 videos".

    `noun` is the singular. The plural is the noun with an s, unless `plural` is given.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
