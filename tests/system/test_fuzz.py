"""Damaged videos give frames or a named reject reason, and the decoder survives them.

The mutations are seeded. `VIDCLF_FUZZ_MUTATIONS` sets their number for a longer run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

from vidclf.video.decoder_process import DecodeLimits, SupervisedDecoder
from vidclf.video.frame_transform import FrameTransform
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

ARCHIVE = Path(__file__).resolve().parents[2] / "examples" / "archive"
NUM_MUTATIONS = int(os.environ.get("VIDCLF_FUZZ_MUTATIONS", "2000"))
KINDS = ("cut", "flip", "zero", "header", "splice", "lie", "other")
OTHER_FILES = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\2\0\0\0",
    "zip": b"PK\3\4\x14\0\0\0\x08\0",
    "elf": b"\x7fELF\2\1\1" + bytes(9),
    "wav": b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0data\0\x10\0\0",
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
}
LYING_FIELDS = (b"mvhd", b"tkhd", b"mdhd", b"stsz", b"stts", b"ctts", b"stsc", b"stco", b"elst", b"avih", b"strh")
"""Boxes and chunks that hold durations, sizes and counts."""


def mutate(content: bytes, kind: str, rng: random.Random) -> bytes:
    """Return `content` with damage like that of disks, networks and attackers."""
    data = bytearray(content)
    if kind == "cut":
        return bytes(data[: rng.randrange(1, len(data))])
    if kind == "flip":
        for _ in range(rng.choice([1, 10, 200])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice([16, 1_000, 20_000]))
        data[start:end] = bytes(end - start)
    elif kind == "header":
        # The beginning of a file holds sizes, durations, frame counts and codec tags.
        for _ in range(rng.choice([1, 4, 16])):
            data[rng.randrange(min(2_000, len(data)))] = rng.randrange(256)
    elif kind == "lie":
        present = [field for field in LYING_FIELDS if field in content]
        # Matroska and TS have no such names: there a number near the beginning of the file is changed.
        offset = content.index(rng.choice(present)) + 4 if present else rng.randrange(400)
        number = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)])
        offset += 4 * rng.randrange(8)
        data[offset : offset + 4] = number.to_bytes(4, "big" if content[4:8] == b"ftyp" else "little")
    elif kind == "other":
        return rng.choice(list(OTHER_FILES.values())) + rng.randbytes(rng.choice([0, 100, 5_000]))
    else:
        start = rng.randrange(len(data))
        data = data[:start] + data[start // 2 :]
    return bytes(data)


def test_every_damaged_video_ends_in_frames_or_in_a_named_reason(tmp_path: Path) -> None:
    clips = sorted(path for path in ARCHIVE.glob("*/*/*.*") if path.stat().st_size < 150_000)
    assert len({path.suffix for path in clips}) >= 5
    rng = random.Random(0)
    transform = FrameTransform(resize_size=64, crop_size=64, interpolation="bilinear")
    decoder = SupervisedDecoder(SamplingPlan(num_frames=8), transform, 64 * 64 * 3, DecodeLimits(timeout_s=20))
    outcomes: Counter[str] = Counter()
    for number in range(NUM_MUTATIONS):
        clip = rng.choice(clips)
        path = tmp_path / f"{number}{clip.suffix}"
        path.write_bytes(mutate(clip.read_bytes(), KINDS[number % len(KINDS)], rng))
        try:
            video = decoder.decode(str(path), "")
            assert 1 <= len(video.frames_THWC) == len(video.pts_s) <= 8
            outcomes["frames"] += 1
        except VideoRejected as rejected:
            outcomes[rejected.reason.value] += 1
        path.unlink()
    print(dict(outcomes.most_common()))
    assert sum(outcomes.values()) == NUM_MUTATIONS
    assert outcomes["permission_denied"] == 0
    # Both kinds of outcome occur, and the decoder still decodes an undamaged clip afterwards.
    assert outcomes["frames"] > NUM_MUTATIONS // 5
    assert outcomes["not_a_video"] > NUM_MUTATIONS // 10
    assert outcomes["truncated"] > 0
    assert len(decoder.decode(str(clips[0]), "").frames_THWC) == 8
    decoder.close()
