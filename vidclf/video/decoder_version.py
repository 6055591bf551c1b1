"""Version of the video decoder; features from different decoder versions are never mixed.

The version is part of the feature key, the digest that identifies a set of features. PyAV is imported only when the
version is requested, because reading features needs no decoder.
"""

from __future__ import annotations

from functools import cache

PICTURE_RULES = 4
"""Version of the rules by which vidclf makes pictures of decoded frames and chooses among them.

It must be raised by every change that gives other pixels or other frames for any video. Version 1, which the text of
`decoder_version` did not state, took HD without a colour tag for SD, neither stretched pixels nor mirrored pictures nor
converted HDR, and called a frame black by its mean brightness. Version 2 decoded the last of several streams of one
size (an animated AVIF's alpha plane), and ended a video at the first error of its decoder other than invalid data.
Version 3 did not crop pictures as their container states, nor columns that the coded video cuts from the left. It took
the largest video stream even if another one is the default, gave frames of ASF files with reordered frames and of edit
lists with several parts the times of others, and turned pictures only where they state the orientation themselves.
Features of earlier versions keep their key.
"""


@cache
def decoder_version() -> str:
    """Return the versions of PyAV, of its library libavcodec and of `PICTURE_RULES` as text.

    They identify the decoder, because another version may round colours differently.
    """
    import av

    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"pyav-{av.__version__}/libavcodec-{libavcodec}/pictures-{PICTURE_RULES}"
