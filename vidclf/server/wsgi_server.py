"""The HTTP server under the application: waitress, with its own refusals in our words.

waitress reads a request whole before the application sees it, memory first and then a file without a name.
So what is refused by its header alone is refused here: too large a body, or a video while the queue is
full. Such a body is read and thrown away where it is short enough, because a client that is cut off in the
middle of sending does not read the answer.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
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
from vidclf.server.refusals import STATUS, Problem, Reason, problem, problem_headers

HEADER_BYTES = 16 * 1024

CHANNEL_TIMEOUT_S = 60
"""Seconds without a byte either way after which a connection is closed."""

MAX_CONNECTIONS = 100
"""At a time; further clients wait to be let in."""

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


class _Parser(HTTPRequestParser):
    """Refuses by the header."""

    admit: Admit
    error: Any
    body_rcv: Any
    expect_continue: bool
    _is_discarding = False

    def received(self, data: bytes) -> int:
        if self._is_discarding:
            num_taken: int = self.body_rcv.received(data)
            self.completed = self.body_rcv.completed
            return num_taken
        was_in_header = not self.headers_finished
        num_taken = super().received(data)
        if was_in_header and self.headers_finished and not self.empty:
            self._judge()
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

    @property
    def max_body_bytes(self) -> int:
        return int(self.adj.max_request_body_size)


class _ErrorTask(ErrorTask):
    """waitress's own answers, as the application would give them."""

    headers: list[tuple[str, str]]
    answered: Callable[[int], None]

    def execute(self) -> None:
        error = self.request.error
        reason = getattr(error, "problem_reason", None) or REASONS.get(error.code, Problem.BAD_REQUEST)
        body = json.dumps({"error": problem(reason)}).encode()
        self.status = f"{STATUS[reason]} {HTTPStatus(STATUS[reason]).phrase}"
        self.response_headers.extend([("Content-Type", "application/json"), *problem_headers(reason), *self.headers])
        self.set_close_on_finish()
        self.content_length = len(body)
        type(self).answered(STATUS[reason])
        self.write(body)


def listen(
    application: Any,
    *,
    host: str,
    port: int,
    threads: int,
    max_body_bytes: int,
    admit: Admit,
    headers: list[tuple[str, str]],
    answered: Callable[[int], None],
) -> Any:
    """A waitress server, bound to its address; `run()` serves. `headers` go with its own answers, of which
    `answered` is told the status. ConfigError where the address cannot be had."""
    # It warns of every request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(
        application,
        # One socket, whatever a name stands for: several would make a server of servers.
        sockets=[_bound(host, port)],
        threads=threads,
        # waitress refuses a body of exactly this size too.
        max_request_body_size=max_body_bytes + 1,
        max_request_header_size=HEADER_BYTES,
        channel_timeout=CHANNEL_TIMEOUT_S,
        cleanup_interval=CHANNEL_TIMEOUT_S // 4,
        connection_limit=MAX_CONNECTIONS,
        clear_untrusted_proxy_headers=True,
        ident=None,
    )
    parser = type("_Parser", (_Parser,), {"admit": staticmethod(admit)})
    error_task = type("_ErrorTask", (_ErrorTask,), {"headers": headers, "answered": staticmethod(answered)})
    server.channel_class = type("_Channel", (HTTPChannel,), {"parser_class": parser, "error_task_class": error_task})
    return server


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"--host and --port must be an address of this machine that is free, got {host}:{port} ({error.strerror})"
        ) from error


def stop(server: Any) -> None:
    """End `run()`, which another thread is in, and what its threads are at."""
    server.task_dispatcher.shutdown(timeout=5)
    server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map))
