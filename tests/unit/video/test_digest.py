"""Fingerprints of files: literal digests of known bytes, and the changes that a fingerprint reveals."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from vidclf.video import digest
from vidclf.video.remote_file import RangedFile
from vidclf.video.source import LocalFile


def test_a_local_file_is_hashed_whole(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_bytes(b"vidclf")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    fingerprint = digest.identify(LocalFile(str(path)))
    assert fingerprint.digest == "xxh3:530c8b656a6a45b1b3bea092d40eaf7f"
    assert fingerprint.size_bytes == 6
    assert fingerprint.modified == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)


def test_a_file_is_the_same_by_its_time_or_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_bytes(b"vidclf")
    before = digest.identify(LocalFile(str(path)))
    assert digest.is_same(LocalFile(str(path)), before)
    os.utime(path, ns=(0, 0))
    assert digest.is_same(LocalFile(str(path)), before)
    path.write_bytes(b"vidclg")
    assert not digest.is_same(LocalFile(str(path)), before)
    path.write_bytes(b"vidclf longer")
    assert not digest.is_same(LocalFile(str(path)), before)


def remote(data: bytes) -> RangedFile:
    return RangedFile(lambda start, stop: data[start:stop], len(data))


def test_of_a_remote_file_four_blocks_and_the_size_count() -> None:
    block = digest.SAMPLED_BLOCK_BYTES
    data = bytes(22 * block)
    file = remote(data)
    before = digest.identify(file)
    assert before.digest.startswith("xxh3-sampled:")
    assert (file.bytes_fetched, before.size_bytes, before.modified) == (4 * block, 22 * block, None)
    # The hashed blocks begin at blocks 0, 7, 14 and 21 of 22.
    for changed_byte, is_hashed in (
        (0, True),
        (block, False),
        (7 * block, True),
        (15 * block - 1, True),
        (15 * block, False),
    ):
        changed = bytearray(data)
        changed[changed_byte] = 1
        assert digest.is_same(remote(bytes(changed)), before) is not is_hashed
    assert not digest.is_same(remote(data + b"0"), before)


def test_a_small_remote_file_is_hashed_whole() -> None:
    assert digest.identify(remote(b"vidclf")) == digest.identify(remote(b"vidclf"))
    assert not digest.is_same(remote(b"vidclg"), digest.identify(remote(b"vidclf")))
