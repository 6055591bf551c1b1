"""Slow clients and many clients over loopback, and the undocumented names of waitress that the server uses."""

from __future__ import annotations

import http.client
import importlib.metadata
import inspect
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask

from tests.support.http import raw_connection, received
from vidclf.server import client_limits, wsgi_server
from vidclf.server.client_limits import BODY_WINDOW_S, HEADER_TIMEOUT_S, LEAST_BODY_RATE, ClientPace, client_of

ROOT = Path(__file__).resolve().parents[3]


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that answers with the length of the body."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(body)).encode()]


@contextmanager
def served(per_address: int = 64, max_body_bytes: int = 10**6) -> Iterator[str]:
    listener = wsgi_server.listen(
        application,
        host="127.0.0.1",
        port=0,
        threads=4,
        max_body_bytes=max_body_bytes,
        per_address=per_address,
        admit=lambda method, path: None,
        headers=[],
        answered=lambda status: None,
    )
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.port}"
    listener.stop()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of half a second instead of ten."""
    monkeypatch.setattr(client_limits, "HEADER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(client_limits, "BODY_WINDOW_S", 0.5)


def test_a_header_has_a_deadline_and_a_body_a_least_rate() -> None:
    client = ClientPace(100.0)
    assert not client.is_too_slow(100 + HEADER_TIMEOUT_S)
    assert client.is_too_slow(100.1 + HEADER_TIMEOUT_S)
    client.begin(200.0)
    client.received(1, 205.0)
    enough = int(LEAST_BODY_RATE * BODY_WINDOW_S)
    client.received(enough - 1, 206.0)
    assert not client.is_too_slow(205 + BODY_WINDOW_S - 0.1)
    assert not client.is_too_slow(205 + BODY_WINDOW_S)
    # Bytes of one window do not count in the next.
    client.received(enough - 1, 216.0)
    assert client.is_too_slow(205 + 2 * BODY_WINDOW_S)


def test_a_client_is_an_address_or_a_network_of_ipv6() -> None:
    assert client_of("192.0.2.7") == client_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert client_of("2001:db8::1") == client_of("2001:db8::2") == "2001:db8::/64"
    assert client_of("fe80::1%eth0") == "fe80::/64"
    assert client_of("unix") == "unix"


def test_105_clients_that_hardly_send_do_not_silence_the_server() -> None:
    with served() as url, ExitStack() as stack:
        for _ in range(105):
            stack.enter_context(raw_connection(url)).sendall(b"G")
        started = time.monotonic()
        assert requests.get(url, timeout=60).status_code == 200
        assert time.monotonic() - started < 2


def test_a_header_that_never_ends_is_ended(hurried: None) -> None:
    with served() as url, raw_connection(url) as connection, raw_connection(url) as silent:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        started = time.monotonic()
        answer = received(connection)
        assert answer.startswith("HTTP/1.0 408 Request Timeout\r\n")
        assert json.loads(answer.partition("\r\n\r\n")[2])["error"]["reason"] == "request_timeout"
        assert received(silent) == ""
        assert time.monotonic() - started < 8


def test_dripping_does_not_prolong_a_header(hurried: None) -> None:
    with served() as url, raw_connection(url) as connection:
        started = time.monotonic()
        connection.settimeout(0.05)
        answer = b""
        for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 300:
            try:
                connection.sendall(bytes([byte]))
                answer += connection.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
            if not answer or answer.endswith(b"}"):
                break
        assert b"request_timeout" in answer
        assert time.monotonic() - started < 8


def test_a_body_that_hardly_comes_is_ended_and_one_that_comes_is_not(hurried: None) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\nConnection: close\r\n\r\n"
    with served() as url, raw_connection(url) as slow, raw_connection(url) as steady:
        slow.sendall(head + b"x")
        steady.sendall(head)
        started = time.monotonic()
        for _ in range(10):
            steady.sendall(bytes(3000))
            time.sleep(0.2)
        assert received(steady).endswith("30000")
        assert '"reason": "request_timeout"' in received(slow)
        assert time.monotonic() - started < 10


def test_a_connection_that_waits_for_its_next_request_stays(hurried: None) -> None:
    with served() as url:
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        client.connect()
        opened = client.sock
        client.request("GET", "/")
        assert client.getresponse().read() == b"0"
        time.sleep(1.6)
        client.request("GET", "/")
        assert client.getresponse().read() == b"0"
        assert client.sock is opened
        client.close()


def test_an_address_holds_so_many_bodies_and_the_next_is_turned_away() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
    with served(per_address=2) as url, raw_connection(url) as one, raw_connection(url) as two:
        for connection in (one, two):
            connection.sendall(head + b"a")
        time.sleep(0.3)
        with raw_connection(url) as third:
            answer = received(third)
        assert answer.startswith("HTTP/1.1 429 Too Many Requests\r\n")
        assert json.loads(answer.partition("\r\n\r\n")[2])["error"]["reason"] == "too_many_connections"
        for connection in (one, two):
            connection.sendall(b"bc")
            assert received(connection).endswith("3")
        assert requests.get(url, timeout=60).text == "0"


def test_what_is_being_answered_is_sent_before_the_end() -> None:
    release = threading.Event()

    def slow(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun "
        release.wait(10)
        yield b"ended"

    listener = wsgi_server.listen(
        slow,
        host="127.0.0.1",
        port=0,
        threads=2,
        max_body_bytes=10,
        per_address=2,
        admit=lambda method, path: None,
        headers=[],
        answered=lambda status: None,
    )
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    with raw_connection(f"http://127.0.0.1:{listener.port}") as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        time.sleep(0.3)
        release.set()
        listener.stop()
        assert received(connection).endswith("begun ended")
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", listener.port), timeout=5)


def test_waitress_is_the_version_whose_internal_names_the_server_uses() -> None:
    (pinned,) = re.findall(r"^waitress==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert importlib.metadata.version("waitress") == pinned == "3.0.2"
    assert list(inspect.signature(HTTPRequestParser.received).parameters) == ["self", "data"]
    assert list(inspect.signature(HTTPChannel.__init__).parameters) == ["self", "server", "sock", "addr", "adj", "map"]
    assert list(inspect.signature(HTTPChannel.received).parameters) == ["self", "data"]
    assert list(inspect.signature(HTTPChannel.readable).parameters) == ["self"]
    assert list(inspect.signature(ErrorTask.execute).parameters) == ["self"]
    for owner, names in (
        (TcpWSGIServer, ("channel_class", "accepting")),
        (HTTPChannel, ("parser_class", "error_task_class", "request", "total_outbufs_len", "will_close")),
        (HTTPChannel, ("close_when_flushed",)),
        (HTTPRequestParser, ("headers_finished", "completed", "empty", "error", "body_rcv", "expect_continue")),
        (HTTPRequestParser, ("chunked", "content_length", "body_bytes_received")),
    ):
        for name in names:
            assert hasattr(owner, name), f"{owner.__name__}.{name}"
    source = inspect.getsource(TcpWSGIServer.__mro__[1].__init__) + inspect.getsource(HTTPChannel.__init__)
    for name in ("active_channels", "trigger", "task_dispatcher", "requests_lock", "requests"):
        assert f"self.{name} = " in source
