"""From a video file to the sampled frames at model resolution, or a named reason why not.

Planned decoding: one pass over the packets, without decoding, gives every frame's time; the
sampling plan picks frames by these times; a second pass feeds the decoder only the packets that
these frames need. Where the packets do not tell (times missing or repeated), or the decoder does
not show a planned frame, everything is decoded in sequence instead: slower, never another frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from vidclf.schema import RejectReason
from vidclf.video import frame_quality, packets, sampling
from vidclf.video.digest import FileFingerprint, identify
from vidclf.video.packets import PacketIndex, PacketRange
from vidclf.video.rejection import VideoRejected
from vidclf.video.remote_file import RangedFile, joined
from vidclf.video.sampling import SamplingPlan
from vidclf.video.source import NO_LIMIT, Source, locate, no_frames, open_video, rejection, tells_all_in_header

DECODER_VERSION = f"pyav-{av.__version__}/libavcodec-{'.'.join(map(str, av.library_versions['libavcodec']))}"
"""Part of the feature key: another decoder may round colours otherwise."""

KEEP_PACKETS_BYTES = 64 * 1024**2
"""Compressed video up to which the first pass keeps what it read, so that there is no second one."""

Transform = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
"""Maps an RGB frame [H, W, 3] to what is kept of it; all frames of a video to one shape. A new array: the
frame's own memory is used again for the next one."""


@dataclass(frozen=True, kw_only=True)
class DecodedVideo:
    """The sampled frames of one video and what is known of it."""

    frames_THWC: npt.NDArray[np.uint8]
    """RGB at model resolution, in order of presentation; [T, …] as the transform leaves a frame"""
    is_black: npt.NDArray[np.bool_]
    """whether each frame, as it was before the transform, is black"""
    pts_s: npt.NDArray[np.float64]
    """presentation time of each frame, from the first frame of the video"""
    duration_s: float
    """first frame's time to last frame's end"""
    width: int
    """as displayed, in pixels"""
    height: int
    framerate: float | None
    """average, in frames per second; None where the container does not say"""
    video_codec: str
    content: FileFingerprint | None = None
    """the file; known once decoding has ended well"""


def decode_video(
    uri: str,
    plan: SamplingPlan,
    transform: Transform,
    seed: str = "",
    on_duration: Callable[[float], None] = lambda duration_s: None,
    max_bytes: int = NO_LIMIT,
) -> DecodedVideo:
    """Decode the frames of the video at `uri` that `plan` picks; `seed` as in `sampling.choose`.

    `on_duration` is told the duration in seconds as soon as the packets say it. A file of more than
    `max_bytes` is not opened.

    Raises VideoRejected for every fault of the video: whatever PyAV, FFmpeg or the file system
    raise for it is given a reason here, so that one video can only ever cost its own row.
    """
    with locate(uri, max_bytes) as source:
        try:
            decoded = _decode_planned(source, plan, transform, seed, on_duration)
            decoded = decoded or _decode_in_sequence(source, plan, transform, seed)
            return replace(decoded, content=identify(source))
        except VideoRejected:
            raise
        except MemoryError as error:
            raise VideoRejected(RejectReason.OUT_OF_MEMORY, f"decoding ran out of memory: {error}") from error
        except Exception as error:
            raise rejection(source, error) from error


class _Picker:
    """Collects the wanted frames, transformed, as a decoder shows them; frames go by a key."""

    def __init__(self, transform: Transform) -> None:
        self.missing: set[int] = set()
        self._transform = transform
        self._frames: dict[int, npt.NDArray[np.uint8]] = {}
        self._is_black: dict[int, bool] = {}
        self._size = (0, 0)
        self._reformatter = VideoReformatter()

    def offer(self, key: int, frame: Any) -> None:
        if key not in self.missing or frame.is_corrupt:
            return
        rgb_HWC = _upright(frame, self._reformatter)
        self._size = (rgb_HWC.shape[1], rgb_HWC.shape[0])
        self._frames[key] = self._transform(rgb_HWC)
        self._is_black[key] = frame_quality.is_black(rgb_HWC)
        self.missing.remove(key)

    def is_black(self, key: int) -> bool:
        return self._is_black[key]

    def video(self, keys: list[int], **facts: Any) -> DecodedVideo:
        return DecodedVideo(
            frames_THWC=np.stack([self._frames[key] for key in keys]),
            is_black=np.array([self._is_black[key] for key in keys]),
            width=self._size[0],
            height=self._size[1],
            **facts,
        )


def _facts(stream: Any) -> dict[str, Any]:
    rate = stream.average_rate
    return {"framerate": float(rate) if rate else None, "video_codec": stream.codec_context.name}


def _decode_planned(
    source: Source, plan: SamplingPlan, transform: Transform, seed: str, on_duration: Callable[[float], None]
) -> DecodedVideo | None:
    """The planned frames from the packets they need; None where that does not work out."""
    with open_video(source) as (container, stream):
        index = _scan(source, container, stream)
        time_base = stream.time_base
        if index is None or time_base is None:
            return None
        order = np.argsort(index.pts_ticks[index.is_shown])
        times = index.pts_ticks[index.is_shown][order]
        keyframes = index.is_keyframe[index.is_shown][order]
        duration_s = float((index.end_ticks - int(times[0])) * time_base)
        on_duration(duration_s)
        picker = _Picker(transform)

        def show(indices: list[int]) -> bool:
            """Whether the frames at `indices` could all be shown."""
            picker.missing = set(times[indices].tolist())
            wanted_runs = packets.runs(index, times[indices])
            if index.kept is not None:
                return _show(index.kept, stream, wanted_runs, picker)
            with open_video(source) as (again, same_stream), _reading_only(source, index, wanted_runs):
                return _show(again.demux(same_stream), same_stream, wanted_runs, picker)

        chosen = sampling.choose(times, index.end_ticks, keyframes, time_base, plan, seed)
        if not show(chosen.tolist()):
            return None
        if plan.avoid_black:
            chosen = _without_black(times, keyframes, chosen, plan, show, lambda i: picker.is_black(int(times[i])))
        pts_s = (times[chosen] - times[0]) * float(time_base)
        return picker.video(times[chosen].tolist(), pts_s=pts_s, duration_s=duration_s, **_facts(stream))


def _scan(source: Source, container: Any, stream: Any) -> PacketIndex | None:
    """The packets' index; of a remote file whose header tells it, without fetching the packets."""
    is_in_header = tells_all_in_header(source, container, stream)
    if isinstance(source, RangedFile) and is_in_header:
        source.only = []
        try:
            index = packets.scan(container, stream)
        finally:
            source.only = None
    else:
        index = packets.scan(container, stream, KEEP_PACKETS_BYTES)
    if index is None or not is_in_header:
        return index
    # FFmpeg takes more packets for keyframes than the header does, by their content, which is not there
    # in a remote file. A video's frames must not depend on where it is: the header counts.
    is_keyframe = {entry.pos: entry.is_keyframe for entry in stream.index_entries}
    if index.positions.tolist() != list(is_keyframe):
        return None if isinstance(source, RangedFile) else index
    is_from_header = isinstance(source, RangedFile)
    return replace(index, is_keyframe=np.array(list(is_keyframe.values())), is_from_header=is_from_header)


@contextmanager
def _reading_only(source: Source, index: PacketIndex, runs: list[PacketRange]) -> Iterator[None]:
    """Fetch no more of a remote file than the packets of `runs`, where that can be told."""
    if isinstance(source, RangedFile) and index.is_from_header:
        spans = [slice(run.first, run.last + 1) for run in runs]
        starts = np.concatenate([index.positions[span] for span in spans])
        ends = starts + np.concatenate([index.sizes[span] for span in spans])
        source.only = joined(list(zip(starts.tolist(), ends.tolist(), strict=True)))
        try:
            yield
        finally:
            source.only = None
    else:
        yield


def _without_black(
    times: npt.NDArray[np.int64],
    keyframes: npt.NDArray[np.bool_],
    chosen: npt.NDArray[np.intp],
    plan: SamplingPlan,
    show: Callable[[list[int]], bool],
    is_black: Callable[[int], bool],
) -> npt.NDArray[np.intp]:
    """`chosen`, with the nearest good alternative in place of each black frame that has one.

    `show` decodes frames by their indices, `is_black` then looks at one.
    """
    eligible = keyframes if plan.mode == "keyframes" else np.ones(len(times), np.bool_)
    black = [index for index in chosen.tolist() if is_black(index)]
    candidates = {index: sampling.alternatives(times, chosen, eligible, index) for index in black}
    asked = sorted(candidate for indices in candidates.values() for candidate in indices)
    # What is damaged there is not missed: the black frame stays.
    if not asked or not show(asked):
        return chosen
    better = {index: next((c for c in near if not is_black(c)), index) for index, near in candidates.items()}
    return np.array([better.get(index, index) for index in chosen.tolist()], dtype=np.intp)


def _show(every_packet: Iterable[Any], stream: Any, runs: list[PacketRange], picker: _Picker) -> bool:
    """Offer `picker` what the decoder shows; whether it then has all that it wanted.

    A damaged packet ends it with frames missing, and a corrupt frame is not taken: decoding in
    sequence survives both.
    """
    with suppress(av.error.InvalidDataError):
        for frame in shown_frames(every_packet, stream.codec_context, runs, picker.missing):
            picker.offer(frame.pts, frame)
    return not picker.missing


def shown_frames(every_packet: Iterable[Any], codec: Any, runs: list[PacketRange], wanted: Set[int]) -> Iterator[Any]:
    """What the decoder `codec` shows when, of a stream's packets, it is fed just those of `runs`.

    The packets between are passed over, even where they have to be read: that costs a hundredth of
    decoding, and seeking cannot be trusted to land on the right group in every container.
    """
    remaining = iter(runs)
    run = next(remaining, None)
    position, skipped = -1, ""
    for packet in every_packet:
        if run is None:
            return
        if packet.size == 0:
            continue
        position += 1
        if position < run.first:
            continue
        # Frames that nobody refers to need not be decoded unless they are wanted themselves.
        skip = "DEFAULT" if packet.pts in wanted else "NONREF"
        if skip != skipped:
            codec.skip_frame = skipped = skip
        yield from codec.decode(packet)
        if position == run.last:
            codec.skip_frame = skipped = "DEFAULT"
            yield from codec.decode(None)
            codec.flush_buffers()
            run = next(remaining, None)


def _decode_in_sequence(source: Source, plan: SamplingPlan, transform: Transform, seed: str) -> DecodedVideo:
    """The planned frames by decoding everything twice: for the times, then for the frames (and once
    more where black ones are to be replaced).

    Frames that cannot be decoded or are damaged are no frames here. Where the frames' times are
    missing or do not rise, they are counted out at the average rate.
    """
    damage: list[str] = []
    with open_video(source) as (container, stream):
        shown = [(frame.pts, bool(frame.key_frame)) for frame in _whole_frames(container, stream, damage)]
        time_base, rate, facts = stream.time_base or Fraction(1, 1000), stream.average_rate, _facts(stream)
    if not shown:
        raise no_frames(source, damage)
    given = [pts for pts, _ in shown]
    if None in given or any(after <= before for before, after in itertools.pairwise(given)):
        step = max(1, round(1 / (rate * time_base))) if rate else 1
        given = [step * number for number in range(len(shown))]
    times = np.array(given, dtype=np.int64)
    keyframes = np.array([is_keyframe for _, is_keyframe in shown], dtype=np.bool_)
    end_ticks = packets.end_of(times, 0)
    picker = _Picker(transform)

    def show(indices: list[int]) -> bool:
        picker.missing = set(indices)
        with open_video(source) as (container, stream):
            for number, frame in enumerate(_whole_frames(container, stream, [])):
                picker.offer(number, frame)
                if not picker.missing:
                    break
        return not picker.missing

    chosen = sampling.choose(times, end_ticks, keyframes, time_base, plan, seed)
    if not show(chosen.tolist()):
        raise VideoRejected(RejectReason.DECODE_ERROR, "two decoding passes showed different numbers of frames")
    if plan.avoid_black:
        chosen = _without_black(times, keyframes, chosen, plan, show, picker.is_black)
    scale = float(time_base)
    pts_s = (times[chosen] - times[0]) * scale
    return picker.video(chosen.tolist(), pts_s=pts_s, duration_s=float(end_ticks - times[0]) * scale, **facts)


def _whole_frames(container: Any, stream: Any, damage: list[str]) -> Iterator[Any]:
    """Every frame that can be decoded and is whole; what is not is noted in `damage`."""
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            damage.append(str(error.strerror))
            continue
        for frame in frames:
            if frame.is_corrupt:
                damage.append("corrupt frame")
            else:
                yield frame


def _upright(frame: Any, reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    """RGB [H, W, 3] with the container's display rotation applied; PyAV leaves it to us."""
    # One reformatter for the video and one thread: by default every frame sets up its own of both,
    # which costs as much as the conversion. The plane is viewed, not copied.
    plane = reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
    rows: npt.NDArray[np.uint8] = np.frombuffer(cast("Any", plane), np.uint8).reshape(plane.height, plane.line_size)
    rgb = rows[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns))
