"""From a video file to the sampled frames at model resolution, or a named reason why not.

One demuxing pass reads every packet's presentation time without decoding; the sampling plan picks
frames by those times; one decoding pass runs up to the last wanted frame and transforms the wanted
ones. Where the packets do not tell (no timestamps, or the decoder shows frames at other times) the
times are taken from a full decoding pass instead: slower, never a different frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from pyarrow import fs

from vidclf import storage
from vidclf.archive import sampling
from vidclf.config import ConfigError
from vidclf.schema import RejectReason

DECODER_VERSION = f"pyav-{av.__version__}/libavcodec-{'.'.join(map(str, av.library_versions['libavcodec']))}"
"""Part of the feature key: another decoder may round colours otherwise."""

_SNIFF_BYTES = 4096


class VideoRejected(Exception):
    """A video that yields no frames; `reason` is from the closed list, the message says more."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class DecodedVideo:
    """The sampled frames of one video and what is known of it."""

    frames_THWC: npt.NDArray[np.uint8]
    """RGB at model resolution, in order of presentation"""
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


Transform = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
"""Maps an RGB frame [H, W, 3] to the one that is kept; all frames of a video to one shape."""


def decode_video(uri: str, num_frames: int, transform: Transform) -> DecodedVideo:
    """Decode up to `num_frames` uniformly sampled frames of the video at `uri`.

    Raises VideoRejected for every fault of the video. Anything else that escapes is a bug here.
    """
    try:
        timeline = _packet_timeline(uri)
        decoded = _decode_planned(uri, timeline, num_frames, transform) if timeline else None
        if decoded is None:
            decoded = _decode_planned(uri, _frame_timeline(uri), num_frames, transform)
    except av.error.FFmpegError as error:
        raise _rejection(uri, error) from error
    except OSError as error:
        raise VideoRejected(RejectReason.READ_ERROR, f"reading failed: {error}") from error
    if decoded is None:
        raise VideoRejected(RejectReason.DECODE_ERROR, "two decoding passes showed frames at different times")
    return decoded


@dataclass(frozen=True)
class _Timeline:
    """Presentation times in ticks of the stream's time base, strictly increasing, and the end."""

    pts_ticks: npt.NDArray[np.int64]
    end_ticks: int


@contextmanager
def _open(uri: str) -> Iterator[tuple[Any, Any]]:
    """The container and its main video stream."""
    filesystem, path = _existing(uri)
    source: Any = path
    if not isinstance(filesystem, fs.LocalFileSystem):
        source = filesystem.open_input_file(path)
    with av.open(source, metadata_errors="ignore") as container:
        # An attached picture (cover art) is a video stream to FFmpeg, but not the video.
        attached = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & attached]
        if not streams:
            raise VideoRejected(RejectReason.NO_VIDEO_STREAM, "the container holds no video stream")
        stream = max(streams, key=lambda s: (s.width or 0) * (s.height or 0))
        # One thread a decoder and one decoder a core: threads inside it cost more than they gain.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        yield container, stream


def _existing(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, path = storage.resolve(uri)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise VideoRejected(RejectReason.NOT_FOUND, "no such file")
        if info.type != fs.FileType.File:
            raise VideoRejected(RejectReason.NOT_A_VIDEO, "not a regular file")
        if info.size == 0:
            raise VideoRejected(RejectReason.EMPTY_FILE, "0 bytes")
    except PermissionError as error:
        raise VideoRejected(RejectReason.PERMISSION_DENIED, str(error)) from error
    except ConfigError as error:
        raise VideoRejected(RejectReason.READ_ERROR, str(error)) from error
    return filesystem, path


def _packet_timeline(uri: str) -> _Timeline | None:
    """Times from the packets; None where they are missing or ambiguous."""
    with _open(uri) as (container, stream):
        pts: list[int] = []
        duration_of_last = 0
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.pts is None:
                return None
            if not pts or packet.pts >= max(pts[-16:]):
                duration_of_last = packet.duration or 0
            pts.append(packet.pts)
    ordered = np.unique(np.array(pts, dtype=np.int64))
    if len(ordered) == 0 or len(ordered) != len(pts):
        return None
    return _Timeline(ordered, _end(ordered, duration_of_last))


def _frame_timeline(uri: str) -> _Timeline:
    """Times from decoding everything."""
    with _open(uri) as (container, stream):
        pts = [frame.pts for frame in container.decode(stream) if frame.pts is not None]
    ordered = np.unique(np.array(pts, dtype=np.int64))
    if len(ordered) == 0:
        raise VideoRejected(RejectReason.TOO_FEW_FRAMES, "no frame with a presentation time could be decoded")
    return _Timeline(ordered, _end(ordered, 0))


def _end(pts_ticks: npt.NDArray[np.int64], duration_of_last: int) -> int:
    """End of the last frame: by its own duration, else by the median one, else by one tick."""
    if duration_of_last <= 0 and len(pts_ticks) > 1:
        duration_of_last = int(np.median(np.diff(pts_ticks)))
    return int(pts_ticks[-1]) + max(duration_of_last, 1)


def _decode_planned(uri: str, timeline: _Timeline, num_frames: int, transform: Transform) -> DecodedVideo | None:
    """The planned frames of `timeline`; None where the decoder does not show one of them."""
    pts_ticks = timeline.pts_ticks
    wanted = pts_ticks[sampling.uniform(pts_ticks, timeline.end_ticks, num_frames)]
    remaining = set(wanted.tolist())
    frames: dict[int, npt.NDArray[np.uint8]] = {}
    with _open(uri) as (container, stream):
        width = height = 0
        for frame in container.decode(stream):
            if frame.pts in remaining:
                if frame.is_corrupt:
                    raise VideoRejected(RejectReason.DECODE_ERROR, f"corrupt frame at {float(frame.time or 0):.3f} s")
                rgb = _upright(frame)
                height, width = rgb.shape[:2]
                frames[frame.pts] = transform(rgb)
                remaining.remove(frame.pts)
                if not remaining:
                    break
        if remaining:
            return None
        return DecodedVideo(
            frames_THWC=np.stack([frames[pts] for pts in wanted.tolist()]),
            pts_s=(wanted - pts_ticks[0]) * float(stream.time_base),
            duration_s=(timeline.end_ticks - int(pts_ticks[0])) * float(stream.time_base),
            width=width,
            height=height,
            framerate=float(stream.average_rate) if stream.average_rate else None,
            video_codec=stream.codec_context.name,
        )


def _upright(frame: Any) -> npt.NDArray[np.uint8]:
    """RGB [H, W, 3] with the container's display rotation applied; PyAV leaves it to us."""
    rgb: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns else rgb


def _rejection(uri: str, error: av.error.FFmpegError) -> VideoRejected:
    message = f"{type(error).__name__}: {error.strerror or error}"
    if isinstance(error, PermissionError):
        return VideoRejected(RejectReason.PERMISSION_DENIED, message)
    if isinstance(error, FileNotFoundError):
        return VideoRejected(RejectReason.NOT_FOUND, message)
    if isinstance(error, av.error.DecoderNotFoundError):
        return VideoRejected(RejectReason.UNSUPPORTED_CODEC, message)
    head, size_bytes = _head(uri)
    if not _looks_like_a_video(head):
        return VideoRejected(RejectReason.NOT_A_VIDEO, f"no known container signature ({message})")
    if _mp4_is_cut(uri, head, size_bytes):
        return VideoRejected(RejectReason.TRUNCATED, f"the file ends inside a box at {size_bytes} bytes ({message})")
    if isinstance(error, av.error.EOFError):
        return VideoRejected(RejectReason.TRUNCATED, message)
    return VideoRejected(RejectReason.DECODE_ERROR, message)


def _head(uri: str) -> tuple[bytes, int]:
    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_file(path) as stream:
        return stream.read(_SNIFF_BYTES), stream.size()


def _looks_like_a_video(head: bytes) -> bool:
    """Signatures of the containers that archives hold: ISO BMFF, Matroska, AVI, TS, FLV, ASF, PS, Ogg."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75", b"\x00\x00\x01\xba", b"OggS"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


def _mp4_is_cut(uri: str, head: bytes, size_bytes: int) -> bool:
    """Whether a top-level box of an ISO base media file (ISO/IEC 14496-12) reaches past the file's end."""
    if head[4:8] != b"ftyp":
        return False
    filesystem, path = storage.resolve(uri)
    position = 0
    with filesystem.open_input_file(path) as stream:
        while position + 8 <= size_bytes:
            stream.seek(position)
            header = stream.read(16)
            box_bytes = int.from_bytes(header[:4], "big")
            if box_bytes == 1:
                box_bytes = int.from_bytes(header[8:16], "big")
            if box_bytes == 0:
                return False
            if box_bytes < 8:
                return False
            position += box_bytes
    return position > size_bytes
