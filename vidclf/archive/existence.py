"""Check that the first videos of an archive exist, so that a wrong path is noticed before a long job."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vidclf import storage

NUM_CHECKED = 100
"""Number of videos whose existence is checked."""


def none_found(uris: Sequence[str]) -> str | None:
    """Return a line that says that none of the first locations exists; None if one exists or cannot be checked.

    Only paths on this machine are checked; remote storage would take seconds.
    """
    first = uris[:NUM_CHECKED]
    if not first or any(storage.is_uri(uri) or os.path.exists(uri) for uri in first):
        return None
    what = (
        f"the only location, {first[0]!r}, does not exist"
        if len(first) == 1
        else f"none of the first {len(first)} locations exists, such as {first[0]!r}"
    )
    return f"not found: {what}; correct the paths, or mount the archive on this machine"
