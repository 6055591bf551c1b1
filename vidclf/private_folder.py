"""Private folders in the temporary directory, which no other user may read and which do not outlive their processes.

The process that makes a folder keeps a file in it locked. The kernel releases the lock however the process ends, so
that the next process can delete the folders whose owners are gone.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import stat
import tempfile

from vidclf.errors import ConfigError

LOCK_FILE = "lock"
"""Name of the file in a folder that its owner keeps locked."""

log = logging.getLogger("vidclf.private_folder")


class PrivateFolder:
    """New folder in the temporary directory that no other user may read, owned by this process.

    `prefix` begins its name. `purpose` says in error messages what is stored in it. Making one first deletes the
    folders with the same prefix whose owners ended without closing them. Raises ConfigError if the temporary directory
    is not writable.

    Without `name`, the name ends at random. With it, processes that want the same folder agree on its owner: raises
    BlockingIOError while another process owns it.
    """

    def __init__(self, prefix: str, purpose: str, name: str | None = None) -> None:
        try:
            sweep_orphans(prefix)
            if name is None:
                self.path = tempfile.mkdtemp(prefix=prefix)
                self._lock = _locked(self.path)
            else:
                self.path = os.path.join(tempfile.gettempdir(), prefix + name)
                self._lock = _taken(self.path)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ConfigError(
                f"the directory for {purpose} must be writable, {tempfile.gettempdir()!r} is not ({error.strerror}); "
                "TMPDIR names another one"
            ) from error

    def names(self) -> list[str]:
        """Names of the files in the folder, without the lock."""
        return [name for name in os.listdir(self.path) if name != LOCK_FILE]

    def close(self) -> None:
        """Delete the folder and release its lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep_orphans(prefix: str) -> None:
    """Delete the private folders of this user whose owners no longer run.

    The folder of a running owner is locked and stays. A folder without a lock file stays too: it belongs to another
    version or is being made.
    """
    parent = tempfile.gettempdir()
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if not name.startswith(prefix) or not _is_own_folder(path):
            continue
        try:
            lock = os.open(os.path.join(path, LOCK_FILE), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            log.warning("deleting %s, the folder of a process that has ended", path)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _is_own_folder(path: str) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _locked(folder: str) -> int:
    """Make the lock file of a private folder, lock it, and return its file descriptor.

    The file is locked before it gets the name that other processes look for.
    """
    new, path = os.path.join(folder, f"{LOCK_FILE}.new"), os.path.join(folder, LOCK_FILE)
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(new, path)
    return lock


def _taken(folder: str) -> int:
    """Make a folder unless it exists, lock the file in it, and return its file descriptor. Raises BlockingIOError if
    another process holds the lock."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if not _is_own_folder(folder):
        raise PermissionError(errno.EPERM, "belongs to another user", folder)
    path = os.path.join(folder, LOCK_FILE)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # its last owner has just deleted it
        raise BlockingIOError from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.exists(path) or not os.path.samestat(os.fstat(lock), os.stat(path)):
            raise BlockingIOError  # the file that was locked has been deleted in between
    except BlockingIOError:
        os.close(lock)
        raise
    return lock
