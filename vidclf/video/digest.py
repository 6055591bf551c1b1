"""Fingerprints of video files: they reveal that a file changed under the same name, and find exact duplicates.

The hash is XXH3 (128 bit, xxhash.com), which runs at memory speed. It tells different contents apart, but it does not
protect against somebody who constructs two files with the same hash.
"""

from __future__ import annotations

from datetime import datetime

import xxhash

from vidclf.video.decoded_video import FileFingerprint
from vidclf.video.remote_file import BLOCK_BYTES, RangedFile
from vidclf.video.source import LocalFile, Source

SAMPLED_BLOCKS = 4
"""Number of blocks of a remote file that are hashed, evenly spread from its first to its last byte."""

SAMPLED_BLOCK_BYTES = 64 * 1024
"""Bytes of one of the `SAMPLED_BLOCKS` hashed blocks. A remote file of at most `remote_file.BLOCK_BYTES` is hashed
whole.

Hashing every byte of a remote file would download the parts that decoding does not need.
"""


def identify(source: Source) -> FileFingerprint:
    """Return the fingerprint (size, modification time, hash) of a video file. Raises OSError if it cannot be read."""
    size_bytes, modified = _size_and_time(source)
    return FileFingerprint(size_bytes=size_bytes, modified=modified, digest=_digest(source))


def is_same(source: Source, before: FileFingerprint) -> bool:
    """Return whether a video file is unchanged, that is, still has the fingerprint `before`.

    The content is hashed only if the size is equal and the modification time is unknown or different.
    """
    size_bytes, modified = _size_and_time(source)
    if size_bytes != before.size_bytes:
        return False
    return (modified is not None and modified == before.modified) or _digest(source) == before.digest


def _size_and_time(source: Source) -> tuple[int, datetime | None]:
    """Return a video file's size in bytes and its modification time; the time is None if the storage reports none."""
    return source.size_and_time() if isinstance(source, LocalFile) else (source.size_bytes, source.modified)


def _digest(source: Source) -> str:
    if not isinstance(source, LocalFile):
        return _sampled_digest(source)
    digest = xxhash.xxh3_128()
    with source.open() as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return f"xxh3:{digest.hexdigest()}"


def _sampled_digest(file: RangedFile) -> str:
    digest = xxhash.xxh3_128(f"{file.size_bytes}:".encode())
    if file.size_bytes <= BLOCK_BYTES:
        file.seek(0)
        digest.update(file.read())
    else:
        last_start = file.size_bytes - SAMPLED_BLOCK_BYTES
        for number in range(SAMPLED_BLOCKS):
            start = last_start * number // (SAMPLED_BLOCKS - 1)
            digest.update(file.read_range(start, start + SAMPLED_BLOCK_BYTES))
    return f"xxh3-sampled:{digest.hexdigest()}"
