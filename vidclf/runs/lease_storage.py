"""Storage of a lease (write lock of an output): one exclusive file, or one object per claim.

A lease lets one job at a time write into an output. On a local filesystem it is a file that is created exclusively. On
an object store each job that wants the lease writes an object, its claim.

Used only by `vidclf/runs/lease.py`.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pyarrow import fs

from vidclf import storage
from vidclf.json_text import json_text

SETTLE_S = 0.2
"""Seconds to wait before a lease (write lock) file that is half written, or a set of competing claims of jobs, is read
again."""

MOST_LOOKS = 25
"""Number of reads after which a half-written lease (write lock) file counts as left by a killed job."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Entry of one job in the lease (write lock) of an output: which process wants to write there, and since when."""

    owner: str
    """unique identifier of this entry"""
    job: str
    """name of the job, for messages"""
    user: str
    """name of the user who runs the job"""
    host: str
    """host name of the job's machine"""
    pid: int
    """process number of the job"""
    machine: str
    """identifier of the machine's boot and of the process namespace to which `pid` belongs; empty if the system has
    none"""
    started: str
    """start time of the process in clock ticks since boot; tells it from a later process with the same number"""
    since: str
    """time at which the entry was made, ISO 8601 in UTC, to the second"""
    heartbeat: str
    """time at which the job last reported that it is alive, written like `since`"""
    turn: int = 0
    """number that is greater than the `turn` of every entry that existed when this one was made (object stores only)"""
    is_held: bool = True
    """whether the job holds the lease; False while the job still checks that no other job claims the same output"""

    def beating(self) -> Claim:
        """A copy of this lease entry with the current time as its heartbeat (last sign that the job is alive)."""
        return replace(self, heartbeat=now())

    def encoded(self) -> bytes:
        """This lease entry as JSON bytes. Inverse of `decoded`."""
        return json_text(asdict(self), indent=2).encode() + b"\n"


def now() -> str:
    """The current time as text: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def decoded(content: bytes) -> Claim | None:
    """The `Claim` (a job's lease entry) in the JSON bytes of a file; None if the bytes are not a claim or only part of
    one."""
    try:
        values = json.loads(content)
        return Claim(**{field.name: values[field.name] for field in fields(Claim)})
    except (ValueError, KeyError, TypeError):
        return None


MayTake = Callable[[Claim], bool]
"""Function that tells whether the lease (write lock) may be taken away from the job that made the given `Claim`."""


class Place(Protocol):
    """Storage of the lease (write lock) of one output. Each job that wants the lease makes a `Claim`, an entry with its
    identity."""

    def acquire(self, claim: Claim, may_take: MayTake) -> Claim | None:
        """Try to hold the lease (write lock) for the job that made `claim`.

        Returns None if that job now holds the lease; otherwise the claim of another job that prevents it. The lease is
        taken away from jobs for whose claim `may_take` returns True.
        """
        ...

    def claims(self) -> list[Claim]:
        """All claims on the output (entries of jobs that hold or want its write lock) that are stored now."""
        ...

    def is_held(self, claim: Claim) -> bool:
        """Whether the job that made `claim` holds the lease (write lock) now."""
        ...

    def renew(self, claim: Claim) -> bool:
        """Store the current time as the heartbeat of `claim` (sign that its job is alive).

        Returns True if it was stored. Returns False, and stores nothing, if that job no longer holds the lease (write
        lock).
        """
        ...

    def release(self, claim: Claim) -> None:
        """End the lease (write lock) if the job that made `claim` still holds it; the lease of another job stays."""
        ...


def place(output: str, *, is_file: bool = False) -> Place:
    """The storage for the lease (write lock) of `output`: inside the output directory, or beside the output if it is a
    single file.

    Returns an `ExclusiveFile` for a local output and `BucketClaims` for an output on an object store.
    """
    filesystem, path = storage.resolve(output)
    if isinstance(filesystem, fs.LocalFileSystem):
        return ExclusiveFile(f"{path}.lease.json" if is_file else os.path.join(path, "_lease.json"))
    return BucketClaims(storage.appended(output, ".lease") if is_file else storage.join(output, "_lease"))


def make_directory(directory: str) -> list[str]:
    """Create the local directory of a lease; return the directories that did not exist before, deepest first.

    On an object store there is nothing to create.
    """
    if storage.is_uri(directory):
        return []
    path = Path(directory)
    missing = [str(folder) for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(directories: Sequence[str]) -> None:
    """Remove directories as long as they are empty."""
    for directory in directories:
        try:
            os.rmdir(directory)
        except OSError:
            return


@dataclass(frozen=True)
class ExclusiveFile:
    """A lease (write lock) stored as one file that names the job, created with O_EXCL, which network filesystems
    support too.

    To take a lease over, a job first renames the file. If several jobs try, the rename of only one succeeds. If the
    renamed file turns out to be of a newer job than the one that was judged dead, it is put back.
    """

    path: str
    """path of the lease file"""

    def acquire(self, claim: Claim, may_take: MayTake) -> Claim | None:
        current: Claim | None = None
        for _ in range(MOST_LOOKS):
            if self._create(claim):
                return None
            current = self._read()
            if current is None:
                continue  # released in between
            if not may_take(current):
                return current
            self._remove(current)
        return current

    def claims(self) -> list[Claim]:
        current = self._read()
        return [] if current is None else [current]

    def is_held(self, claim: Claim) -> bool:
        current = self._read()
        return current is not None and current.owner == claim.owner

    def renew(self, claim: Claim) -> bool:
        try:
            # The file is opened once for reading and writing. If another job renames it in between, the heartbeat goes
            # into the renamed file and cannot damage the other job's lease.
            with open(self.path, "r+b") as file:
                current = decoded(file.read())
                if current is None or current.owner != claim.owner:
                    return False
                file.seek(0)
                file.write(claim.beating().encoded())  # has the same length as before
        except FileNotFoundError:
            return False
        return True

    def release(self, claim: Claim) -> None:
        self._remove(claim)

    def _create(self, claim: Claim) -> bool:
        """Create the lease (write lock) file with `claim` as its content. Returns False if the file exists already,
        else True."""
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with open(descriptor, "wb") as file:
                file.write(claim.encoded())
        except BaseException:
            # An empty file, as on a full disk, would be the lease of an unknown job.
            with suppress(FileNotFoundError):
                os.unlink(self.path)
            raise
        return True

    def _read(self) -> Claim | None:
        """The claim (entry of a job) in the lease file; None if there is no file.

        A file that stays half-written was left by a killed job. For such a file, returns a claim without an owner whose
        heartbeat is the time of the last write.
        """
        for _ in range(MOST_LOOKS):
            try:
                with open(self.path, "rb") as file:
                    claim = decoded(file.read())
                    modified_s = os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return None
            if claim is not None:
                return claim
            time.sleep(SETTLE_S)
        at = datetime.fromtimestamp(modified_s, UTC).isoformat(timespec="seconds")
        return Claim(
            owner="", job="a job", user="nobody", host="no host", pid=0, machine="", started="", since=at, heartbeat=at
        )

    def _remove(self, claim: Claim) -> None:
        """Remove the lease (write lock) file if it holds `claim`; the file of another job stays."""
        if not self.is_held(claim):
            return
        renamed = f"{self.path}.{uuid.uuid4().hex}.tmp"
        with suppress(FileNotFoundError):
            os.rename(self.path, renamed)
            with open(renamed, "rb") as file:
                renamed_claim = decoded(file.read())
            if renamed_claim is not None and renamed_claim.owner != claim.owner:
                self._create(renamed_claim)
            os.unlink(renamed)


@dataclass(frozen=True)
class BucketClaims:
    """A lease (write lock) on an object store: one object per job that wants it (its claim), each written only by that
    job.

    Arrow's object store client cannot write on the condition that an object does not exist, but every store lists an
    object once it is written. Therefore a job first writes its claim as not yet held and then lists all claims. Of two
    jobs that claim at the same time, at least one sees the other; the job whose claim has the smaller object name goes
    first.
    """

    directory: str
    """location of the directory that holds the claims (one object per job)"""

    def acquire(self, claim: Claim, may_take: MayTake) -> Claim | None:
        turn = 1 + max((other.turn for other in self.claims()), default=0)
        claim = replace(claim, turn=turn, is_held=False)
        self._write(claim)
        try:
            while True:
                others = [other for other in self.claims() if other.owner != claim.owner]
                blocking = [other for other in others if not may_take(other)]
                for other in blocking:
                    if other.is_held or other.owner < claim.owner:
                        self._delete(claim)
                        return other
                if not blocking:
                    break
                time.sleep(SETTLE_S)  # until the other job withdraws, or holds because it listed before this claim
        except BaseException:
            self._delete(claim)
            raise
        self._write(replace(claim, is_held=True).beating())
        for other in others:
            self._delete(other)
        return None

    def claims(self) -> list[Claim]:
        claims = []
        for path in storage.list_files(self.directory, ".json"):
            with suppress(FileNotFoundError):  # withdrawn in between
                claim = decoded(storage.read_bytes(path))
                if claim is not None:
                    claims.append(claim)
        return claims

    def is_held(self, claim: Claim) -> bool:
        return self._current(claim) is not None

    def renew(self, claim: Claim) -> bool:
        current = self._current(claim)
        if current is None:
            return False
        self._write(current.beating())
        return True

    def release(self, claim: Claim) -> None:
        self._delete(claim)

    def _current(self, claim: Claim) -> Claim | None:
        """The stored copy of `claim` (entry of a job), with its latest heartbeat; None if its job no longer holds the
        lease.

        That is so if the object is gone, or if a claim with a greater `turn` is held.
        """
        claims = self.claims()
        current = next((other for other in claims if other.owner == claim.owner), None)
        if current is None or any(other.is_held and other.turn > current.turn for other in claims):
            return None
        return current

    def _write(self, claim: Claim) -> None:
        storage.publish_bytes(self._path(claim), claim.encoded())

    def _delete(self, claim: Claim) -> None:
        with suppress(FileNotFoundError):
            storage.delete_file(self._path(claim))

    def _path(self, claim: Claim) -> str:
        return storage.join(self.directory, f"{claim.owner}.json")
