"""Leases: locks that let only one job at a time write into an output.

A job holds the lease of its output while it writes there. The lease names the job and carries a heartbeat: the time at
which the job last reported that it is alive. A second job is refused while the heartbeat is fresh. If the first job's
process is gone or its heartbeat has stopped, the second job takes the lease over by itself. A job that has lost its
lease stops before it writes more.

The module is longer than 350 lines because taking, keeping, losing and giving back a lease are one protocol.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import FrameType

from vidclf import storage
from vidclf.errors import ConfigError, RunStopped
from vidclf.runs import lease_storage, process_identity
from vidclf.runs.lease_storage import Claim, Place

HEARTBEAT_S = 10.0
"""Seconds between two heartbeats (reports of a job that it is alive)."""

STALE_S = 60.0
"""Age of the last heartbeat, in seconds, from which a job counts as dead.

A running job that cannot renew its heartbeat stops itself before that age.
"""


STOPPING_S = 2.0
"""Seconds within which a job stops after a heartbeat has shown that its lease is lost."""


class LeaseLost(RunStopped):
    """Error that ends a job because another job has taken over its output directory or file."""


class LeaseTaken(OSError):
    """Error that a worker raises instead of writing when its job no longer holds the lease (write lock) of the output.

    It is an OSError, so that a hyperparameter search counts it as an error of the storage and not of the settings
    tried.
    """


@dataclass(frozen=True, kw_only=True)
class Output:
    """A directory or file that a job writes, with the command-line flag under which messages name it."""

    location: str
    flag: str = "--output"
    is_file: bool = False


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The data with which a worker checks that its job still holds the lease (write lock) of an output. Can be pickled,
    so that it can be sent to workers."""

    location: str
    """canonical location of the output"""
    claim: Claim | None
    """None if the job holds no lease, as in a program that calls the library"""
    is_file: bool = False

    def check(self) -> None:
        """Raise LeaseTaken if another job holds the lease now."""
        if self.claim is None:
            return
        if not lease_storage.place(self.location, is_file=self.is_file).is_held(self.claim):
            raise LeaseTaken(f"{self.location}: another job has taken this output over")


_held: dict[str, Guard] = {}
"""The guards of the claims that this process holds, by `_key` of the output."""


def guard(output: str) -> Guard:
    """The check that the workers of this job must make before they write into `output`.

    Without a lease of its own, a directory has that of the nearest directory above it.
    """
    directory: str | None = _key(output)
    while directory is not None:
        if directory in _held:
            return _held[directory]
        directory = storage.parent(directory)
    return Guard(location=storage.canonical(output), claim=None)


def _key(location: str) -> str:
    """The canonical location without slashes at its end, so that it equals the parent of what is inside."""
    location = storage.canonical(location)
    return storage.sibling(location, storage.resolve(location)[1].rstrip("/"))


@contextmanager
def held(outputs: Sequence[Output], job: str, *, take_over: bool = False) -> Iterator[None]:
    """Hold the leases (write locks) of `outputs` while the `with` body runs, and release them however the body ends.

    Raises ConfigError if another job holds one of them, unless `take_over` is set. Raises LeaseLost if another job
    takes one over while the body runs. SIGTERM ends the body with RunStopped.
    """
    with ExitStack() as stack:
        stack.enter_context(_stopped_by_sigterm())
        hearts = [stack.enter_context(_one_held(output, job, take_over)) for output in outputs]
        try:
            _wait_for_stops([heart.stopping for heart in hearts if heart.stopping is not None])
            yield
        except BaseException as error:
            losses = [text for heart in hearts if (text := heart.loss()) is not None]
            if losses:
                raise LeaseLost(losses[0]) from error
            raise


@contextmanager
def _one_held(output: Output, job: str, take_over: bool) -> Iterator[_Heart]:
    """Hold the lease (write lock) of one output while the `with` body runs, and yield the thread that renews the lease.

    Directories that were created only for the lease are removed at the end if they are empty.
    """
    location = storage.canonical(output.location)
    with _writable(output):
        if not output.is_file and storage.exists(location) and not storage.is_dir(location):
            raise ConfigError(f"{output.flag} {output.location}: must be a directory, is a file; choose another name")
        created = lease_storage.make_directory(os.path.dirname(location) if output.is_file else location)
    place = lease_storage.place(location, is_file=output.is_file)
    claim, key = _claim(job), _key(location)
    try:
        stopping = _acquire(output, place, claim, take_over)
        try:
            _held[key] = Guard(location=location, claim=claim, is_file=output.is_file)
            if not output.is_file:
                _check_no_overlap(output, location)
            with _Heart(output, place, claim, stopping) as heart:
                yield heart
        finally:
            del _held[key]
            _release(output, place, claim)
    finally:
        lease_storage.remove_empty(created)


@contextmanager
def _writable(output: Output) -> Iterator[None]:
    """Turn filesystem errors in the `with` body into a ConfigError that says that `output` cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{output.flag} {output.location}: must be a place that this job may write to ({_first_line(error)})"
        ) from error


def _acquire(output: Output, place: Place, claim: Claim, take_over: bool) -> Claim | None:
    """Acquire a lease. Returns the claim that was taken over from a job that may still run, or None.

    Raises ConfigError if another job holds the lease.
    """
    stopping: list[Claim] = []

    def may_take(other: Claim) -> bool:
        if not take_over or not other.is_held:
            return is_dead(other, place)
        if not process_identity.is_gone(other.machine, other.pid, other.started):
            stopping.append(other)
        return True

    with _writable(output):
        blocking_claim = place.acquire(claim, may_take)
    if blocking_claim is not None:
        raise ConfigError(refusal(output.flag, output.location, blocking_claim))
    return stopping[-1] if stopping else None


def _wait_for_stops(stopping: Sequence[Claim]) -> None:
    """Wait until jobs whose leases were taken over have noticed it at their next heartbeat and have stopped."""
    if stopping:
        wait_s = HEARTBEAT_S + STOPPING_S
        jobs = ", ".join(dict.fromkeys(f"{claim.job} of {claim.user} on {claim.host}" for claim in stopping))
        print(f"taken over from {jobs}: waiting {wait_s:.0f} s until it has stopped", file=sys.stderr)
        time.sleep(wait_s)  # SIGTERM and Ctrl-C end it


def _release(output: Output, place: Place, claim: Claim) -> None:
    """Release the lease (write lock) of an output. A filesystem error is printed, not raised, so that the error that
    ended the job stays visible."""
    try:
        place.release(claim)
    except OSError as error:
        print(
            f"{output.location}: the lease could not be given back ({_first_line(error)}); it goes stale in "
            f"{STALE_S:.0f} s",
            file=sys.stderr,
        )


def refusal(flag: str, location: str, claim: Claim) -> str:
    """The error message for a job whose output is in use by another job: the one that made `claim`, its lease entry."""
    age_s = max(_age_s(claim), 0)
    return (
        f"{flag} {location}: {claim.job} of {claim.user} on {claim.host} (process {claim.pid}, since {claim.since}) "
        f"writes there, its last heartbeat is {age_s:.0f} s old; wait for its end, choose another directory, or "
        "--take-over, which stops it"
    )


def _check_no_overlap(output: Output, location: str) -> None:
    """Raise ConfigError if another living job writes into the parent directory of `location` or into a directory inside
    it."""
    parent = storage.parent(location)
    owners_here = {each.claim.owner for each in _held.values() if each.claim is not None}
    for directory in ([parent] if parent is not None else []) + storage.list_dirs(location):
        place = lease_storage.place(directory)
        for claim in place.claims():
            if claim.is_held and claim.owner not in owners_here and not is_dead(claim, place):
                raise ConfigError(refusal(output.flag, directory, claim))


def is_dead(claim: Claim, place: Place) -> bool:
    """Whether the job that made `claim` (its entry in a lease, the write lock of an output) has ended.

    If the job ran on this machine, its process number gives the answer at once. Otherwise the age of its heartbeat
    decides. Clocks of machines differ, so an old heartbeat is watched for the time of two beats before the job counts
    as dead.
    """
    if process_identity.is_gone(claim.machine, claim.pid, claim.started):
        return True
    if abs(_age_s(claim)) <= STALE_S:
        return False
    print(
        f"{claim.job} on {claim.host} gave its last heartbeat at {claim.heartbeat}: waiting for one more",
        file=sys.stderr,
    )
    deadline = time.monotonic() + 2 * HEARTBEAT_S
    while time.monotonic() < deadline:
        time.sleep(HEARTBEAT_S / 10)
        current_beats = [(current.owner, current.heartbeat) for current in place.claims()]
        if (claim.owner, claim.heartbeat) not in current_beats:
            return False
    return True


def _age_s(claim: Claim) -> float:
    """Seconds since the job of `claim` last reported that it is alive; negative if the clock of that job's machine is
    ahead."""
    return (datetime.fromisoformat(lease_storage.now()) - datetime.fromisoformat(claim.heartbeat)).total_seconds()


class _Heart:
    """Background thread that renews a lease (write lock) every `HEARTBEAT_S` seconds and, if the lease is lost, sends
    SIGTERM to the main thread."""

    def __init__(self, output: Output, place: Place, claim: Claim, stopping: Claim | None) -> None:
        self.stopping = stopping
        self._output, self._place, self._claim = output, place, claim
        self._ended = threading.Event()
        self._loss: str | None = None
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> _Heart:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def loss(self) -> str | None:
        """Return in one line why the lease (write lock) was lost; None if this job still holds it."""
        try:
            if self._loss is None and not self._place.is_held(self._claim):
                self._loss = self._loss_text()
        except OSError:
            pass  # the lease cannot be read: the error that ended the job is reported instead
        return self._loss

    def _beat(self) -> None:
        """Body of the thread: renew the lease (write lock) until the job ends or the lease is lost."""
        last_renewal = time.monotonic()
        while not self._ended.wait(HEARTBEAT_S):
            loss = None
            try:
                if self._place.renew(self._claim):
                    last_renewal = time.monotonic()
                else:
                    loss = self._loss_text()
            except OSError as error:
                # After STALE_S without a heartbeat others may take the lease over, so this job must stop before.
                if time.monotonic() - last_renewal > STALE_S - 2 * HEARTBEAT_S:
                    loss = f"{self._output.location}: the lease could not be renewed ({_first_line(error)})"
            if loss is not None:
                self._loss = loss
                ident = threading.main_thread().ident
                assert ident is not None
                signal.pthread_kill(ident, signal.SIGTERM)
                return

    def _loss_text(self) -> str:
        """The error message for this job after another job has taken its lease (write lock); names that job if its
        lease entry can be read."""
        try:
            others = [claim for claim in self._place.claims() if claim.is_held and claim.owner != self._claim.owner]
        except OSError:
            others = []
        taker = f"{others[0].job} of {others[0].user} on {others[0].host}" if others else "another job"
        return f"stopped: {taker} has taken {self._output.location} over"


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """End the `with` body with RunStopped on SIGTERM, also before Ray runs.

    Does nothing outside the main thread, because Python delivers signals to the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise RunStopped(f"stopped by {signal.Signals(number).name}")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _claim(job: str) -> Claim:
    """A new `Claim` (lease entry) that identifies this process, with `job` as the name of the job."""
    now, pid = lease_storage.now(), os.getpid()
    return Claim(
        owner=uuid.uuid4().hex,
        job=job,
        user=process_identity.user(),
        host=socket.gethostname(),
        pid=pid,
        machine=process_identity.machine(),
        started=process_identity.started(pid) or "",
        since=now,
        heartbeat=now,
    )


def _first_line(error: Exception) -> str:
    """First line of an error's text."""
    return str(error).partition("\n")[0]
