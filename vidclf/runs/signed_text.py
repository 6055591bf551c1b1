"""Text files that a job writes and that people edit: a digest in the last line tells the job's own text from an edited
one."""

from __future__ import annotations

import hashlib
import re

from vidclf import storage

MAX_BYTES = 16 * 1024**2
"""Largest size in bytes of a signed file. A larger file is not read and counts as other people's."""

_SIGNATURE = re.compile(rb"<!-- written by vidclf; SHA-256 of the text above: ([0-9a-f]{64}) -->\n")
"""Pattern of the last line of a signed file."""


def signed(text: str) -> bytes:
    """Content of a file with `text`, which must end with a newline, and an HTML comment that holds its digest."""
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    return content + f"<!-- written by vidclf; SHA-256 of the text above: {digest} -->\n".encode()


def is_unchanged(location: str) -> bool:
    """Whether the file at a location is as `signed` made it. False for a file that somebody else wrote or edited."""
    if storage.size(location) > MAX_BYTES:
        return False
    try:
        content = storage.read_bytes(location)
    except OSError:
        return False
    text, newline, last = content.rstrip(b"\n").rpartition(b"\n")
    match = _SIGNATURE.fullmatch(last + b"\n")
    return match is not None and hashlib.sha256(text + newline).hexdigest().encode() == match[1]
