"""Storage of a lease that only one job can hold: an exclusively created file, or claims in a bucket.

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

SETTLE_S = 0.2
"""Seconds between two reads of a file that is half written, or of claims that are not decided yet."""

MOST_LOOKS = 25
"""Number of reads after which a half-written file counts as left by a killed job."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job's claim on an output: who wants to write, and since when."""

    owner: str
    """unique identifier of this claim"""
    job: str
    user: str
    host: str
    pid: int
    machine: str
    """boot and process namespace in which `pid` counts; empty if the system does not tell them"""
    started: str
    """start time of the process in clock ticks since boot; tells it from a later process with the same number"""
    since: str
    """time of the claim, ISO 8601 in UTC, to the second"""
    heartbeat: str
    """time of the last heartbeat, written like `since`"""
    turn: int = 0
    """greater than the turn of every claim that existed when this one was made"""
    is_held: bool = True
    """False until the job knows that no other job claims the same output"""

    def beating(self) -> Claim:
        """The same claim with a heartbeat of now."""
        return replace(self, heartbeat=now())

    def encoded(self) -> bytes:
        """The claim as JSON."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


def now() -> str:
    """The current time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def decoded(content: bytes) -> Claim | None:
    """The claim in a file's content; None if the content is no claim or only half of one."""
    try:
        values = json.loads(content)
        return Claim(**{field.name: values[field.name] for field in fields(Claim)})
    except (ValueError, KeyError, TypeError):
        return None


MayTake = Callable[[Claim], bool]
"""Whether the lease may be taken over from the job of a claim."""


class Place(Protocol):
    """Storage of the lease of one output."""

    def acquire(self, claim: Claim, may_take: MayTake) -> Claim | None:
        """Hold the lease from now on and return None; or return the claim of another job that prevents it.

        The lease is taken over from jobs for which `may_take` is true.
        """
        ...

    def claims(self) -> list[Claim]:
        """All claims on the output, by whatever job."""
        ...

    def is_held(self, claim: Claim) -> bool:
        """Whether the lease is held by this claim."""
        ...

    def renew(self, claim: Claim) -> bool:
        """Write a new heartbeat. Returns False, and writes nothing, if another job holds the lease now."""
        ...

    def release(self, claim: Claim) -> None:
        """Release the lease if it is still held."""
        ...


def place(output: str, *, is_file: bool = False) -> Place:
    """Storage of the lease of an output: inside the directory, or beside a single file.

    A local output has an exclusively created file, an output on an object store has claims.
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
    """A lease as one file, created with O_EXCL, which network filesystems support too.

    To take a lease over, a job first renames its file. If several jobs try, the rename of only one succeeds. A job that
    renamed a newer lease than the one it had judged puts it back.
    """

    path: str

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
        """Create the file with this claim. Returns False if the file exists."""
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
        """The claim in the file; None if there is no file.

        A file that stays half-written was left by a killed job. Its claim has no owner, and its heartbeat is the time
        of the last write.
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
        """Remove the file if it holds this claim."""
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
    """A lease as one object per claim, each written only by its own job.

    The object store client (of Arrow) cannot write on the condition that an object does not exist. All stores promise
    that a written object is listed. So a job first writes its claim, not yet held, and then lists the claims. Of two
    jobs that claim at the same time, at least one sees the other; the smaller name goes first.
    """

    directory: str

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
        """The stored version of a claim; None if it is gone, or if a claim with a later turn is held."""
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
