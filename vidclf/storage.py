"""Local paths and cloud URIs through pyarrow.fs, and atomic publishing of files.

A location is a path, a `file://` URI, an `http(s)://` URI, or the URI of an object store such as `s3://bucket/key`. A
published file appears as a whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pyarrow import fs

from vidclf.arrow import column_types
from vidclf.errors import ConfigError

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?]*)(/.*?)?(\?\w+=[^&?]*(?:&\w+=[^&?]*)*)?", re.DOTALL)

SPOOLED_BYTES = 16 * 1024**2
"""Largest size in bytes at which a file to upload is kept in memory instead of on disk; also the size of one write
during the upload."""

LEASE_NAMES = frozenset(("_lease.json", "_lease"))
"""Names of the files of a lease (`vidclf/runs/lease.py`), which are in a directory while a job writes there. They are
not content of the directory: listings omit them, and `delete_tree` keeps them."""

_IN_FLIGHT = re.compile(r"_lease\.json\.[0-9a-f]{32}\.tmp|\.vidclf-[0-9a-f]{32}\.probe")
"""Regular expression of the names of short-lived files that are treated like a lease: removed leases and probes."""

READ_THREADS = 16
"""Number of files that are read at the same time, because on an object store latency takes more time than size."""


def is_uri(location: str) -> bool:
    """Whether `location` has a scheme (`s3://…`, `file://…`); a plain path has none."""
    return "://" in location


def is_http(location: str) -> bool:
    """Whether `location` is an http or https URI."""
    return location.startswith(("http://", "https://"))


def canonical(location: str, base: str | None = None) -> str:
    """The canonical spelling of a location: plain and file:// paths become absolute, other URIs stay.

    A relative path is relative to the directory or URI `base`, by default the working directory. Video ids are digests
    of this spelling.
    """
    if location.startswith("file://"):
        location = fs.FileSystem.from_uri(location)[1]
    if is_uri(location):
        return location
    if base is not None and is_uri(base) and not os.path.isabs(location):
        return f"{base.rstrip('/')}/{location}"
    return os.path.abspath(os.path.join(base or os.getcwd(), os.path.expanduser(location)))


def resolve(location: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and path within it for a location. Raises ConfigError if the location cannot be opened."""
    location = canonical(location)
    if not is_uri(location):
        return fs.LocalFileSystem(), location
    if is_http(location):
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("http"))), location
    parts = _URI.fullmatch(location)
    if parts is None:
        raise ConfigError(f"{location}: not a location that can be opened")
    root, path, query = parts.groups(default="")
    try:
        filesystem, base = _store(root + query)
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise ConfigError(f"{location}: not a location that can be opened ({error})") from error
    # Keys in URIs are not percent-encoded here, so that they may contain any character. Only options at the end
    # (`?region=…`) are parsed as a query.
    return filesystem, base + path


@lru_cache(maxsize=64)
def _store(root: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and path of a bucket with its options.

    Cached, because every client opens connections and looks up the region of the bucket; without the cache there would
    be one client per video.
    """
    return cast("tuple[fs.FileSystem, str]", fs.FileSystem.from_uri(root))


def sibling(location: str, path: str) -> str:
    """The location of a `path` that was listed on the filesystem of `location`: with the scheme and the options of that
    URI, or the path itself if `location` is local."""
    parts = _URI.fullmatch(location)
    return location.split("://", 1)[0] + "://" + path + (parts[3] or "" if parts else "") if is_uri(location) else path


def join(location: str, *names: str) -> str:
    """`location` with path components `names` appended, for paths and URIs; the options of a URI stay at its end."""
    parts = _URI.fullmatch(location) if is_uri(location) else None
    if parts is None or parts[3] is None:
        return posixpath.join(location, *names)
    return posixpath.join(location.removesuffix(parts[3]), *names) + parts[3]


def appended(location: str, ending: str) -> str:
    """`location` with `ending` appended to its file name; the options of a URI stay at its end."""
    parts = _URI.fullmatch(location) if is_uri(location) else None
    options = parts[3] or "" if parts else ""
    return location.removesuffix(options) + ending + options


def parent(location: str) -> str | None:
    """The directory that contains `location`; None for a root directory or a bucket."""
    path = resolve(location)[1]
    directory = posixpath.dirname(path.rstrip("/"))
    return sibling(location, directory) if directory and directory != path else None


def exists(location: str) -> bool:
    """Whether there is a file or a directory at `location`."""
    filesystem, path = resolve(location)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def is_dir(location: str) -> bool:
    """Whether there is a directory at `location`."""
    filesystem, path = resolve(location)
    return bool(filesystem.get_file_info(path).type == fs.FileType.Directory)


def size(location: str) -> int:
    """Size of a file in bytes; 0 if there is none."""
    filesystem, path = resolve(location)
    return int(filesystem.get_file_info(path).size or 0)


def read_bytes(location: str) -> bytes:
    """The content of a file. A file whose name ends like a compressed one is not decompressed."""
    filesystem, path = resolve(location)
    with filesystem.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def read_json(location: str) -> Any:
    """The value in a JSON file."""
    return json.loads(read_bytes(location))


def read_yaml(location: str, flag: str) -> Any:
    """The value in the YAML file given with `flag`. Raises ConfigError if it cannot be read or is not YAML."""
    try:
        return yaml.safe_load(read_bytes(location))
    except OSError as error:
        raise ConfigError(f"{flag} must be a readable YAML file, got {location!r} ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{flag} {location}: not YAML ({' '.join(str(error).split())})") from error


def read_table(location: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file as a table, or only its `columns`. Directory names such as `year=2020` add no column."""
    filesystem, path = resolve(location)
    return pq.read_table(path, columns=columns, filesystem=filesystem, partitioning=None)


def read_first_rows(location: str, num_rows: int) -> pa.Table:
    """The first `num_rows` rows of a Parquet file, or all if it has fewer; the rest of the file is not read."""
    filesystem, path = resolve(location)
    with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
        batches = []
        for batch in file.iter_batches(batch_size=num_rows):
            batches.append(batch)
            if sum(len(batch) for batch in batches) >= num_rows:
                break
        return pa.Table.from_batches(batches, file.schema_arrow).slice(0, num_rows)


def list_files(location: str, suffix: str = "", *, recursive: bool = False) -> list[str]:
    """Locations of the files in a directory whose names end in `suffix`, sorted; empty if there is no such directory.

    Files of a lease are left out. The entries of a URI are URIs as well, so that they can be opened.
    """
    filesystem, path = resolve(location)
    selector = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    entries = [info.path for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    entries = [entry for entry in entries if entry.endswith(suffix) and not is_lease(entry.removeprefix(path))]
    return sorted(sibling(location, entry) for entry in entries)


def is_lease(relative_path: str) -> bool:
    """Whether a path relative to a directory belongs to a lease or to a job that is about to take one."""
    return any(name in LEASE_NAMES or _IN_FLIGHT.fullmatch(name) for name in relative_path.split("/"))


def list_dirs(location: str) -> list[str]:
    """Locations of the directories in a directory, sorted and without leases; empty if there is no such directory."""
    filesystem, path = resolve(location)
    entries = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    paths = [entry.path for entry in entries if entry.type == fs.FileType.Directory]
    return sorted(sibling(location, entry) for entry in paths if not is_lease(entry.removeprefix(path)))


def publish(location: str, write: Callable[[Any], None]) -> None:
    """Call `write(stream)` on a temporary file in the same directory, then rename it to `location`.

    Readers see either the old file or the whole new one. On an object store an upload becomes visible when it is
    closed, even after an error; therefore the content is first written to this machine and then uploaded.
    """
    filesystem, path = resolve(location)
    if not isinstance(filesystem, fs.LocalFileSystem):
        with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as spool:
            write(spool)
            spool.seek(0)
            with filesystem.open_output_stream(path) as stream:
                shutil.copyfileobj(spool, stream, SPOOLED_BYTES)
        return
    filesystem.create_dir(posixpath.dirname(path), recursive=True)
    # The temporary name starts with the final one, because Ray Data removes leftovers of a killed write task by that
    # prefix. The audit recognises a leftover by its ending.
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with filesystem.open_output_stream(temporary) as stream:
            write(stream)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def publish_bytes(location: str, content: bytes) -> None:
    """Publish a file with this content."""
    publish(location, lambda stream: stream.write(content))


def publish_json(location: str, value: Any) -> None:
    """Publish a value as indented JSON; the order of keys stays."""
    publish_bytes(location, json.dumps(value, indent=2, sort_keys=False).encode() + b"\n")


def publish_table(location: str, table: pa.Table) -> None:
    """Publish a table as a Parquet file with zstd compression."""
    publish(location, lambda stream: pq.write_table(table, stream, compression="zstd"))


def publish_filtered(location: str, source: str, column: str, unwanted: pa.Array) -> None:
    """Publish a copy of the Parquet file `source` without the rows whose `column` is one of `unwanted`.

    The order of rows stays. One batch at a time is in memory.
    """
    filesystem, path = resolve(source)

    def write(stream: Any) -> None:
        with (
            filesystem.open_input_file(path) as opened,
            pq.ParquetFile(opened) as file,
            pq.ParquetWriter(stream, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches():
                writer.write_batch(batch.filter(pc.invert(pc.is_in(batch[column], unwanted))))

    publish(location, write)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error was caused by a full disk or a quota, in this process or in a worker whose error it carries."""
    checked: list[BaseException] = []
    while error is not None and error not in checked:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # A worker's error arrives as text, and Arrow's errors contain the system's error number in their text only.
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        checked.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False


def create_dir(location: str) -> None:
    """Create a directory and its parents, if they do not exist."""
    filesystem, path = resolve(location)
    filesystem.create_dir(path, recursive=True)


def delete_file(location: str) -> None:
    """Delete a file."""
    filesystem, path = resolve(location)
    filesystem.delete_file(path)


def delete_tree(location: str) -> None:
    """Delete a directory with its content, if it exists. If it contains a lease, the lease and the directory stay."""
    filesystem, path = resolve(location)
    if filesystem.get_file_info(path).type != fs.FileType.Directory:
        return
    entries = filesystem.get_file_info(fs.FileSelector(path))
    if not any(is_lease(entry.base_name) for entry in entries):
        filesystem.delete_dir(path)
        return
    for entry in entries:
        if is_lease(entry.base_name):
            continue
        if entry.type == fs.FileType.Directory:
            filesystem.delete_dir(entry.path)
        else:
            filesystem.delete_file(entry.path)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Some columns of a Parquet file, with the types of all its columns."""

    table: pa.Table
    types: dict[str, str]
    """Arrow types of all columns as text, by column name"""


def read_all(locations: list[str], columns: list[str]) -> Iterator[tuple[str, Shard | Exception]]:
    """Each location with its `Shard`, or with the error if it cannot be read, in order. Several files are read at once,
    so their `columns` must fit into memory together."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        yield from zip(locations, pool.map(lambda location: _read_shard(location, columns), locations), strict=True)


def _read_shard(location: str, columns: list[str]) -> Shard | Exception:
    filesystem, path = resolve(location)
    try:
        with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            types = column_types(file.schema_arrow)
            missing = [name for name in columns if name not in types]
            return KeyError(f"no column {missing}") if missing else Shard(table=file.read(columns), types=types)
    except (pa.ArrowInvalid, OSError) as error:
        return error


def iter_tables(locations: list[str], columns: list[str]) -> Iterator[pa.Table]:
    """The `columns` of each Parquet file, one table after another, so that only one is in memory."""
    for location in locations:
        yield read_table(location, columns)
