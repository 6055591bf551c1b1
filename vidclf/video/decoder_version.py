"""Version of the video decoder; features from different decoder versions are never mixed.

The version is part of the feature key, the digest that identifies a set of features. PyAV is imported only when the
version is requested, because reading features needs no decoder.
"""

from __future__ import annotations

from functools import cache


@cache
def decoder_version() -> str:
    """Return the versions of PyAV and its library libavcodec as text.

    They identify the decoder, because another version may round colours differently.
    """
    import av

    return f"pyav-{av.__version__}/libavcodec-{'.'.join(map(str, av.library_versions['libavcodec']))}"
