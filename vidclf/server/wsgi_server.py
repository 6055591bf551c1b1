"""The HTTP server under the application: waitress, with its own refusals in our words.

waitress reads a request whole before the application sees it, memory first and then a file without a name.
So what is refused by its header alone is refused here: too large a body, or a video while the queue is
full. Such a body is read and thrown away where it is short enough, because a client that is cut off in the
middle of sending does not read the answer.

Slow clients are ended here too (`pace.py`). Where connections run short, one that has not sent a whole header yet
makes way for the newest, so that nobody can keep the others out by connecting and staying silent.

The seam: waitress has no public hook before the application, nor any deadline for a header. This module overrides
`HTTPRequestParser.received`, `HTTPChannel.__init__`, `.received` and `.readable` and `ErrorTask.execute`. It sets
`server.channel_class`, `server.accepting`, `channel_class.parser_class` and `.error_task_class`. It uses
`server.active_channels`, `server.trigger.pull_trigger`, `server.task_dispatcher.shutdown`, `channel.request`,
`.requests`, `.requests_lock`, `.total_outbufs_len`, `.will_close`, `.close_when_flushed` and `parser.body_rcv.buf`.
None of these is documented, so requirements.txt pins the version of waitress, and `tests/test_gateway.py` holds both
the version and these names: with another version, go through this list first.
"""

from __future__ import annotations

import json
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
from vidclf.schema import RejectReason
from vidclf.server.client_limits import MAX_CONNECTIONS, ClientPace, client_of
from vidclf.server.refusals import STATUS, Problem, Reason, problem, problem_headers
from vidclf.server.uploads import NO_SPACE

HEADER_BYTES = 16 * 1024

CHANNEL_TIMEOUT_S = 60
"""Seconds without a byte either way after which a connection is closed."""

SPARE_CONNECTIONS = 64
"""Beyond `MAX_CONNECTIONS`, for those that are being closed: waitress itself would let further clients wait."""

STOP_S = 1.5
"""Seconds that a server which stops gives its answers to be written, and again to be sent."""

DISCARDED_BODIES = 2
"""Times the largest body up to which one that is refused is read to its end."""

Admit = Callable[[str, str], Reason | None]
"""Why a request of this method and path is refused, before its body is read."""


class _Refusal(Error):
    """A reason of ours where waitress expects an error of its own."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.code, self.problem_reason = STATUS[reason], reason


REASONS: dict[int, Reason] = {413: RejectReason.TOO_LARGE, 500: Problem.INTERNAL_ERROR, 501: Problem.BAD_REQUEST}
"""Of waitress's errors; all others are malformed requests."""


class _Discarded:
    """Takes a body's bytes and keeps none."""

    def __init__(self) -> None:
        self._num_bytes = 0

    def append(self, content: bytes) -> None:
        self._num_bytes += len(content)

    def __len__(self) -> int:
        return self._num_bytes

    def close(self) -> None:
        """As a buffer's."""


class _SpaceGuard:
    """A body's buffer that keeps nothing any more once the disk is full, so that the client gets to its end and to
    the answer."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self.is_full = False

    def append(self, content: bytes) -> None:
        try:
            self._buffer.append(content)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            with suppress(OSError):  # closing writes again what could not be written
                self._buffer.close()
            self._buffer, self.is_full = _Discarded(), True

    def __len__(self) -> int:
        return len(self._buffer)

    def getfile(self) -> Any:
        return self._buffer.getfile()

    def close(self) -> None:
        self._buffer.close()


class _Parser(HTTPRequestParser):
    """Refuses by the header."""

    admit: Admit
    error: Any
    body_rcv: Any
    expect_continue: bool
    _is_discarding = False
    _body: _SpaceGuard | None = None

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
                self.body_rcv.buf = self._body = _SpaceGuard(self.body_rcv.buf)
        if self.error is None and self._body is not None and self._body.is_full:
            self.error = _Refusal(Problem.INSUFFICIENT_STORAGE)
        return num_taken

    def _judge(self) -> None:
        """Called once, when the header is complete."""
        if self.error is None and (reason := self.admit(self.command, self.path)) is not None:
            self.error = _Refusal(reason)
            is_read = self.content_length > 0
        else:
            is_read = getattr(self.error, "code", None) == 413
        if self.error is None:
            return
        if is_read and not self.expect_continue and self.content_length <= DISCARDED_BODIES * self.max_body_bytes:
            self._is_discarding = True
            self.body_rcv = FixedStreamReceiver(self.content_length, _Discarded())
            self.completed = False
        else:
            # It has not sent a body yet, or never would be done; and it is not to be told to go on.
            self.expect_continue = False
            self.completed = True

    def refuse(self, reason: Reason) -> None:
        """Answer with `reason` what has not come to its end."""
        self.error = _Refusal(reason)
        self.expect_continue = False
        self.completed = True

    @property
    def max_body_bytes(self) -> int:
        return int(self.adj.max_request_body_size)


class _Channel(HTTPChannel):
    """A connection whose client has to keep pace, one of at most so many of its address."""

    per_address: int
    request: Any
    refused: Callable[[Reason], bytes]
    """the whole answer to a client that is turned away at the door"""

    def __init__(self, server: Any, sock: socket.socket, addr: Any, *arguments: Any, **options: Any) -> None:
        self.pace = ClientPace(time.monotonic())
        self.client = client_of(str(addr[0]))
        self._is_kept_alive = False
        super().__init__(server, sock, addr, *arguments, **options)
        self._find_room([channel for channel in server.active_channels.values() if channel is not self])

    @property
    def awaits_header(self) -> bool:
        """Whether the server owes nothing on this connection and has not got a whole header."""
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
        """Asked by the loop at least once a second; waitress has no other clock for a single connection."""
        now_s = time.monotonic()
        if self.requests or self.total_outbufs_len:
            self.pace.begin(now_s)  # the client waits for the server, not the other way round
        elif not self.will_close and not self.close_when_flushed and self._is_awaited and self.pace.is_too_slow(now_s):
            self._give_up()
        return bool(super().readable())

    @property
    def _is_awaited(self) -> bool:
        """Whether a request is on its way; between two requests waitress's own timeout holds."""
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
        """Have a connection without a whole header make way where there are too many, or else this one."""
        others = [channel for channel in others if not channel.will_close]
        own = [channel for channel in others if channel.client == self.client]
        if len(own) >= self.per_address:
            crowd = own
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
    """waitress's own answers, as the application would give them."""

    headers: list[tuple[str, str]]
    answered: Callable[[int], None]

    def execute(self) -> None:
        error = self.request.error
        reason = getattr(error, "problem_reason", None) or REASONS.get(error.code, Problem.BAD_REQUEST)
        body = json.dumps({"error": problem(reason)}).encode()
        self.status = _status(reason)
        self.response_headers.extend([("Content-Type", "application/json"), *problem_headers(reason), *self.headers])
        self.set_close_on_finish()
        self.content_length = len(body)
        type(self).answered(STATUS[reason])
        self.write(body)


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A server that is bound to its address."""

    host: str
    port: int
    _server: Any
    _connections: dict[int, Any]
    """of waitress: whatever its loop waits for, by file descriptor"""

    def run(self) -> None:
        """Serve until another thread calls `stop`."""
        self._server.run()

    def stop(self) -> None:
        """End `run()`, which another thread is in: no new connection, what is answered is sent, then the end."""
        wake = self._server.trigger.pull_trigger
        self._server.accepting = False  # which its loop reads at every turn
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
    """A server of `application`. `headers` go with its own answers, and `answered` gets their status. ConfigError
    where the address cannot be had."""
    # It warns of every request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    connections: dict[int, Any] = {}
    server = create_server(
        application,
        connections,
        # One socket, whatever a name stands for: several would make a server of servers.
        sockets=[_bound(host, port)],
        threads=threads,
        # waitress refuses a body of exactly this size too.
        max_request_body_size=max_body_bytes + 1,
        max_request_header_size=HEADER_BYTES,
        channel_timeout=CHANNEL_TIMEOUT_S,
        cleanup_interval=CHANNEL_TIMEOUT_S // 4,
        connection_limit=MAX_CONNECTIONS + SPARE_CONNECTIONS,
        # select() fails for descriptors above 1,023, of which Ray may hold many.
        asyncore_use_poll=True,
        clear_untrusted_proxy_headers=True,
        ident=None,
    )

    def refused(reason: Reason) -> bytes:
        body = json.dumps({"error": problem(reason)})
        lines = [f"HTTP/1.1 {_status(reason)}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (*problem_headers(reason), *headers)]
        answered(STATUS[reason])
        return "\r\n".join([*lines, "Connection: close", "", body]).encode()

    parser = type("_Parser", (_Parser,), {"admit": staticmethod(admit)})
    error_task = type("_ErrorTask", (_ErrorTask,), {"headers": headers, "answered": staticmethod(answered)})
    server.channel_class = type(
        "_Channel",
        (_Channel,),
        {
            "parser_class": parser,
            "error_task_class": error_task,
            "per_address": per_address,
            "refused": staticmethod(refused),
        },
    )
    return Listener(
        host=server.effective_host, port=int(server.effective_port), _server=server, _connections=connections
    )


def _status(reason: Reason) -> str:
    return f"{STATUS[reason]} {HTTPStatus(STATUS[reason]).phrase}"


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"--host and --port must be an address of this machine that is free, got {host}:{port} ({error.strerror})"
        ) from error
