"""Checkpoints are written on another thread, as often as they are cheap."""

from __future__ import annotations

import threading

import pytest

from vidclf.training.member_state import Snapshot
from vidclf.training.state_writer import StateWriter


class Clock:
    """A clock that the test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_state_waits_until_the_last_one_has_cost_a_twentieth_of_the_time() -> None:
    clock, written = Clock(), list[Snapshot]()

    def publish(snapshot: Snapshot) -> None:
        written.append(snapshot)
        clock.now_s += 2.0

    with StateWriter(publish, clock) as states:
        assert states.offer(lambda: {"number": 1})
        states.wait()
        clock.now_s = 139.9
        assert not states.offer(lambda: {"number": 2})
        clock.now_s = 140.0
        assert states.offer(lambda: {"number": 3})
        states.wait()
        # `write` does not wait until a state is due.
        states.write(lambda: {"number": 4})
        assert written == [{"number": 1}, {"number": 3}, {"number": 4}]


def test_training_goes_on_while_a_state_is_written() -> None:
    clock, may_end, written = Clock(), threading.Event(), list[Snapshot]()

    def publish(snapshot: Snapshot) -> None:
        assert may_end.wait(timeout=60)
        written.append(snapshot)

    with StateWriter(publish, clock) as states:
        states.offer(lambda: {"number": 1})
        clock.now_s = 1e6
        assert not states.offer(lambda: {"number": 2})
        assert written == []
        may_end.set()
    assert written == [{"number": 1}]


def test_what_fails_on_the_other_thread_ends_the_training() -> None:
    def publish(snapshot: Snapshot) -> None:
        raise OSError("the disk is full")

    def train(error: BaseException | None) -> None:
        with StateWriter(publish) as states:
            states.offer(dict)
            if error is not None:
                raise error

    with pytest.raises(OSError, match="the disk is full"):
        train(None)
    # The error of the writer does not hide another error.
    with pytest.raises(KeyError):
        train(KeyError())
    states = StateWriter(publish)
    states.offer(dict)
    with pytest.raises(OSError, match="the disk is full"):
        states.write(dict)
