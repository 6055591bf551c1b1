"""Encryption of video files, found in their structure without decoding.

A decoder does not notice that its input is encrypted: it reports damage, or it shows noise that nothing marks as
damaged. So the container is examined first. Recognised are Common Encryption and FairPlay in ISO base media files
(`encv`, `drmi`, `sinf`), ContentEncryption in Matroska, SAMPLE-AES and scrambled packets in MPEG-2 TS, scrambled
packets (CSS) in MPEG-2 PS, Windows Media DRM in ASF, encrypted tags in FLV, and encrypted essence in MXF.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass

from vidclf.video.container_structure import (
    MATROSKA_BEGINNING,
    MP4_BEGINNINGS,
    VISUAL_SAMPLE_ENTRY_BYTES,
    BinaryFile,
    boxes,
    child_box,
    elements,
    matroska_video_tracks,
)

EXAMINED_BYTES = 256 * 1024
"""Number of bytes at the beginning of a file in which formats without an index are examined."""

_ASF_ENCRYPTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),  # Content Encryption Object
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),  # Extended Content Encryption Object
)
_MXF_CRYPTOGRAPHIC_CONTEXT = bytes.fromhex("060e2b34025301010d01040102020000")

_CONTENT_ENCODINGS, _CONTENT_ENCODING, _CONTENT_ENCRYPTION = 0x6D80, 0x6240, 0x5035

_SAMPLE_AES_H264 = 0xDB
"""Stream type of H.264 with SAMPLE-AES in a program map table (MPEG-2 Stream Encryption Format for HTTP Live
Streaming)."""


@dataclass(frozen=True)
class Encryption:
    """Kind of the encryption of a file, and which of its video tracks are encrypted."""

    kind: str
    """name of the encryption, for a message"""
    tracks: tuple[bool, ...]
    """whether each video track is encrypted, in the order of the file; empty if the tracks are not told apart"""
    stream_ids: frozenset[int] = frozenset()
    """ids (PIDs) of the encrypted streams of an MPEG-2 TS, which may hold several programmes; empty for other files"""

    def covers(self, track: int, num_tracks: int, stream_id: int) -> bool:
        """Return whether video track number `track` of `num_tracks`, whose stream has the id `stream_id`, is encrypted.

        If the file has another number of tracks than the caller counts, one encrypted track covers all of them.
        """
        if self.stream_ids:
            return stream_id in self.stream_ids
        return self.tracks[track] if len(self.tracks) == num_tracks else True


def find_encryption(file: BinaryFile) -> Encryption | None:
    """Return the encryption of the video tracks of a file, or None if no track is encrypted. Raises OSError."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(16)
    if head[4:8] in MP4_BEGINNINGS:
        return _first_if_any("Common Encryption or FairPlay", _mp4_tracks(file, size_bytes))
    if head.startswith(MATROSKA_BEGINNING):
        return _first_if_any(
            "ContentEncryption",
            [_is_encrypted_entry(file, *entry) for entry in matroska_video_tracks(file, size_bytes)],
        )
    file.seek(0)
    return _in_first_bytes(file.read(EXAMINED_BYTES))


def names_a_drm_system(file: BinaryFile) -> bool:
    """Return whether an MP4-like file has a `pssh` box, the data of a DRM system.

    The box alone proves nothing: it may be left in a file that has been decrypted.
    """
    size_bytes = file.seek(0, io.SEEK_END)
    for kind, start, end in boxes(file, 0, size_bytes):
        if kind == b"pssh":
            return True
        if kind in (b"moov", b"moof") and any(inner == b"pssh" for inner, _, _ in boxes(file, start, end)):
            return True
    return False


def _first_if_any(kind: str, tracks: list[bool]) -> Encryption | None:
    return Encryption(kind, tuple(tracks)) if any(tracks) else None


def _in_first_bytes(head: bytes) -> Encryption | None:
    """Find the encryption of a file of another format than MP4 and Matroska in its first bytes `head`."""
    if head.startswith(b"\x30\x26\xb2\x75"):
        return Encryption("Windows Media DRM", ()) if any(guid in head for guid in _ASF_ENCRYPTION) else None
    if head.startswith(b"\x06\x0e\x2b\x34"):
        return Encryption("encrypted MXF essence", ()) if _MXF_CRYPTOGRAPHIC_CONTEXT in head else None
    if head.startswith(b"FLV\x01"):
        return Encryption("encrypted FLV tags", ()) if 9 in _encrypted_flv_tags(head) else None
    if head.startswith(b"\x00\x00\x01\xba"):
        return Encryption("scrambled PS packets (CSS)", ()) if _is_scrambled_ps(head) else None
    return _ts_encryption(head)


def _mp4_tracks(file: BinaryFile, size_bytes: int) -> list[bool]:
    """Return whether each video track of an MP4-like file is encrypted, in order; empty without a `moov` box."""
    movie = child_box(file, (0, size_bytes), b"moov")
    if movie is None:
        return []
    tracks = []
    for kind, start, end in boxes(file, *movie):
        if kind != b"trak":
            continue
        handler = child_box(file, (start, end), b"mdia", b"hdlr")
        descriptions = child_box(file, (start, end), b"mdia", b"minf", b"stbl", b"stsd")
        if handler is None or descriptions is None:
            continue
        file.seek(handler[0] + 8)
        if file.read(4) == b"vide":
            tracks.append(_has_protected_entry(file, descriptions[0] + 8, descriptions[1]))
    return tracks


def _has_protected_entry(file: BinaryFile, position: int, end: int) -> bool:
    """Return whether one of the sample entries of a video track is protected."""
    for kind, start, entry_end in boxes(file, position, end):
        if kind in (b"encv", b"drmi"):
            return True
        if child_box(file, (start + VISUAL_SAMPLE_ENTRY_BYTES, entry_end), b"sinf") is not None:
            return True
    return False


def _is_encrypted_entry(file: BinaryFile, start: int, end: int) -> bool:
    """Return whether a Matroska track has a ContentEncryption."""
    return any(
        part == _CONTENT_ENCRYPTION
        for element, encodings, encodings_end in elements(file, start, end)
        if element == _CONTENT_ENCODINGS
        for encoding, encoding_start, encoding_end in elements(file, encodings, encodings_end)
        if encoding == _CONTENT_ENCODING
        for part, _, _ in elements(file, encoding_start, encoding_end)
    )


def _encrypted_flv_tags(head: bytes) -> set[int]:
    """Return the types of the FLV tags that are encrypted (filter bit set): 8 for sound, 9 for video."""
    position = int.from_bytes(head[5:9], "big") + 4
    types = set()
    while position + 11 <= len(head):
        if head[position] & 0x20:
            types.add(head[position] & 0x1F)
        position += 15 + int.from_bytes(head[position + 1 : position + 4], "big")
    return types


def _is_scrambled_ps(head: bytes) -> bool:
    """Return whether a pack of an MPEG-2 program stream, 2,048 bytes as on a DVD, holds scrambled video."""
    return any(
        head[start + 14 : start + 17] == b"\x00\x00\x01"
        and 0xE0 <= head[start + 17] <= 0xEF
        and head[start + 20] & 0xC0 == 0x80
        and head[start + 20] & 0x30 != 0
        for start in range(0, len(head) - 2047, 2048)
        if head.startswith(b"\x00\x00\x01\xba", start)
    )


def _ts_encryption(head: bytes) -> Encryption | None:
    """Find SAMPLE-AES and scrambled video packets in the first bytes of an MPEG-2 transport stream."""
    for prefix, packet_bytes in ((0, 188), (4, 192)):
        if len(head) > 3 * packet_bytes and all(head[prefix + number * packet_bytes] == 0x47 for number in range(3)):
            starts = range(prefix, len(head) - 187, packet_bytes)
            return _encryption_of_packets([head[start : start + 188] for start in starts])
    return None


def _encryption_of_packets(packets: list[bytes]) -> Encryption | None:
    """Find the encryption of the video in packets of a transport stream (ISO/IEC 13818-1)."""
    stream_types: dict[int, int] = {}
    scrambled: Counter[int] = Counter()
    clear: Counter[int] = Counter()
    for packet in packets:
        pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        begins_unit, has_payload = packet[1] & 0x40, packet[3] & 0x10
        if packet[0] != 0x47 or not has_payload:
            continue
        (scrambled if packet[3] & 0xC0 else clear)[pid] += 1
        payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
        if begins_unit and payload and not packet[3] & 0xC0:
            stream_types |= _program_map(payload[1 + payload[0] :])
    sample_aes = frozenset(pid for pid, kind in stream_types.items() if kind == _SAMPLE_AES_H264)
    if sample_aes:
        return Encryption("SAMPLE-AES", (), sample_aes)
    video = {pid for pid, kind in stream_types.items() if kind in _TS_VIDEO_TYPES}
    # Packets that are damaged may seem scrambled, but never most of them.
    mostly_scrambled = frozenset(pid for pid in (video or scrambled) if scrambled[pid] > clear[pid])
    return Encryption("scrambled TS packets", (), mostly_scrambled) if mostly_scrambled else None


_TS_VIDEO_TYPES = frozenset((0x01, 0x02, 0x10, 0x1B, 0x20, 0x21, 0x24, 0x33, 0x42, 0xD1, 0xEA))
"""Stream types that stand for video in a program map table."""


def _program_map(section: bytes) -> dict[int, int]:
    """Return the stream type of each PID that a program map table lists; empty for any other section."""
    if len(section) < 12 or section[0] != 0x02 or section[1] & 0xF0 != 0xB0:
        return {}
    end = min(3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4, len(section))
    position = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    stream_types = {}
    while position + 5 <= end:
        stream_types[int.from_bytes(section[position + 1 : position + 3], "big") & 0x1FFF] = section[position]
        position += 5 + (int.from_bytes(section[position + 3 : position + 5], "big") & 0xFFF)
    return stream_types
