"""Local and cloud URIs through pyarrow.fs, and files that are published whole or not at all."""

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
"""Of a file to be uploaded, what is kept in memory rather than on disk; also uploaded at a time."""

LEASE_NAMES = frozenset(("_lease.json", "_lease"))
"""What `vidclf/lease.py` keeps in a directory while a job writes there: no content of the directory, so that it is
not listed, and not deleted with the rest."""

READ_THREADS = 16
"""Files read at a time: their latency on an object store, not their size, is what costs."""


def is_uri(location: str) -> bool:
    """Whether `location` has a scheme (`s3://…`, `file://…`); a plain path has none."""
    return "://" in location


def is_http(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def canonical(location: str, base: str | None = None) -> str:
    """The one spelling of a location: URIs as they are, plain and file:// paths absolute.

    `base` is the directory that a relative plain path is relative to (the working directory if
    not given). Video ids are digests of this spelling.
    """
    if location.startswith("file://"):
        location = fs.FileSystem.from_uri(location)[1]
    if is_uri(location):
        return location
    if base is not None and is_uri(base) and not os.path.isabs(location):
        return f"{base.rstrip('/')}/{location}"
    return os.path.abspath(os.path.join(base or os.getcwd(), os.path.expanduser(location)))


def resolve(location: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and path for a local path or a URI; ConfigError for a scheme nobody knows."""
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
    # URIs here are written with their names as they are, so that a key may hold any character; only a
    # query of options (`?region=…`) at the end is one.
    return filesystem, base + path


@lru_cache(maxsize=64)
def _store(root: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and path of a bucket, with its options. Kept, because a client costs connections and
    the look-up of the bucket's region, and there would be one for every video."""
    return cast("tuple[fs.FileSystem, str]", fs.FileSystem.from_uri(root))


def sibling(location: str, path: str) -> str:
    """The URI of a `path` that the filesystem of `location` listed, with the options that `location`
    has; for a local `location` the path itself."""
    parts = _URI.fullmatch(location)
    return location.split("://", 1)[0] + "://" + path + (parts[3] or "" if parts else "") if is_uri(location) else path


def join(location: str, *names: str) -> str:
    """`location` with `names` appended, for paths and URIs alike; the options of a URI stay at its end."""
    parts = _URI.fullmatch(location) if is_uri(location) else None
    if parts is None or parts[3] is None:
        return posixpath.join(location, *names)
    return posixpath.join(location.removesuffix(parts[3]), *names) + parts[3]


def appended(location: str, ending: str) -> str:
    """`location` with `ending` at the end of its name; the options of a URI stay at its end."""
    parts = _URI.fullmatch(location) if is_uri(location) else None
    options = parts[3] or "" if parts else ""
    return location.removesuffix(options) + ending + options


def parent(location: str) -> str | None:
    """The directory that `location` is in; None for a root and for a bucket."""
    path = resolve(location)[1]
    above = posixpath.dirname(path.rstrip("/"))
    return sibling(location, above) if above and above != path else None


def exists(location: str) -> bool:
    filesystem, path = resolve(location)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def is_dir(location: str) -> bool:
    filesystem, path = resolve(location)
    return bool(filesystem.get_file_info(path).type == fs.FileType.Directory)


def size(location: str) -> int:
    """Bytes of a file."""
    filesystem, path = resolve(location)
    return int(filesystem.get_file_info(path).size or 0)


def read_bytes(location: str) -> bytes:
    filesystem, path = resolve(location)
    with filesystem.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def read_json(location: str) -> Any:
    return json.loads(read_bytes(location))


def read_yaml(location: str, flag: str) -> Any:
    """What the YAML file that `flag` names holds; ConfigError where it cannot be read or is none."""
    try:
        return yaml.safe_load(read_bytes(location))
    except OSError as error:
        raise ConfigError(f"{flag} must be a readable YAML file, got {location!r} ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{flag} {location}: not YAML ({' '.join(str(error).split())})") from error


def read_table(location: str, columns: list[str] | None = None) -> pa.Table:
    filesystem, path = resolve(location)
    return pq.read_table(path, columns=columns, filesystem=filesystem, partitioning=None)


def read_first_rows(location: str, num_rows: int) -> pa.Table:
    """At most `num_rows` rows of a Parquet file, of which no more is read than they need."""
    filesystem, path = resolve(location)
    with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
        batches = []
        for batch in file.iter_batches(batch_size=num_rows):
            batches.append(batch)
            if sum(len(batch) for batch in batches) >= num_rows:
                break
        return pa.Table.from_batches(batches, file.schema_arrow).slice(0, num_rows)


def list_files(location: str, suffix: str = "", *, recursive: bool = False) -> list[str]:
    """Paths of the files in a directory that end in `suffix`, sorted and without leases; empty if there is none.

    For a URI the entries are URIs of the same scheme, so that they can be opened again.
    """
    filesystem, path = resolve(location)
    selector = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    entries = [info.path for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    entries = [entry for entry in entries if entry.endswith(suffix) and not _is_lease(entry.removeprefix(path))]
    return sorted(sibling(location, entry) for entry in entries)


def _is_lease(relative: str) -> bool:
    return not LEASE_NAMES.isdisjoint(relative.split("/"))


def list_dirs(location: str) -> list[str]:
    """Paths of the directories in a directory, sorted and without leases; empty if there is none."""
    filesystem, path = resolve(location)
    entries = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    found = [entry.path for entry in entries if entry.type == fs.FileType.Directory]
    return sorted(sibling(location, entry) for entry in found if not _is_lease(entry.removeprefix(path)))


def publish(location: str, write: Callable[[Any], None]) -> None:
    """Call `write(stream)` on a temporary file beside `location`, then put it in place.

    Readers see the old file or the whole new one. On object stores an upload becomes visible when it
    is complete, and closing completes it even after an error: what is uploaded is written here first.
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
    # The temporary name starts with the final one: Ray Data's recovery removes what a killed write
    # task left by that prefix, and audit knows a leftover by its ending.
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
    publish(location, lambda stream: stream.write(content))


def publish_json(location: str, value: Any) -> None:
    publish_bytes(location, json.dumps(value, indent=2, sort_keys=False).encode() + b"\n")


def publish_table(location: str, table: pa.Table) -> None:
    publish(location, lambda stream: pq.write_table(table, stream, compression="zstd"))


def publish_filtered(location: str, source: str, column: str, unwanted: pa.Array) -> None:
    """Publish the rows of a Parquet file whose `column` is none of `unwanted`, in their order and a batch
    at a time."""
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
    """Whether an error came of a disk without room, or of a quota, here or in a worker whose error it tells."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # A worker's error comes as text, and Arrow's have the number of the operating system's only there.
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False


def create_dir(location: str) -> None:
    filesystem, path = resolve(location)
    filesystem.create_dir(path, recursive=True)


def delete_file(location: str) -> None:
    filesystem, path = resolve(location)
    filesystem.delete_file(path)


def delete_tree(location: str) -> None:
    """Remove a directory and what is in it; nothing happens if it does not exist. A lease in it stays, and the
    directory with it."""
    filesystem, path = resolve(location)
    if filesystem.get_file_info(path).type != fs.FileType.Directory:
        return
    entries = filesystem.get_file_info(fs.FileSelector(path))
    if not any(entry.base_name in LEASE_NAMES for entry in entries):
        filesystem.delete_dir(path)
        return
    for entry in entries:
        if entry.base_name in LEASE_NAMES:
            continue
        if entry.type == fs.FileType.Directory:
            filesystem.delete_dir(entry.path)
        else:
            filesystem.delete_file(entry.path)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Some columns of a Parquet file, and the Arrow types of all of them as text."""

    table: pa.Table
    types: dict[str, str]


def read_all(locations: list[str], columns: list[str]) -> Iterator[tuple[str, Shard | Exception]]:
    """The `columns` of many Parquet files, in order, several at a time; what cannot be read is the
    error that says so. For columns that fit into memory together."""
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
    """The `columns` of each Parquet file in turn, so that no more than one is in memory."""
    for location in locations:
        yield read_table(location, columns)
