"""Where a lease is kept, such that one job at a time holds it: a file created exclusively, or claims in a bucket.

Both are used by `vidclf/lease.py` alone.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Protocol

from pyarrow import fs

from vidclf import storage

SETTLE_S = 0.2
"""Between two looks at a file that is half written, or at a claim that is not decided."""

MOST_LOOKS = 25


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job's claim on a directory."""

    owner: str
    """of this claim alone"""
    job: str
    user: str
    host: str
    pid: int
    machine: str
    """the boot and the process namespace that `pid` is of; empty where the system does not tell"""
    started: str
    """when the process started, in the system's own count: a number that is used again is another process"""
    since: str
    heartbeat: str
    """UTC, to the second"""
    turn: int = 0
    """greater than that of every claim that this one was made beside"""
    is_held: bool = True
    """False while several jobs may be asking for the same directory"""

    def beating(self) -> Claim:
        return replace(self, heartbeat=now())

    def encoded(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def decoded(content: bytes) -> Claim | None:
    """The claim in a file; None where it is none, or half of one."""
    try:
        values = json.loads(content)
        return Claim(**{field.name: values[field.name] for field in fields(Claim)})
    except (ValueError, KeyError, TypeError):
        return None


MayTake = Callable[[Claim], bool]


class Place(Protocol):
    """Where the lease of a directory is."""

    def acquire(self, mine: Claim, may_take: MayTake) -> Claim | None:
        """Hold the lease from now on: None; or the claim that is in the way. One that `may_take` lets be taken over
        is not."""
        ...

    def claims(self) -> list[Claim]:
        """Those that are there, by whatever job."""
        ...

    def is_held(self, mine: Claim) -> bool: ...

    def renew(self, mine: Claim) -> bool:
        """Write down a new heartbeat; False, and nothing is written, where the lease is another's by now."""
        ...

    def release(self, mine: Claim) -> None:
        """Give the lease back, if it is still held."""
        ...


def place(output: str, *, is_file: bool = False) -> Place:
    """Where the lease of a directory, or of a single file, is kept: in the directory or beside the file."""
    filesystem, path = storage.resolve(output)
    if isinstance(filesystem, fs.LocalFileSystem):
        return ExclusiveFile(f"{path}.lease.json" if is_file else os.path.join(path, "_lease.json"))
    return BucketClaims(storage.appended(output, ".lease") if is_file else storage.join(output, "_lease"))


@dataclass(frozen=True)
class ExclusiveFile:
    """One file, created with O_EXCL, which network filesystems keep too. To take a lease over, its file is renamed:
    of several jobs that try it one succeeds, and one that caught a newer lease than it had judged puts it back."""

    path: str

    def acquire(self, mine: Claim, may_take: MayTake) -> Claim | None:
        found: Claim | None = None
        for _ in range(MOST_LOOKS):
            if self._create(mine):
                return None
            found = self._read()
            if found is None:
                continue  # released in between
            if not may_take(found):
                return found
            self._remove(found)
        return found

    def claims(self) -> list[Claim]:
        found = self._read()
        return [] if found is None else [found]

    def is_held(self, mine: Claim) -> bool:
        found = self._read()
        return found is not None and found.owner == mine.owner

    def renew(self, mine: Claim) -> bool:
        try:
            # One open file for looking and writing: where another job renames it in between, what is written here
            # goes to the file that was set aside.
            with open(self.path, "r+b") as file:
                found = decoded(file.read())
                if found is None or found.owner != mine.owner:
                    return False
                file.seek(0)
                file.write(mine.beating().encoded())  # of equal length
        except FileNotFoundError:
            return False
        return True

    def release(self, mine: Claim) -> None:
        self._remove(mine)

    def _create(self, mine: Claim) -> bool:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with open(descriptor, "wb") as file:
            file.write(mine.encoded())
        return True

    def _read(self) -> Claim | None:
        """The claim; one of nobody where a job was killed before it had written it."""
        for _ in range(MOST_LOOKS):
            try:
                with open(self.path, "rb") as file:
                    found = decoded(file.read())
                    written_s = os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return None
            if found is not None:
                return found
            time.sleep(SETTLE_S)
        at = datetime.fromtimestamp(written_s, UTC).isoformat(timespec="seconds")
        return Claim(
            owner="", job="a job", user="nobody", host="no host", pid=0, machine="", started="", since=at, heartbeat=at
        )

    def _remove(self, claim: Claim) -> None:
        if not self.is_held(claim):
            return
        aside = f"{self.path}.{uuid.uuid4().hex}.tmp"
        with suppress(FileNotFoundError):
            os.rename(self.path, aside)
            with open(aside, "rb") as file:
                found = decoded(file.read())
            if found is not None and found.owner != claim.owner:
                self._create(found)
            os.unlink(aside)


@dataclass(frozen=True)
class BucketClaims:
    """One object for each claim, written by its own job alone.

    An object store's client here (Arrow's) cannot write on the condition that nothing is there. What all of them
    promise is that an object that was written is listed. So a job first writes down that it asks, and then looks:
    of two that ask at once at least one sees the other, and the smaller name goes first.
    """

    directory: str

    def acquire(self, mine: Claim, may_take: MayTake) -> Claim | None:
        turn = 1 + max((claim.turn for claim in self.claims()), default=0)
        mine = replace(mine, turn=turn, is_held=False)
        self._write(mine)
        try:
            while True:
                others = [claim for claim in self.claims() if claim.owner != mine.owner]
                in_the_way = [claim for claim in others if not may_take(claim)]
                for claim in in_the_way:
                    if claim.is_held or claim.owner < mine.owner:
                        self._delete(mine)
                        return claim
                if not in_the_way:
                    break
                time.sleep(SETTLE_S)  # it withdraws, or it looked before this one asked
        except BaseException:
            self._delete(mine)
            raise
        self._write(replace(mine, is_held=True).beating())
        for claim in others:
            self._delete(claim)
        return None

    def claims(self) -> list[Claim]:
        found = []
        for path in storage.list_files(self.directory, ".json"):
            with suppress(FileNotFoundError):  # withdrawn in between
                claim = decoded(storage.read_bytes(path))
                if claim is not None:
                    found.append(claim)
        return found

    def is_held(self, mine: Claim) -> bool:
        return self._own(mine) is not None

    def renew(self, mine: Claim) -> bool:
        own = self._own(mine)
        if own is None:
            return False
        self._write(own.beating())
        return True

    def release(self, mine: Claim) -> None:
        self._delete(mine)

    def _own(self, mine: Claim) -> Claim | None:
        """The claim as it stands there; None where it is gone, or one with a later turn is held."""
        claims = self.claims()
        own = next((claim for claim in claims if claim.owner == mine.owner), None)
        if own is None or any(claim.is_held and claim.turn > own.turn for claim in claims):
            return None
        return own

    def _write(self, claim: Claim) -> None:
        storage.publish_bytes(self._path(claim), claim.encoded())

    def _delete(self, claim: Claim) -> None:
        with suppress(FileNotFoundError):
            storage.delete_file(self._path(claim))

    def _path(self, claim: Claim) -> str:
        return storage.join(self.directory, f"{claim.owner}.json")
