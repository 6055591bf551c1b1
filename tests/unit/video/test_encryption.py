"""Encrypted videos are recognised by the structure of their files, and rejected before a frame is decoded."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.support.videos import FRAGMENTED, as_it_is, draw_index, read_index, write_video
from vidclf.schema import RejectReason
from vidclf.video import source
from vidclf.video.decode import decode_video
from vidclf.video.encryption import Encryption, find_encryption, names_a_drm_system
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


def reject(path: Path) -> VideoRejected:
    with pytest.raises(VideoRejected) as rejected:
        decode_video(str(path), SamplingPlan(num_frames=4), as_it_is)
    return rejected.value


def found(content: bytes) -> Encryption | None:
    return find_encryption(io.BytesIO(content))


def element(identifier: str, *content: bytes) -> bytes:
    """Return an EBML element with a size of 4 bytes."""
    joined = b"".join(content)
    return bytes.fromhex(identifier) + (0x10000000 | len(joined)).to_bytes(4, "big") + joined


def matroska(*tracks: bytes) -> bytes:
    return element("1A45DFA3") + element("18538067", element("1654AE6B", *tracks), element("1F43B675"))


def track(kind: int, *, encrypted: bool) -> bytes:
    encodings = element("6D80", element("6240", element("5035"))) if encrypted else b""
    return element("AE", element("83", bytes([kind])), encodings)


def split_at(content: bytes, identifier: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what comes before the first element with this id, what the element holds, and what comes after it."""
    start = content.index(identifier)
    size_at = start + len(identifier)
    size_bytes = 9 - content[size_at].bit_length()
    size = int.from_bytes(content[size_at : size_at + size_bytes], "big") & ((1 << (7 * size_bytes)) - 1)
    end = size_at + size_bytes + size
    return content[:start], content[size_at + size_bytes : end], content[end:]


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return (8 + len(joined)).to_bytes(4, "big") + kind + joined


def mp4(*entries: tuple[bytes, bytes], handler: bytes = b"vide") -> bytes:
    """Return a `moov` box with a track whose sample descriptions are `entries`: type, and boxes inside."""
    descriptions = box(b"stsd", bytes(8), *(box(kind, bytes(78), inner) for kind, inner in entries))
    media = box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(12)), box(b"minf", box(b"stbl", descriptions)))
    return box(b"ftyp", b"isom") + box(b"moov", box(b"trak", media))


@pytest.mark.parametrize("fragments", [{}, FRAGMENTED["container_options"]], ids=["one index", "fragments"])
def test_common_encryption_in_mp4(tmp_path: Path, fragments: dict[str, str]) -> None:
    rejected = reject(write_video(tmp_path / "a.mp4", 12, container_options=CENC | fragments))
    assert rejected.reason == RejectReason.ENCRYPTED
    assert rejected.message == "the video is encrypted: Common Encryption or FairPlay"


@pytest.mark.parametrize("entry", [(b"encv", b""), (b"drmi", b""), (b"avc1", box(b"sinf"))])
def test_one_protected_sample_entry_is_enough(entry: tuple[bytes, bytes]) -> None:
    # The beginning of a rented film may be clear, under a sample entry of its own.
    encryption = found(mp4((b"avc1", b""), entry))
    assert encryption == Encryption("Common Encryption or FairPlay", (True,))


def test_encrypted_sound_and_clear_pictures_are_no_obstacle() -> None:
    assert found(mp4((b"enca", box(b"sinf")), handler=b"soun")) is None
    assert found(matroska(track(1, encrypted=False), track(2, encrypted=True))) is None


def test_the_data_of_a_drm_system_alone_rejects_nothing(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", 12).read_bytes() + box(b"pssh", bytes(24))
    (tmp_path / "decrypted.mp4").write_bytes(content)
    assert names_a_drm_system(io.BytesIO(content))
    assert not names_a_drm_system(io.BytesIO(mp4((b"avc1", b""))))
    assert len(decode_video(str(tmp_path / "decrypted.mp4"), SamplingPlan(num_frames=4), as_it_is).pts_s) == 4


def test_the_data_of_a_drm_system_explains_that_no_frame_could_be_decoded(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", 12).read_bytes()
    start = content.index(b"mdat")
    size = int.from_bytes(content[start - 4 : start], "big") - 8
    spoiled = content[: start + 4] + b"\xff" * size + content[start + 4 + size :] + box(b"pssh", bytes(24))
    (tmp_path / "b.mp4").write_bytes(spoiled)
    assert reject(tmp_path / "b.mp4").reason == RejectReason.ENCRYPTED


def test_content_encryption_in_matroska() -> None:
    encryption = found(matroska(track(1, encrypted=True), track(2, encrypted=False), track(1, encrypted=False)))
    assert encryption == Encryption("ContentEncryption", (True, False))
    assert [encryption.covers(number, 2, 0) for number in (0, 1)] == [True, False]
    assert encryption.covers(0, 1, 0)  # the tracks of the file and of FFmpeg cannot be matched


def test_compression_in_matroska_is_not_encryption() -> None:
    compressed = element("AE", element("83", b"\x01"), element("6D80", element("6240", element("5034"))))
    assert found(matroska(compressed)) is None


def test_an_encrypted_track_of_a_real_matroska_file(tmp_path: Path) -> None:
    options = {"live": "1", "write_crc32": "0"}
    content = write_video(tmp_path / "a.mkv", 12, container_options=options).read_bytes()
    start = content.rindex(bytes.fromhex("1654AE6B"))  # the index of the file's parts names the same id before
    _, tracks, after = split_at(content[start:], bytes.fromhex("1654AE6B"))
    before_entry, entry, after_entry = split_at(tracks, b"\xae")
    encodings = element("6D80", element("6240", element("5033", b"\x01"), element("5035", element("47E1", b"\x05"))))
    changed = element("1654AE6B", before_entry, element("AE", entry, encodings), after_entry)
    (tmp_path / "b.mkv").write_bytes(content[:start] + changed + after)
    assert reject(tmp_path / "b.mkv").message == "the video is encrypted: ContentEncryption"


def each_packet(content: bytes, change: Callable[[bytearray], None]) -> bytes:
    packets = [bytearray(content[start : start + 188]) for start in range(0, len(content), 188)]
    for packet in packets:
        change(packet)
    return b"".join(packets)


def scramble_video(packet: bytearray) -> None:
    if packet[1] & 0x1F == 1 and packet[2] == 0:  # PID 256, the video
        packet[3] |= 0x80


def name_sample_aes(packet: bytearray) -> None:
    section = packet[5:]
    if packet[1] & 0x40 and section[0] == 0x02 and section[12] == 0x1B:
        packet[5 + 12] = 0xDB


@pytest.mark.parametrize(
    ("change", "kind"), [(scramble_video, "scrambled TS packets"), (name_sample_aes, "SAMPLE-AES")]
)
def test_encrypted_transport_streams(tmp_path: Path, change: Callable[[bytearray], None], kind: str) -> None:
    content = write_video(tmp_path / "a.ts", 12).read_bytes()
    assert found(content) is None
    (tmp_path / "b.ts").write_bytes(each_packet(content, change))
    rejected = reject(tmp_path / "b.ts")
    assert (rejected.reason, rejected.message) == (RejectReason.ENCRYPTED, f"the video is encrypted: {kind}")


def test_a_transport_stream_with_the_time_before_each_packet(tmp_path: Path) -> None:
    content = each_packet(write_video(tmp_path / "a.ts", 12).read_bytes(), scramble_video)
    timed = b"".join(bytes(4) + content[start : start + 188] for start in range(0, len(content), 188))
    assert found(timed) == Encryption("scrambled TS packets", (), frozenset({256}))


def test_a_clear_programme_beside_a_scrambled_one_is_decoded(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        streams = [container.add_stream("libx264", rate=10, options={"crf": "18"}) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for stream, index in itertools.product(streams, range(4)):
            number = index + 8 * stream.index
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_index(number, 64, 64), format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    (tmp_path / "b.ts").write_bytes(each_packet((tmp_path / "a.ts").read_bytes(), scramble_video))
    video = decode_video(str(tmp_path / "b.ts"), SamplingPlan(num_frames=4, avoid_black=False), as_it_is)
    assert [read_index(frame) for frame in video.frames_THWC] == [8, 9, 10, 11]


def ps_pack(scrambling: int) -> bytes:
    return (b"\x00\x00\x01\xba" + bytes(10) + b"\x00\x00\x01\xe0\x07\xec" + bytes([0x80 | scrambling])).ljust(
        2048, b"\0"
    )


def test_other_formats() -> None:
    assert found(ps_pack(0) + ps_pack(0x10)) == Encryption("scrambled PS packets (CSS)", ())
    assert found(ps_pack(0) + ps_pack(0)) is None
    asf = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(14)
    assert found(asf + bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")) == Encryption("Windows Media DRM", ())
    assert found(asf) is None
    flv_head = b"FLV\x01\x01\x00\x00\x00\x09" + bytes(4)
    assert found(flv_head + b"\x29" + bytes(14)) == Encryption("encrypted FLV tags", ())
    assert found(flv_head + b"\x28" + bytes(14)) is None  # sound
    mxf = bytes.fromhex("060e2b34020501010d01020101020400")
    assert found(mxf + bytes.fromhex("060e2b34025301010d01040102020000")) == Encryption("encrypted MXF essence", ())


@pytest.mark.parametrize("head", [b"", b"\x1aE\xdf\xa3", b"\0\0\0\x08ftyp", b"\0\0\0\x08moov", b"text" * 100])
def test_a_file_that_ends_early_has_no_encryption(head: bytes) -> None:
    assert found(head) is None


def test_boxes_and_elements_without_size_end_the_search() -> None:
    assert found(box(b"ftyp") + bytes(4) + b"moov" + bytes(4) + b"trak") is None
    assert found(element("1A45DFA3") + bytes.fromhex("18538067") + b"\x01" + b"\xff" * 7) is None


def test_the_check_leaves_no_trace_in_a_remote_files_position() -> None:
    content = mp4((b"encv", b""))
    remote = source.RangedFile(lambda start, stop: content[start:stop], len(content))
    remote.seek(5)
    assert source._encryption(remote) is not None
    assert remote.tell() == 5
