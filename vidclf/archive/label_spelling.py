"""Spelling of class names: one form of each name, and a refusal of classes that differ only in case or spaces."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

from vidclf.errors import ConfigError
from vidclf.number_words import counted


def canonical_name(name: str) -> str:
    """Return a name without spaces at its ends and with composed accents (Unicode NFC).

    macOS writes file names with decomposed accents, so that one name has two forms that look the same.
    """
    return unicodedata.normalize("NFC", name).strip()


def spelling_key(name: str) -> str:
    """Return a text that is equal for names that differ only in upper and lower case or in spaces."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_spelling(location: str, labels: Iterable[str | None], flag: str = "--input") -> None:
    """Raise ConfigError if two classes differ only in upper and lower case or in spaces.

    `location`: the archive or the file that `flag` names, for the message.
    """
    count = Counter(label for label in labels if label is not None)
    spellings = defaultdict(list)
    for label in sorted(count):
        spellings[spelling_key(label)].append(label)
    alike = [names for names in spellings.values() if len(names) > 1]
    if alike:
        shown = "; ".join(
            " and ".join(f"{name!r} ({counted(count[name], 'video')})" for name in names) for names in alike[:3]
        )
        more = f"; and {len(alike) - 3} more" if len(alike) > 3 else ""
        raise ConfigError(
            f"{flag} {location}: classes must differ in more than case and spaces, do not: {shown}{more}; write each "
            "in one way, or keep them apart with --keep-label-spelling"
        )
