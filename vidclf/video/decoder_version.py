"""Version of the video decoder, which is part of the feature key.

PyAV is imported only when the version is requested: reading features needs no decoder.
"""

from __future__ import annotations

from functools import cache


@cache
def decoder_version() -> str:
    """Return the versions of PyAV and libavcodec, because another decoder may round colours differently."""
    import av

    return f"pyav-{av.__version__}/libavcodec-{'.'.join(map(str, av.library_versions['libavcodec']))}"
