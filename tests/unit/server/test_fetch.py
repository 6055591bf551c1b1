"""Allowed and refused URIs, and the outcomes of a fetch."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.server.fetch import UriPolicy, fetch, is_public
from vidclf.server.refusals import Problem, Reason, Refused
from vidclf.server.uploads import LimitedFile

PUBLIC = "93.184.216.34"
NAMES = {
    "videos.example": [PUBLIC],
    "a.videos.example": ["2606:4700::1111"],
    "loopback.videos.example": ["127.0.0.1"],
    "mixed.videos.example": [PUBLIC, "10.0.0.7"],
    "metadata.videos.example": ["169.254.169.254"],
    "mapped.videos.example": ["::ffff:192.168.0.1"],
    "none.videos.example": [],
}


def resolve(host: str, port: int) -> Sequence[str]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


POLICY = UriPolicy(
    ["https://*.videos.example", "http://videos.example:8080", "s3://bucket", "https://nowhere.example"], resolve
)


def refuses(uri: str, policy: UriPolicy = POLICY) -> bool:
    try:
        policy.check(uri)
    except Refused as refused:
        return refused.reason is Problem.URI_NOT_ALLOWED
    return False


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::127.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:0:7f00:1::", "nonsense", ""),
    ],
)
def test_addresses_of_this_machine_and_its_networks_are_not(address: str) -> None:
    assert not is_public(address)


def test_what_is_listed_and_public_is_allowed_at_its_address() -> None:
    place = POLICY.check("https://a.videos.example/clips/1.mp4?token=x#t=3")
    assert (place.host, place.port, place.target) == ("a.videos.example", 443, "/clips/1.mp4?token=x")
    assert place.addresses == ("2606:4700::1111",)
    assert POLICY.check("http://VIDEOS.example.:8080/").addresses == (PUBLIC,)
    assert POLICY.check("s3://bucket/clips/1.mp4").addresses == ()


@pytest.mark.parametrize(
    "uri",
    [
        "https://videos.example/",  # only the names below it are listed
        "http://a.videos.example/",  # another scheme
        "https://a.videos.example:8443/",  # another port
        "http://videos.example/",
        "https://evil.example/a.videos.example",
        "https://a.videos.example@evil.example/",
        "https://user:secret@a.videos.example/",
        "https://a.videos.example\\@evil.example/",
        "https://a.videos.example\n/",
        "https://evilvideos.example/",
        "s3://other/clip.mp4",
        "s3://bucket/clip.mp4?endpoint_override=127.0.0.1:9000",
        "file:///etc/passwd",
        "/etc/passwd",
        "https://[::1/",
        "https://a.videos.example:99999/",
        "",
        "https://a.videos.example/" + "x" * 2048,
    ],
)
def test_what_is_not_listed_is_refused(uri: str) -> None:
    assert refuses(uri)


@pytest.mark.parametrize("name", ["loopback", "mixed", "metadata", "mapped", "none", "unknown"])
def test_a_name_that_leads_inside_or_nowhere_is_refused_although_it_is_listed(name: str) -> None:
    assert refuses(f"https://{name}.videos.example/clip.mp4")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost", "169.254.169.254"])
def test_loopback_in_any_spelling_is_refused_even_if_any_host_is_allowed(host: str) -> None:
    """The machine's own resolver reads all of these as addresses."""
    assert refuses(f"http://{host}/", UriPolicy(["http://*"]))


def test_nothing_is_allowed_by_default() -> None:
    assert refuses("https://videos.example/clip.mp4", UriPolicy([], resolve))


@pytest.mark.parametrize(
    "entry",
    [
        *("videos.example", "file://", "ftp://videos.example", "https://", "https://videos.example/clips"),
        *("https://user@videos.example", "https://*videos*", "https://a.*.example", "https://videos.example:x"),
    ],
)
def test_an_entry_that_is_none_is_said(entry: str) -> None:
    with pytest.raises(ConfigError, match="--allow-uri must be scheme://host"):
        UriPolicy([entry])


def fetched(tmp_path: Path, answer: Iterable[bytes], *, max_bytes: int = 100, timeout_s: float = 10) -> bytes | Reason:
    """Content or refusal of a fetch from a server that sends `answer` piece by piece and then waits."""
    client, server = socket.socketpair()
    client.settimeout(10)

    def send_answer() -> None:
        for piece in answer:
            try:
                server.sendall(piece)
            except OSError:
                return

    sender = threading.Thread(target=send_answer)
    sender.start()
    file = LimitedFile(str(tmp_path / "video"), max_bytes)
    try:
        fetch("http://videos.example:8080/a.mp4", POLICY, file, timeout_s, lambda address, port, timeout: client)
    except Refused as refused:
        return refused.reason
    finally:
        file.close()
        client.close()
        sender.join()
        server.close()
    return (tmp_path / "video").read_bytes()


def drip(head: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(100):
        time.sleep(0.02)
        yield b"x"


def test_a_fetch_ends_with_all_or_with_a_reason(tmp_path: Path) -> None:
    def after(head: str, body: bytes = b"") -> bytes | Reason:
        (tmp_path / "video").unlink(missing_ok=True)
        return fetched(tmp_path, [f"HTTP/1.1 {head}\r\n\r\n".encode() + body], max_bytes=100)

    assert after("200 OK\r\nContent-Length: 5", b"video") == b"video"
    assert after("200 OK\r\nTransfer-Encoding: chunked", b"5\r\nvideo\r\n0\r\n\r\n") == b"video"
    assert after("200 OK\r\nContent-Length: 101") is RejectReason.TOO_LARGE
    assert after("200 OK\r\nTransfer-Encoding: chunked", b"65\r\n" + bytes(101) + b"\r\n") is RejectReason.TOO_LARGE
    assert after("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5", b"video") is RejectReason.READ_ERROR
    assert after("404 Not Found\r\nContent-Length: 0") is RejectReason.NOT_FOUND
    assert after("403 Forbidden\r\nContent-Length: 0") is RejectReason.PERMISSION_DENIED
    assert after("500 Oh\r\nContent-Length: 0") is RejectReason.READ_ERROR
    assert after("302 Found\r\nLocation: http://127.0.0.1/") is Problem.URI_NOT_ALLOWED
    assert after("302 Found\r\nLocation: //loopback.videos.example/") is Problem.URI_NOT_ALLOWED


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"])
def test_a_server_that_drips_is_left_in_time(tmp_path: Path, head: bytes) -> None:
    started = time.monotonic()
    assert fetched(tmp_path, drip(head), timeout_s=0.2) is Problem.FETCH_TIMEOUT
    assert time.monotonic() - started < 1.5
