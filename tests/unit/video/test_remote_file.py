"""Videos over HTTP give the same frames as local files, from as few bytes as the container allows."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from tests.support.field_pictures import write_field_pictures
from tests.support.videos import B_FRAMES, FRAGMENTED, OPEN_GOP, SVT, VP9, X265, as_it_is, read_index, write_video
from vidclf.archive.manifest import list_archive
from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.video import decode, packets, remote_file, retry
from vidclf.video.indexed_video import open_indexed
from vidclf.video.planned_reader import PlannedReader
from vidclf.video.rejection import VideoRejected
from vidclf.video.remote_file import RangedFile
from vidclf.video.sampling import SamplingPlan
from vidclf.video.source import LocalFile, open_video


class Server:
    """HTTP server of a folder. Attributes switch faults on; `bytes_sent` counts the bytes of its replies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sends_ranges = True
        self.sends_size = True
        self.status = 200
        self.bytes_sent = 0
        self.fails_after: int | None = None
        self.failures_left = 0
        self.requests = 0
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.reply(with_body=False)

            def do_GET(self) -> None:
                self.reply(with_body=True)

            def reply(self, *, with_body: bool) -> None:
                path = served.folder / unquote(self.path[1:])
                served.requests += 1
                if served.failures_left > 0:
                    served.failures_left -= 1
                    self.send_error(503)
                    return
                if served.status != 200 or not path.exists():
                    self.send_error(served.status if served.status != 200 else 404)
                    return
                content = path.read_bytes()
                wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                if served.sends_ranges and wanted:
                    start, stop = int(wanted[1]), int(wanted[2] or len(content) - 1) + 1
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
                    content = content[start:stop]
                else:
                    self.send_response(200)
                if served.sends_ranges:
                    self.send_header("Accept-Ranges", "bytes")
                if served.sends_size:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if with_body:
                    served.bytes_sent += len(content)
                    broken = served.fails_after is not None and served.bytes_sent > served.fails_after
                    self.wfile.write(content[: len(content) // 2] if broken else content)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    # By default the server looks every half second whether it shall end.
    thread = threading.Thread(target=partial(server.http.serve_forever, poll_interval=0.01))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def rejected(uri: str, **options: Any) -> tuple[RejectReason, str]:
    with pytest.raises(VideoRejected) as error:
        decode.decode_video(uri, SamplingPlan(num_frames=3), as_it_is, **options)
    return error.value.reason, error.value.message


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the waits between attempts, in seconds, instead of waiting."""
    waited: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", waited.append)
    monkeypatch.setattr(retry, "JITTER", 0.0)
    return waited


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "libx264", B_FRAMES),
        ("mov", "libx264", OPEN_GOP),
        ("mp4", "libx264", B_FRAMES | FRAGMENTED),
        ("mp4", "libx264", B_FRAMES | {"container_options": {"movflags": "frag_keyframe"}}),
        ("mp4", "libx264", B_FRAMES | {"container_options": {"movflags": "faststart"}}),
        ("mp4", "libx265", X265),
        ("mp4", "libsvtav1", SVT),
        ("mp4", "libvpx-vp9", VP9),
        ("mp4", "mpeg4", {"b_frames": 2}),
        ("mkv", "libx264", OPEN_GOP),
        ("ts", "libx264", B_FRAMES),
        ("avi", "libx264", B_FRAMES),
    ],
)
@pytest.mark.parametrize("sends_ranges", [True, False])
def test_the_same_frames_as_from_a_local_file(
    server: Server, tmp_path: Path, container: str, codec: str, options: dict[str, Any], sends_ranges: bool
) -> None:
    server.sends_ranges = sends_ranges
    path = write_video(tmp_path / f"v.{container}", 50, codec=codec, noise=True, size=(96, 64), **options)
    for num_frames in (1, 5, 73):
        plan = SamplingPlan(num_frames=num_frames)
        local = decode.decode_video(str(path), plan, as_it_is)
        remote = decode.decode_video(f"{server.address}/v.{container}", plan, as_it_is)
        assert np.array_equal(remote.frames_THWC, local.frames_THWC)
        assert (remote.pts_s.tolist(), remote.duration_s) == (local.pts_s.tolist(), local.duration_s)


def big_video(path: Path) -> int:
    """Write a video of twenty groups of about 200 KB of noise each, and return its size in bytes."""
    options = {"preset": "ultrafast", "crf": "1", "x264-params": "scenecut=0"}
    write_video(path, 200, gop=10, fps=10, noise=True, size=(160, 120), codec_options=options)
    return path.stat().st_size


def test_of_a_long_mp4_only_the_index_and_the_wanted_groups_are_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 16 * 1024)
    size_bytes = big_video(tmp_path / "v.mp4")
    assert size_bytes > 2_000_000
    video = decode.decode_video(f"{server.address}/v.mp4", SamplingPlan(num_frames=2, avoid_black=False), as_it_is)
    assert video.pts_s.tolist() == [5.0, 15.0]
    # FFmpeg reads the beginning of a file when it opens it, and a frame needs its group. The rest is not fetched.
    assert server.bytes_sent < size_bytes // 3


def test_the_beginning_of_a_matroska_file_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 16 * 1024)
    content = write_video(tmp_path / "v.mkv", 60, noise=True, size=(160, 120), gop=10).read_bytes()
    requests: list[tuple[int, int]] = []
    with open_indexed(ranged(content, requests)) as video:
        assert video.index is not None
    assert sum(start == 0 for start, _ in requests) == 1
    assert len(requests) > remote_file.CACHED_BLOCKS


@pytest.mark.parametrize("is_reordered", [False, True])
@pytest.mark.parametrize("fields_per_packet", [1, 2])
def test_of_an_mp4_whose_packets_are_fields_only_the_wanted_groups_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields_per_packet: int, is_reordered: bool
) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 16 * 1024)
    monkeypatch.setattr(remote_file, "MERGE_GAP_BYTES", 4 * 1024)
    path = tmp_path / "v.mp4"
    content = write_field_pictures(
        path, 200, is_reordered=is_reordered, fields_per_packet=fields_per_packet
    ).read_bytes()
    file = RangedFile(lambda start, stop: content[start:stop], len(content))
    with open_indexed(file) as video:
        assert video.index is not None
        reader = PlannedReader(video, video.index, as_it_is)
        assert (len(reader.timeline.times_ticks), reader.timeline.duration_s) == (200, 20.0)
        assert reader.read([50, 150])
    assert [read_index(reader.frame(index)) for index in (50, 150)] == [50, 150]
    assert file.bytes_fetched < len(content) // 2 > 100_000


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", OPEN_GOP), ("libx265", X265), ("libsvtav1", SVT), ("libvpx-vp9", VP9)]
)
def test_the_header_tells_the_same_as_the_packets(tmp_path: Path, codec: str, options: dict[str, Any]) -> None:
    path = write_video(tmp_path / "v.mp4", 50, codec=codec, noise=True, pts_ms=range(-200, 4800, 100), **options)
    content = path.read_bytes()
    file = RangedFile(lambda start, stop: content[start:stop], len(content))
    with open_indexed(file) as video:
        from_header = video.index
    with open_video(LocalFile(str(path))) as (container, stream):
        from_packets = packets.index_of(packets.scan(container, stream))
    assert from_header is not None
    assert from_packets is not None
    assert from_header.is_from_header
    for field in ("pts_ticks", "is_keyframe", "is_shown", "positions", "sizes"):
        assert getattr(from_header, field).tolist() == getattr(from_packets, field).tolist()
    assert from_header.end_ticks == from_packets.end_ticks
    assert from_packets.is_keyframe.sum() > 1


def test_names_with_spaces_and_any_letters(server: Server, tmp_path: Path) -> None:
    write_video(tmp_path / "видео 日本 é.mp4", 3)
    uri = f"{server.address}/видео 日本 é.mp4"
    assert len(decode.decode_video(uri, SamplingPlan(num_frames=3), as_it_is).frames_THWC) == 3


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (404, RejectReason.NOT_FOUND, "HTTP status 404"),
        (410, RejectReason.NOT_FOUND, "HTTP status 410"),
        (401, RejectReason.PERMISSION_DENIED, "HTTP status 401"),
        (403, RejectReason.PERMISSION_DENIED, "HTTP status 403"),
        (503, RejectReason.READ_ERROR, "503, message='Service Unavailable'"),
    ],
)
def test_a_refusal_has_its_reason(
    server: Server, tmp_path: Path, status: int, reason: RejectReason, message: str
) -> None:
    write_video(tmp_path / "v.mp4", 3)
    server.status = status
    actual_reason, actual_message = rejected(f"{server.address}/v.mp4")
    assert (actual_reason, actual_message[: len(message)]) == (reason, message)


def test_a_server_that_is_not_there_is_a_read_error() -> None:
    assert rejected("http://127.0.0.1:9/v.mp4")[0] == RejectReason.READ_ERROR


def test_a_connection_that_breaks_is_a_read_error(server: Server, tmp_path: Path) -> None:
    size_bytes = big_video(tmp_path / "v.mkv")
    server.fails_after = size_bytes // 2
    assert rejected(f"{server.address}/v.mkv")[0] == RejectReason.READ_ERROR


@pytest.mark.parametrize(("sends_size", "sends_ranges"), [(True, True), (True, False), (False, False)])
def test_a_file_above_the_limit_is_too_large_and_below_it_is_read(
    server: Server, tmp_path: Path, sends_size: bool, sends_ranges: bool
) -> None:
    server.sends_size, server.sends_ranges = sends_size, sends_ranges
    size_bytes = write_video(tmp_path / "v.mp4", 3).stat().st_size
    uri = f"{server.address}/v.mp4"
    assert len(decode.decode_video(uri, SamplingPlan(), as_it_is, max_bytes=size_bytes).frames_THWC) == 3
    expected = (RejectReason.TOO_LARGE, f"{size_bytes} bytes, the limit is {size_bytes - 1}")
    assert rejected(uri, max_bytes=size_bytes - 1) == expected


def test_an_empty_answer_is_an_empty_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").touch()
    assert rejected(f"{server.address}/v.mp4") == (RejectReason.EMPTY_FILE, "0 bytes")


def test_a_local_file_above_the_limit_is_too_large(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 3)
    size_bytes = path.stat().st_size
    expected = (RejectReason.TOO_LARGE, f"{size_bytes} bytes, the limit is 10")
    assert rejected(str(path), max_bytes=10) == expected


def ranged(content: bytes, requests: list[tuple[int, int]]) -> RangedFile:
    """Return a file over `content` that adds each fetched range to `requests`."""

    def fetch(start: int, stop: int) -> bytes:
        requests.append((start, stop))
        return content[start:stop]

    return RangedFile(fetch, len(content))


def test_a_ranged_file_fetches_whole_blocks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 4)
    requests: list[tuple[int, int]] = []
    file = ranged(b"0123456789", requests)
    file.seek(3)
    assert (file.read(3), file.tell()) == (b"345", 6)
    assert (file.read(100), file.read(1)) == (b"6789", b"")
    assert file.seek(-1, 2) == 9
    assert requests == [(0, 4), (4, 8), (8, 10)]
    assert file.bytes_fetched == 10


def test_outside_of_the_wanted_ranges_zeros_stand_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 2)
    requests: list[tuple[int, int]] = []
    file = ranged(b"0123456789", requests)
    with file.fetching_only([(1, 3), (8, 9)]):
        assert file.read() == b"\x0012\0\0\0\0\x008\0"
    assert requests == [(0, 2), (2, 4), (8, 10)]


def test_an_answer_that_is_too_short_is_an_error() -> None:
    with pytest.raises(OSError, match=r"requested bytes 0 to 4, got 3 of them \(5 attempts\)"):
        RangedFile(lambda start, stop: b"abc", 4).read(4)


def test_an_answer_that_was_too_short_is_asked_for_again(waits: list[float]) -> None:
    replies = [b"a", b"abc", b"abcd"]
    file = RangedFile(lambda start, stop: replies.pop(0), 4)
    assert file.read(4) == b"abcd"
    assert waits == [0.5, 1.0]
    assert file.bytes_fetched == 4


@pytest.mark.parametrize("sends_ranges", [True, False])
def test_a_server_that_is_busy_is_asked_again(
    server: Server, tmp_path: Path, waits: list[float], sends_ranges: bool
) -> None:
    server.sends_ranges = sends_ranges
    write_video(tmp_path / "v.mp4", 12)
    server.failures_left = 4
    assert len(decode.decode_video(f"{server.address}/v.mp4", SamplingPlan(num_frames=3), as_it_is).frames_THWC) == 3
    assert waits[:2] == [0.5, 1.0]
    assert sum(waits) <= 7.5


def test_a_server_that_stays_busy_is_given_up(server: Server, waits: list[float]) -> None:
    server.failures_left = 1000
    reason, message = rejected(f"{server.address}/v.mp4")
    assert reason == "read_error"
    assert message.endswith("(5 attempts)")
    assert waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize(("status", "reason"), [(404, "not_found"), (403, "permission_denied"), (400, "read_error")])
def test_what_will_not_pass_is_asked_for_once(server: Server, waits: list[float], status: int, reason: str) -> None:
    server.status = status
    assert rejected(f"{server.address}/v.mp4")[0] == reason
    assert waits == []


def test_a_store_that_denies_access_says_so() -> None:
    def deny() -> None:
        with remote_file._as_rejections():
            raise OSError("When reading object 'v' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation")

    with pytest.raises(VideoRejected) as rejected:
        deny()
    assert rejected.value.reason == "permission_denied"


def test_waits_vary_by_half(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setattr(retry, "JITTER", 0.5)

    def fail() -> None:
        raise OSError("no")

    for _ in range(50):
        with pytest.raises(OSError, match=r"no \(5 attempts\)"):
            retry.with_retries(fail)
    first = waits[::4]
    assert 0.25 <= min(first) < 0.35
    assert 0.65 < max(first) <= 0.75


def test_spans_that_are_close_together_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "MERGE_GAP_BYTES", 10)
    assert remote_file.merged_ranges([(50, 60), (0, 10), (20, 30), (41, 45), (22, 25)]) == [(0, 30), (41, 60)]


def test_a_list_over_http_names_videos_beside_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na b.mp4,A\nhttps://elsewhere/c.mp4,B\n")
    listing = list_archive(f"{server.address}/list.csv")
    assert listing.manifest["video_uri"].to_pylist() == [f"{server.address}/a b.mp4", "https://elsewhere/c.mp4"]
    assert listing.manifest["label"].to_pylist() == ["A", "B"]
    with pytest.raises(ConfigError, match="no such directory or list file"):
        list_archive(f"{server.address}/none.csv")


def test_an_http_client_that_is_being_loaded_has_no_errors_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", ModuleType("aiohttp"))
    assert retry.http_errors(OSError) == (OSError,)
