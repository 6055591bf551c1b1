"""The HTTP server: waitress, with early refusals, deadlines for slow clients and a limit on connections.

waitress reads a whole request before it calls the application: first into memory, then into a file without a name. Some
requests can be refused by their header alone: a body that is too large, or a video while the queue is full. This module
refuses them. It reads and discards such a body if it is short enough, because a client that is cut off while it sends
does not read the answer.

This module also ends slow clients (`client_limits.py`). At the limit of connections, a connection that has not yet sent
a whole header is closed for the newest one. So nobody can lock others out by connecting and staying silent.

Undocumented names of waitress: waitress has no public hook before the application, and no deadline for a header. This
module overrides `HTTPRequestParser.received`, `HTTPChannel.__init__`, `.received` and `.readable` and
`ErrorTask.execute`. It sets `server.channel_class`, `server.accepting`, `channel_class.parser_class` and
`.error_task_class`. It uses `server.active_channels`, `server.trigger.pull_trigger`, `server.task_dispatcher.shutdown`,
`channel.request`, `.requests`, `.requests_lock`, `.total_outbufs_len`, `.will_close`, `.close_when_flushed` and
`parser.body_rcv.buf`. Therefore requirements.txt pins the version of waitress, and
`tests/unit/server/test_wsgi_server.py` checks the version and these names. Before a change of version, check this list.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.receiver import FixedStreamReceiver
from waitress.server import create_server
from waitress.task import ErrorTask
from waitress.utilities import Error

from vidclf.errors import ConfigError
from vidclf.json_text import json_text
from vidclf.schema import RejectReason
from vidclf.server.body_buffers import DiscardingBuffer, SpaceGuard
from vidclf.server.client_limits import MAX_CONNECTIONS, ClientPace, client_of
from vidclf.server.refusals import STATUS, Problem, Reason, problem, problem_headers

HEADER_BYTES = 16 * 1024
"""Largest header of a request, in bytes."""

CHANNEL_TIMEOUT_S = 60
"""Seconds without a byte in either direction after which a connection is closed."""

SPARE_CONNECTIONS = 64
"""Connections beyond `MAX_CONNECTIONS`, for those being closed. At its own limit waitress lets clients wait."""

STOP_S = 1.0
"""Seconds that a stopping server waits for its answers to be written, and again for them to be sent."""

DISCARDED_BODIES = 2
"""A refused body is read to its end if it is at most this many times as long as the largest allowed body."""

Admit = Callable[[str, str], Reason | None]
"""Function from method and path to the reason for refusing a request before its body is read; None to accept it."""


class _Refusal(Error):
    """Reason of this server for refusing a request, in the form of waitress's errors."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.code, self.problem_reason = STATUS[reason], reason


REASONS: dict[int, Reason] = {413: RejectReason.TOO_LARGE, 500: Problem.INTERNAL_ERROR, 501: Problem.BAD_REQUEST}
"""Reasons for the errors that waitress itself finds, by HTTP status. All others are malformed requests."""


class _Parser(HTTPRequestParser):
    """Parser of HTTP requests that refuses a request by its header, before the body has arrived."""

    admit: Admit
    error: Any
    body_rcv: Any
    expect_continue: bool
    _is_discarding = False
    _body: SpaceGuard | None = None

    def received(self, data: bytes) -> int:
        if self._is_discarding:
            num_taken: int = self.body_rcv.received(data)
            self.completed = self.body_rcv.completed
            return num_taken
        was_in_header = not self.headers_finished
        num_taken = super().received(data)
        if was_in_header and self.headers_finished and not self.empty:
            self._judge()
            if self.error is None and self.body_rcv is not None:
                self.body_rcv.buf = self._body = SpaceGuard(self.body_rcv.buf)
        if self.error is None and self._body is not None and self._body.is_full:
            self.error = _Refusal(Problem.INSUFFICIENT_STORAGE)
        return num_taken

    def _judge(self) -> None:
        """Accept or refuse the request; called once, when its header is complete.

        The body of a refused request is discarded if it is short enough, else not read.
        """
        if self.error is None and (reason := self.admit(self.command, self.path)) is not None:
            self.error = _Refusal(reason)
            is_read = self.content_length > 0
        else:
            is_read = getattr(self.error, "code", None) == 413
        if self.error is None:
            return
        if is_read and not self.expect_continue and self.content_length <= DISCARDED_BODIES * self.max_body_bytes:
            self._is_discarding = True
            self.body_rcv = FixedStreamReceiver(self.content_length, DiscardingBuffer())
            self.completed = False
        else:
            # The client has not sent its body yet, or the body is too long to read. Do not invite it to continue.
            self.expect_continue = False
            self.completed = True

    def refuse(self, reason: Reason) -> None:
        """Refuse the request although it is still incomplete, for `reason`."""
        self.error = _Refusal(reason)
        self.expect_continue = False
        self.completed = True

    @property
    def max_body_bytes(self) -> int:
        return int(self.adj.max_request_body_size)


class _Channel(HTTPChannel):
    """Connection that ends if its client is too slow, and that respects a limit of connections per client."""

    per_address: int
    request: Any
    refused: Callable[[Reason], bytes]
    """makes the whole HTTP answer to a client that is refused when it connects"""

    def __init__(self, server: Any, sock: socket.socket, addr: Any, *arguments: Any, **options: Any) -> None:
        self.pace = ClientPace(time.monotonic())
        self.client = client_of(str(addr[0]))
        self._is_kept_alive = False
        super().__init__(server, sock, addr, *arguments, **options)
        self._find_room([channel for channel in server.active_channels.values() if channel is not self])

    @property
    def awaits_header(self) -> bool:
        """Whether the server has nothing left to send here and has not received a whole request header."""
        is_quiet = not self.requests and not self.total_outbufs_len
        return is_quiet and (self.request is None or not self.request.headers_finished)

    def received(self, data: bytes) -> bool:
        now_s = time.monotonic()
        if self.request is None:
            self.pace.begin(now_s)
            self._is_kept_alive = True
        taken: bool = super().received(data)
        if self.request is not None and self.request.headers_finished:
            self.pace.received(len(data), now_s)
        return taken

    def readable(self) -> bool:
        """Whether waitress may read from the connection; also ends the connection if its client is too slow.

        waitress's loop calls this at least once per second. It has no other clock for a single connection.
        """
        now_s = time.monotonic()
        if self.requests or self.total_outbufs_len:
            self.pace.begin(now_s)  # the client waits for the server, so its time does not run
        elif not self.will_close and not self.close_when_flushed and self._is_awaited and self.pace.is_too_slow(now_s):
            self._give_up()
        return bool(super().readable())

    @property
    def _is_awaited(self) -> bool:
        """Whether the client must send a request now. Between two requests waitress's own timeout applies."""
        return self.request is not None or not self._is_kept_alive

    def _give_up(self) -> None:
        with self.requests_lock:
            request, self.request = self.request, None
            if request is None:
                self.will_close = True
                return
            request.refuse(Problem.REQUEST_TIMEOUT)
            self.requests.append(request)
            self.server.add_task(self)

    def _find_room(self, others: list[_Channel]) -> None:
        """Close a connection if there are too many of this client or in total.

        It is one that has not sent a whole header, or else this one.
        """
        others = [channel for channel in others if not channel.will_close]
        of_same_client = [channel for channel in others if channel.client == self.client]
        if len(of_same_client) >= self.per_address:
            crowd = of_same_client
        elif len(others) >= MAX_CONNECTIONS:
            crowd = others
        else:
            return
        silent = [channel for channel in crowd if channel.awaits_header]
        if silent:
            held = Counter(channel.client for channel in silent)
            min(silent, key=lambda channel: (-held[channel.client], channel.pace.began_s)).will_close = True
            return
        with suppress(OSError):
            self.socket.send(type(self).refused(Problem.TOO_MANY_CONNECTIONS))
        self.will_close = True


class _ErrorTask(ErrorTask):
    """Sender of the refusals that waitress itself decides, in the JSON format of the application's refusals."""

    headers: list[tuple[str, str]]
    answered: Callable[[int], None]

    def execute(self) -> None:
        error = self.request.error
        reason = getattr(error, "problem_reason", None) or REASONS.get(error.code, Problem.BAD_REQUEST)
        body = json_text({"error": problem(reason)}).encode()
        self.status = _status(reason)
        self.response_headers.extend([("Content-Type", "application/json"), *problem_headers(reason), *self.headers])
        self.set_close_on_finish()
        self.content_length = len(body)
        type(self).answered(STATUS[reason])
        self.write(body)


@dataclass(frozen=True, kw_only=True)
class Listener:
    """HTTP server that listens on its address and is ready to run."""

    host: str
    port: int
    _server: Any
    _connections: dict[int, Any]
    """everything that waitress's loop waits for, by file descriptor"""

    def run(self) -> None:
        """Answer requests until another thread calls `stop`."""
        self._server.run()

    def stop(self) -> None:
        """End `run()` of another thread: accept no more connections, send the pending answers, close everything."""
        wake = self._server.trigger.pull_trigger
        self._server.accepting = False  # its loop reads this in every iteration
        self._server.task_dispatcher.shutdown(timeout=STOP_S)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and any(
            getattr(channel, "total_outbufs_len", 0) for channel in list(self._connections.values())
        ):
            time.sleep(0.02)
        wake(lambda: [connection.close() for connection in list(self._connections.values())])


def listen(
    application: Any,
    *,
    host: str,
    port: int,
    threads: int,
    max_body_bytes: int,
    per_address: int,
    admit: Admit,
    headers: list[tuple[str, str]],
    answered: Callable[[int], None],
) -> Listener:
    """Bind the address `host` and `port`, and return an HTTP server that passes requests to `application`.

    The server's own refusals have `headers`, and `answered` is called with their status. Raises ConfigError if the
    address is not available.
    """
    # waitress warns about every request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    connections: dict[int, Any] = {}
    server = create_server(
        application,
        connections,
        # One socket even if the name has several addresses: waitress would start one server per socket.
        sockets=[_bound(host, port)],
        threads=threads,
        # waitress also refuses a body of exactly this size.
        max_request_body_size=max_body_bytes + 1,
        max_request_header_size=HEADER_BYTES,
        channel_timeout=CHANNEL_TIMEOUT_S,
        cleanup_interval=CHANNEL_TIMEOUT_S // 4,
        connection_limit=MAX_CONNECTIONS + SPARE_CONNECTIONS,
        # select() fails for descriptors above 1,023, and Ray may hold many.
        asyncore_use_poll=True,
        clear_untrusted_proxy_headers=True,
        ident=None,
    )
    server.channel_class = _channel_class(per_address, admit, headers, answered)
    return Listener(
        host=server.effective_host, port=int(server.effective_port), _server=server, _connections=connections
    )


def _channel_class(
    per_address: int, admit: Admit, headers: list[tuple[str, str]], answered: Callable[[int], None]
) -> type[_Channel]:
    """Make the class of connections for one server.

    waitress makes the objects itself, so settings are class attributes.
    """

    def refused(reason: Reason) -> bytes:
        body = json_text({"error": problem(reason)})
        lines = [f"HTTP/1.1 {_status(reason)}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (*problem_headers(reason), *headers)]
        answered(STATUS[reason])
        return "\r\n".join([*lines, "Connection: close", "", body]).encode()

    return type(
        "_Channel",
        (_Channel,),
        {
            "parser_class": type("_Parser", (_Parser,), {"admit": staticmethod(admit)}),
            "error_task_class": type(
                "_ErrorTask", (_ErrorTask,), {"headers": headers, "answered": staticmethod(answered)}
            ),
            "per_address": per_address,
            "refused": staticmethod(refused),
        },
    )


def _status(reason: Reason) -> str:
    return f"{STATUS[reason]} {HTTPStatus(STATUS[reason]).phrase}"


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"--host and --port must be a free address of this machine, got {host}:{port} ({error.strerror})"
        ) from error
