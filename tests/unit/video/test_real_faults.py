"""Faults of real files: late streams, false keyframes, joined recordings, cuts, wild times. The frames are literal."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest

from tests.support.videos import SVT, as_it_is, draw_index, read_index, write_video
from vidclf.video import decode, planned_reader
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.frame_reader import DamagedPacket, frames_of
from vidclf.video.sampling import SamplingPlan
from vidclf.video.sequential_reader import SequentialReader

H264_OPEN: dict[str, str] = {"preset": "veryfast", "crf": "18", "x264-params": "open-gop=1:bframes=3:scenecut=0"}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[SequentialReader]:
    """Passes of sequential decoding, as they begin: one entry per pass over a whole video."""
    begun: list[SequentialReader] = []
    undamaged = SequentialReader._undamaged_frames

    def counted(self: SequentialReader, damage: list[str]) -> Iterator[tuple[int, Any]]:
        begun.append(self)
        return undamaged(self, damage)

    monkeypatch.setattr(SequentialReader, "_undamaged_frames", counted)
    return begun


def decoded(path: Path, num_frames: int, **plan: Any) -> DecodedVideo:
    return decode.decode_video(str(path), SamplingPlan(num_frames=num_frames, avoid_black=False, **plan), as_it_is)


def indices(video: DecodedVideo) -> list[int]:
    return [read_index(frame) for frame in video.frames_THWC]


def write_recording(
    path: Path,
    numbers: range,
    codec: str = "libx264",
    *,
    options: dict[str, str] | None = None,
    gop: int = 10,
    b_frames: int = 0,
    has_sound: bool = False,
    fps: int = 10,
    first_place: int = 0,
    is_keyframe: Callable[[int], bool] | None = None,
) -> Path:
    """Write a video of the frames `numbers`; with `is_keyframe`, the file calls these packets keyframes as well.

    The first frame has the time of frame number `first_place`.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", gop
        stream.max_b_frames = b_frames
        if codec == "libx264":
            stream.options = options or {"preset": "veryfast", "crf": "18", "bf": str(b_frames)}
        else:
            stream.bit_rate = 400_000
            stream.options = options or {"sc_threshold": "1000000000"}
        sound = container.add_stream("mp2", rate=48_000) if has_sound else None
        count = 0
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(draw_index(number, 64, 48), format="rgb24")
            frame.pts, frame.time_base = first_place + place, Fraction(1, fps)
            for packet in stream.encode(frame):
                if is_keyframe is not None and is_keyframe(count):
                    packet.is_keyframe = True
                count += 1
                container.mux(packet)
            if sound is not None:
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
                samples.sample_rate, samples.pts = 48_000, place * 1152
                container.mux(sound.encode(samples))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("ending", ["ts", "vob"])
def test_a_stream_that_begins_late_ends_nothing(tmp_path: Path, ending: str, passes: list[SequentialReader]) -> None:
    codec = "libx264" if ending == "ts" else "mpeg2video"
    silent = write_recording(tmp_path / f"a.{ending}", range(300), codec, fps=25)
    loud = write_recording(tmp_path / f"b.{ending}", range(300, 400), codec, has_sound=True, fps=25)
    path = tmp_path / f"late.{ending}"
    path.write_bytes(silent.read_bytes().removesuffix(b"\0\0\1\xb9") + loud.read_bytes())
    video = decoded(path, 8)
    # The frames on screen at 1, 3, ..., 15 s.
    assert indices(video) == [25, 75, 125, 175, 225, 275, 325, 375]
    assert (video.duration_s, video.time_jumps) == (pytest.approx(16.0, abs=0.001), 1)
    # At the joint of a program stream FFmpeg gives two packets the same time, so that it is decoded in sequence.
    assert (passes == []) == (ending == "ts")


@pytest.mark.parametrize(
    ("name", "codec", "period"),
    [("a.mp4", "mpeg4", 20), ("a.asf", "msmpeg4v2", 1), ("a.mkv", "msmpeg4", 1), ("a.avi", "msmpeg4v2", 1)],
)
def test_a_packet_that_is_wrongly_called_a_keyframe(
    tmp_path: Path, name: str, codec: str, period: int, passes: list[SequentialReader]
) -> None:
    path = write_recording(tmp_path / name, range(90), codec, gop=600, is_keyframe=lambda count: count % period == 0)
    assert indices(decoded(path, 3)) == [15, 45, 75]
    assert len(passes) == 1


def test_a_codec_that_never_says_keyframe_is_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", 60, codec="qtrle", pix_fmt="rgb24", gop=10)
    assert indices(decoded(path, 3)) == [10, 30, 50]
    assert indices(decoded(path, 3, mode="keyframes")) == [10, 30, 50]


@pytest.mark.parametrize(("ending", "codec"), [("ts", "mpeg2video"), ("ts", "libx264")])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_joined_recordings_come_one_after_the_other(
    tmp_path: Path, ending: str, codec: str, b_frames: int, passes: list[SequentialReader]
) -> None:
    parts = [
        write_recording(tmp_path / f"{first}.{ending}", range(first, first + 40), codec, b_frames=b_frames, fps=25)
        for first in (0, 40)
    ]
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(b"".join(part.read_bytes().removesuffix(b"\0\0\1\xb9") for part in parts))
    video = decoded(path, 8)
    assert indices(video) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert (video.duration_s, video.time_jumps, passes) == (pytest.approx(3.2, abs=0.001), 1, [])
    assert video.pts_s.tolist() == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0], abs=0.001)


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_program_stream_whose_clock_jumps_ahead_at_a_joint(
    tmp_path: Path, b_frames: int, passes: list[SequentialReader]
) -> None:
    path = tmp_path / "joined.mpg"
    options: Any = {"b_frames": b_frames, "fps": 25}
    parts = [
        write_recording(
            tmp_path / f"{first}.mpg", range(first, first + 40), "mpeg1video", first_place=first * 100, **options
        )
        for first in (0, 40)
    ]
    # FFmpeg gives the last picture before the joint the time of the first one behind it, 160 s later.
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = decoded(path, 8)
    assert indices(video) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert (video.duration_s, video.time_jumps, passes) == (pytest.approx(3.2, abs=0.001), 1, [])


@dataclass(frozen=True)
class FailingDecoder:
    """Decoder that fails with a number of FFmpeg."""

    number: int

    def decode(self, packet: Any) -> list[Any]:
        av.error.err_check(-self.number)
        return []


# -1, "operation not permitted", is what the decoder of Theora reports for the headers of a recording that is joined.
@pytest.mark.parametrize("number", [1, errno.EINVAL, *map(av.error.tag_to_code, (b"PAWE", b"INDA"))])
def test_any_number_that_a_decoder_reports_is_a_damaged_packet(number: int) -> None:
    with pytest.raises(DamagedPacket):
        frames_of(FailingDecoder(number), None)


def test_a_decoder_without_memory_is_no_damaged_packet() -> None:
    with pytest.raises(MemoryError):
        frames_of(FailingDecoder(errno.ENOMEM), None)


def test_a_recording_goes_on_behind_a_gap_of_zeros(tmp_path: Path, passes: list[SequentialReader]) -> None:
    # FFmpeg reports "resource temporarily unavailable" after each 64 KiB of the gap.
    parts = [write_recording(tmp_path / f"{first}.ts", range(first, first + 40), fps=25) for first in (0, 40)]
    path = tmp_path / "gap.ts"
    path.write_bytes(parts[0].read_bytes() + bytes(200_000) + parts[1].read_bytes())
    video = decoded(path, 8)
    assert indices(video) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert (video.duration_s, video.missing_s, passes) == (pytest.approx(3.2, abs=0.001), 0.0, [])


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("is_wild", [lambda place: place == 99, lambda place: place > 0, lambda place: place >= 50])
def test_a_wild_time_leaves_all_frames_within_reach(
    tmp_path: Path, is_wild: Callable[[int], bool], b_frames: int
) -> None:
    pts_ms = [100 * place + 37_600_000 * is_wild(place) for place in range(100)]
    video = decoded(write_video(tmp_path / "a.mkv", 100, pts_ms=pts_ms, b_frames=b_frames), 73)
    steady = decoded(write_video(tmp_path / "steady.mkv", 100, pts_ms=range(0, 10_000, 100), b_frames=b_frames), 73)
    assert indices(video) == indices(steady)
    assert len(indices(video)) == 73
    assert (video.duration_s, steady.duration_s) == (pytest.approx(10.0, abs=0.11), pytest.approx(10.0))
    assert (video.time_jumps > 0, steady.time_jumps) == (True, 0)


def test_two_stills_over_an_hour_are_two_frames(tmp_path: Path) -> None:
    video = decoded(write_video(tmp_path / "a.mkv", 2, pts_ms=[0, 1_800_000]), 73)
    assert (indices(video), video.time_jumps) == ([0, 1], 0)


@pytest.mark.parametrize(("codec", "b_frames"), [("mpeg2video", 2), ("libx264", 3)])
def test_time_starts_at_the_first_picture_that_can_be_shown(
    tmp_path: Path, codec: str, b_frames: int, passes: list[SequentialReader]
) -> None:
    options = H264_OPEN if codec == "libx264" else None
    whole = write_recording(tmp_path / "a.ts", range(80), codec, options=options, b_frames=b_frames).read_bytes()
    # Cut in the second group of pictures: what follows up to the next keyframe refers to what is gone.
    path = tmp_path / "cut.ts"
    path.write_bytes(whole[whole.index(b"\x47", len(whole) // 5 // 188 * 188) :])
    with av.open(str(path)) as container:
        shown = [frame for frame in container.decode(video=0) if not frame.is_corrupt]
    first = read_index(shown[0].to_ndarray(format="rgb24"))
    assert (first > 10, len(shown)) == (True, 80 - first)
    video = decoded(path, 200)
    assert indices(video) == list(range(first, 80))
    assert video.duration_s == pytest.approx((80 - first) / 10)
    assert passes == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_av1_is_decoded_by_packet(tmp_path: Path, name: str, passes: list[SequentialReader]) -> None:
    path = write_video(tmp_path / name, 60, codec="libsvtav1", size=(96, 64), **SVT)
    assert indices(decoded(path, 3)) == [10, 30, 50]
    assert passes == []


def test_intra_refresh_without_keyframes_is_decoded_once(tmp_path: Path, passes: list[SequentialReader]) -> None:
    options = {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}
    path = write_video(tmp_path / "a.ts", 90, codec_options=options)
    assert indices(decoded(path, 3)) == [15, 45, 75]
    assert len(passes) <= 1


@pytest.mark.parametrize("mode", ["uniform", "middle"])
def test_a_video_without_times_is_decoded_once(tmp_path: Path, mode: str, passes: list[SequentialReader]) -> None:
    path = write_video(tmp_path / "a.avi", 60, b_frames=2, black=range(28, 32))
    plan = SamplingPlan(num_frames=3, mode=mode, clip_duration_s=6.0)
    # Frame 30 is black. Nearer to it than to 10 and 50 are 21 to 39; of these 23, 27, 33 and 37 are decoded.
    assert indices(decode.decode_video(str(path), plan, as_it_is)) == [10, 27, 50]
    assert len(passes) == 1


def test_a_damaged_video_is_decoded_once(tmp_path: Path, passes: list[SequentialReader]) -> None:
    path = write_video(tmp_path / "a.mp4", 60, gop=10)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in packets[30:32]:
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    video = decoded(path, 3)
    # Frame 30 is damaged, so that frame 29 stays on screen.
    assert (indices(video), video.duration_s) == ([10, 29, 50], pytest.approx(6.0))
    assert len(passes) == 1


@pytest.fixture
def num_frames_decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Times of all frames that decoders return, over all attempts to decode a video."""
    frames: list[Any] = []
    by_packet, in_sequence = planned_reader.decoded_frames, SequentialReader._undamaged_frames

    def planned(*arguments: Any) -> Iterator[Any]:
        for frame in by_packet(*arguments):
            frames.append(frame.pts)
            yield frame

    def sequential(self: SequentialReader, damage: list[str]) -> Iterator[tuple[int, Any]]:
        for slot, frame in in_sequence(self, damage):
            frames.append(frame.pts)
            yield slot, frame

    monkeypatch.setattr(planned_reader, "decoded_frames", planned)
    monkeypatch.setattr(SequentialReader, "_undamaged_frames", sequential)
    return frames


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_cut_avi_without_times_is_decoded_once(tmp_path: Path, b_frames: int, num_frames_decoded: list[Any]) -> None:
    path = write_video(tmp_path / "a.avi", 60, b_frames=b_frames, noise=True, gop=10)
    content = path.read_bytes()
    with av.open(str(path)) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-5]
    assert last.pos is not None
    # The file ends in the middle of its fifth packet from the end, which gives no frame.
    path.write_bytes(content[: last.pos + last.size // 2])
    video = decoded(path, 20)
    assert video.duration_s == pytest.approx(5.6, abs=0.001)
    assert indices(video)[:4] == [1, 4, 7, 9]
    # Without reordered frames the packets have times, so that only the groups up to the picked frames are decoded.
    assert len(num_frames_decoded) == (55 if b_frames else 32)


def test_a_video_with_damage_is_planned_up_to_the_damage(tmp_path: Path, num_frames_decoded: list[Any]) -> None:
    path = write_video(tmp_path / "a.mp4", 100, gop=100, codec_options={"x264-params": "scenecut=0"})
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    position, size = packets[5]
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    assert decoded(path, 10).num_damaged > 0
    # Five frames before the damage, which ends the plan, and then the 99 undamaged frames in sequence.
    assert len(num_frames_decoded) == 104


def test_asf_states_no_times_of_presentation(tmp_path: Path, passes: list[SequentialReader]) -> None:
    # FFmpeg guesses them, and wrongly if more than one frame is reordered.
    path = write_recording(tmp_path / "a.asf", range(80), b_frames=3, fps=25)
    video = decoded(path, 8)
    assert indices(video) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert video.pts_s.tolist() == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0])
    assert len(passes) == 1


@pytest.mark.parametrize("b_frames", [0, 1, 3])
def test_a_pause_in_asf_is_kept(tmp_path: Path, b_frames: int) -> None:
    pts_ms = [*range(0, 1600, 40), *range(6600, 8200, 40)]
    path = write_video(tmp_path / "a.asf", 80, fps=25, b_frames=b_frames, pts_ms=pts_ms)
    video = decoded(path, 4)
    assert video.duration_s == pytest.approx(8.2)
    # The file states decoding times, in which the pause comes as many frames later as frames are delayed.
    last = {0: 39, 1: 40, 3: 41}[b_frames]
    assert indices(video) == [25, last, 54]


def test_the_last_frame_that_comes_is_shown_for_its_own_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.gif", 6, codec="gif", pix_fmt="rgb8", pts_ms=[0, 100, 200, 300, 400, 2400])
    path.write_bytes(path.read_bytes()[:-1250])  # 13 bytes of the last picture are left
    video = decoded(path, 20)
    assert (indices(video), video.duration_s) == ([0, 1, 3, 4], pytest.approx(2.4))
