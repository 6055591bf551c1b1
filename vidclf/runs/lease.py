"""One job per output directory: its lease, which a job holds while it writes there.

The lease names the job that holds it and carries a heartbeat. A second job is refused while the heartbeat is fresh.
It takes over by itself where the first job's process is gone, or where the heartbeat stands still. A job that has
lost its lease stops before it writes more.
"""

from __future__ import annotations

import getpass
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
from pathlib import Path
from types import FrameType

from vidclf import storage
from vidclf.errors import ConfigError, RunStopped
from vidclf.runs import lease_storage
from vidclf.runs.lease_storage import Claim, Place

HEARTBEAT_S = 10.0

STALE_S = 60.0
"""Without a heartbeat for this long a job counts as dead, and stops by itself."""


class LeaseLost(RunStopped):
    """Another job has taken the output over."""


class LeaseTaken(OSError):
    """What a worker raises instead of writing where its job has lost its lease. To a search it is an error of the
    storage, not of the trial."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A location that a job is to write."""

    location: str
    flag: str = "--output"
    is_file: bool = False


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Lets workers look whether their job still holds the lease of an output. It can be sent to them."""

    location: str
    claim: Claim | None
    """None where the job holds no lease, as in a program that calls the library"""

    def check(self) -> None:
        """LeaseTaken where the lease is another job's by now."""
        if self.claim is not None and not lease_storage.place(self.location).is_held(self.claim):
            raise LeaseTaken(f"{self.location}: another job has taken this output over")


_held: dict[str, Claim] = {}
"""The claims of this process by directory."""


def guard(output: str) -> Guard:
    """What the workers of this job look at before they write into `output`."""
    location = storage.canonical(output)
    return Guard(location=location, claim=_held.get(location))


@contextmanager
def held(outputs: Sequence[Output], job: str, *, take_over: bool = False) -> Iterator[None]:
    """Hold the leases of `outputs` while the body runs, and give them back, whatever ends it.

    Raises ConfigError where another job holds one of them, unless `take_over`; LeaseLost where one is taken over
    while the body runs. SIGTERM ends the body with RunStopped.
    """
    with ExitStack() as stack:
        stack.enter_context(_stopped_by_sigterm())
        hearts = [stack.enter_context(_one_held(output, job, take_over)) for output in outputs]
        try:
            yield
        except BaseException as error:
            lost = [text for heart in hearts if (text := heart.loss()) is not None]
            if lost:
                raise LeaseLost(lost[0]) from error
            raise


@contextmanager
def _one_held(output: Output, job: str, take_over: bool) -> Iterator[_Heart]:
    location = storage.canonical(output.location)
    with _writable(output):
        if not output.is_file and storage.exists(location) and not storage.is_dir(location):
            raise ConfigError(f"{output.flag} {output.location}: must be a directory, is a file; choose another name")
        made = _make_directory(os.path.dirname(location) if output.is_file else location)
    place = lease_storage.place(location, is_file=output.is_file)
    mine = _claim(job)
    try:
        _acquire(output, place, mine, take_over)
        try:
            _held[location] = mine
            if not output.is_file:
                _refuse_overlapping(output, location)
            with _Heart(output, place, mine) as heart:
                yield heart
        finally:
            del _held[location]
            _release(output, place, mine)
    finally:
        _remove_empty(made)


@contextmanager
def _writable(output: Output) -> Iterator[None]:
    """ConfigError where the filesystem refuses what the body does for the lease of `output`."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{output.flag} {output.location}: must be a place that this job may write to ({_first_line(error)})"
        ) from error


def _acquire(output: Output, place: Place, mine: Claim, take_over: bool) -> None:
    def may_take(claim: Claim) -> bool:
        return (take_over and claim.is_held) or is_dead(claim, place)

    with _writable(output):
        found = place.acquire(mine, may_take)
    if found is not None:
        raise ConfigError(refusal(output.flag, output.location, found))


def _release(output: Output, place: Place, mine: Claim) -> None:
    try:
        place.release(mine)
    except OSError as error:
        print(
            f"{output.location}: the lease could not be given back ({_first_line(error)}); it goes stale in "
            f"{STALE_S:.0f} s",
            file=sys.stderr,
        )


def refusal(flag: str, location: str, claim: Claim) -> str:
    age_s = max(_age_s(claim), 0)
    return (
        f"{flag} {location}: {claim.job} of {claim.user} on {claim.host} (process {claim.pid}, since {claim.since}) "
        f"writes there, its last heartbeat is {age_s:.0f} s old; wait for its end, choose another directory, or "
        "--take-over, which stops it"
    )


def _refuse_overlapping(output: Output, location: str) -> None:
    """ConfigError where another job writes into the directory above, or into one in this one."""
    above = storage.parent(location)
    for other in ([above] if above is not None else []) + storage.list_dirs(location):
        place = lease_storage.place(other)
        for claim in place.claims():
            is_ours = any(claim.owner == mine.owner for mine in _held.values())
            if claim.is_held and not is_ours and not is_dead(claim, place):
                raise ConfigError(refusal(output.flag, other, claim))


def is_dead(claim: Claim, place: Place) -> bool:
    """Whether the job of a claim is gone: at once where this machine knows its process, else by its heartbeat.

    Clocks of machines differ, so that an old heartbeat is watched for two beats before it counts as the last.
    """
    if claim.machine and claim.machine == _machine() and _process_started(claim.pid) != claim.started:
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
        if not any((found.owner, found.heartbeat) == (claim.owner, claim.heartbeat) for found in place.claims()):
            return False
    return True


def _age_s(claim: Claim) -> float:
    return (datetime.fromisoformat(lease_storage.now()) - datetime.fromisoformat(claim.heartbeat)).total_seconds()


class _Heart:
    """Renews a lease every `HEARTBEAT_S`, and stops the main thread where it is lost."""

    def __init__(self, output: Output, place: Place, mine: Claim) -> None:
        self._output, self._place, self._mine = output, place, mine
        self._ended = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> _Heart:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def loss(self) -> str | None:
        """Why the lease is lost, in one line; None where it is held."""
        try:
            if self._lost is None and not self._place.is_held(self._mine):
                self._lost = self._text()
        except OSError:
            pass  # what ended the job is its reason then
        return self._lost

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(HEARTBEAT_S):
            why = None
            try:
                if self._place.renew(self._mine):
                    renewed = time.monotonic()
                else:
                    why = self._text()
            except OSError as error:
                # Others may take over what has not been renewed for long.
                if time.monotonic() - renewed > STALE_S - 2 * HEARTBEAT_S:
                    why = f"{self._output.location}: the lease could not be renewed ({_first_line(error)})"
            if why is not None:
                self._lost = why
                ident = threading.main_thread().ident
                assert ident is not None
                signal.pthread_kill(ident, signal.SIGTERM)
                return

    def _text(self) -> str:
        try:
            others = [claim for claim in self._place.claims() if claim.is_held and claim.owner != self._mine.owner]
        except OSError:
            others = []
        by = f"{others[0].job} of {others[0].user} on {others[0].host}" if others else "another job"
        return f"stopped: {by} has taken {self._output.location} over"


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """End the body with RunStopped on SIGTERM also where no Ray is running yet. For the main thread; elsewhere
    signals are not this function's to handle."""
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
    at, pid = lease_storage.now(), os.getpid()
    return Claim(
        owner=uuid.uuid4().hex,
        job=job,
        user=_user(),
        host=socket.gethostname(),
        pid=pid,
        machine=_machine(),
        started=_process_started(pid) or "",
        since=at,
        heartbeat=at,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def _machine() -> str:
    """The boot of this machine and the namespace of its process numbers; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where it has ended."""
    try:
        # The name, in parentheses, may hold spaces. Then come the state and, 19 fields on, the start (proc(5)).
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if values[0] in "ZX" else values[19]


def _make_directory(directory: str) -> list[str]:
    """Make the local directory that a lease is to be in; the directories that were made for it, deepest first. An
    object store needs none."""
    if storage.is_uri(directory):
        return []
    path = Path(directory)
    missing = [str(folder) for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(directories: Sequence[str]) -> None:
    """Remove directories that were made for a lease and in which nothing else was written."""
    for directory in directories:
        try:
            os.rmdir(directory)
        except OSError:
            return


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
