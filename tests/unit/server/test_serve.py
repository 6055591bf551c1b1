"""The end of a server: every wait is bounded, and together they leave Ray enough of the five seconds.

The model and the clients are fakes that never answer, and time is counted instead of passing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tests.support.http import upload
from vidclf.config import ServeConfig
from vidclf.server import model_actor, serve, wsgi_server
from vidclf.server.wsgi_server import Listener


class Clock:
    """A clock that only moves when someone sleeps or waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class BusyThread:
    """A thread that never ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def join(self, timeout: float) -> None:
        self._clock.sleep(timeout)


class SilentClient:
    """A connection whose client never reads its answer."""

    total_outbufs_len = 1

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_a_stopping_server_waits_three_seconds_in_all_whoever_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, client = Clock(), SilentClient()
    monkeypatch.setattr(wsgi_server, "time", clock)

    def shutdown(timeout: float) -> None:  # a request that is still being answered
        clock.sleep(timeout)

    waitress = SimpleNamespace(
        trigger=SimpleNamespace(pull_trigger=lambda action: action()),
        task_dispatcher=SimpleNamespace(shutdown=shutdown),
        accepting=True,
    )
    Listener(host="h", port=1, _server=waitress, _connections={1: client}).stop()
    assert clock.now_s == pytest.approx(2.0, abs=0.05)
    assert client.is_closed
    assert not waitress.accepting
    threads: Any = [BusyThread(clock)] * serve.NUM_THREADS
    serve._join(threads)
    assert clock.now_s == pytest.approx(3.0, abs=0.05)
    assert serve.MAX_STOP_S == 3.0


def test_a_server_ends_although_its_model_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    never, is_decoding, killed = threading.Event(), threading.Event(), []

    class StuckModel:
        """A model that never decodes a video, and whose end does not end the call."""

        def wait_until_ready(self) -> list[str]:
            return []

        def decode(self, *arguments: Any) -> Any:
            is_decoding.set()
            never.wait()

    @contextmanager
    def started(*arguments: Any) -> Iterator[StuckModel]:
        yield StuckModel()
        killed.append(True)

    monkeypatch.setattr(model_actor, "started", started)
    served: Any = SimpleNamespace(classes=["A", "B"], target=SimpleNamespace(ensemble_id="0123456789abcdef"))
    events: list[str] = []
    with serve.running(ServeConfig(ensemble="e", port=0), served) as server:
        assert len(server.threads) == serve.NUM_THREADS
        accepted = upload(server.url, b"content").json()
        assert is_decoding.wait(30)
        response = requests.get(server.url + accepted["events"], stream=True, timeout=30)
        lines = response.iter_lines(decode_unicode=True)
        assert next(lines) == "event: progress"
        listener = threading.Thread(target=lambda: events.extend(line for line in lines if line))
        listener.start()
    listener.join(30)
    assert killed == [True]
    assert events[-2] == "event: failed"
    assert '"reason": "stopping"' in events[-1]
    # The thread that waits for the model is left behind. It is a daemon, so that the process ends without it.
    http, work = server.threads
    assert (http.is_alive(), work.is_alive(), work.daemon) == (False, True, True)
    assert not Path(server.service.folder.new_path()).parent.exists()
    never.set()
    work.join(30)
