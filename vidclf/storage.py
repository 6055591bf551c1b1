"""Reading and writing of files at local paths and cloud URIs, through pyarrow.fs.

A location is a path, a `file://` URI, an `http(s)://` URI, or the URI of an object store such as `s3://bucket/key`. To
publish a file means to write it such that readers see the whole file or none.

The module is longer than 350 lines because every access to files and object stores goes through it.
"""

from __future__ import annotations

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
from urllib.parse import unquote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pyarrow import fs

from vidclf.arrow import column_types, completed
from vidclf.errors import ConfigError
from vidclf.json_text import json_text

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?]*)(/.*?)?(\?\w+=[^&?]*(?:&\w+=[^&?]*)*)?", re.DOTALL)
"""Pattern of a URI: scheme and host or bucket; path; options at the end, such as `?region=…`."""

SPOOLED_BYTES = 16 * 1024**2
"""Maximum size in bytes of a file that waits for its upload in memory; a larger one waits on disk. Uploads are made in
parts of this size."""

MOST_TEXT_BYTES = 64 * 1024**2
"""Maximum size in bytes of a JSON or YAML file that is read. Such a file, once parsed, takes many times its size in
memory, and may come from others. Our own are smaller than 1 MB."""

LEASE_NAMES = frozenset(("_lease.json", "_lease"))
"""Names of the file and the directory of a lease: the claim of a job on a directory in which it writes
(`vidclf/runs/lease.py`). They do not count as content of the directory: listings omit them, and `delete_tree` keeps
them."""

_IN_FLIGHT = re.compile(r"_lease\.json\.[0-9a-f]{32}\.tmp|\.vidclf-[0-9a-f]{32}\.probe")
"""Regular expression of the names of short-lived files that are treated like a lease: removed leases and probes."""

READ_THREADS = 16
"""Number of files that are read at the same time. On an object store a file takes its time mostly for latency, so many
at once are faster."""


def is_uri(location: str) -> bool:
    """Whether `location` is a URI such as `s3://…` or `file://…`, not a plain path."""
    return "://" in location


def is_http(location: str) -> bool:
    """Whether `location` is an http or https URI."""
    return location.startswith(("http://", "https://"))


def canonical(location: str, base: str | None = None) -> str:
    """The one spelling of `location` from which video ids are made: paths become absolute, without `file://`.

    Other URIs stay as they are. A relative path is relative to `base`, a directory or URI, by default the working
    directory.
    """
    if location.startswith("file:/"):
        location = _path_of_file_uri(location)
    if is_uri(location):
        return location
    if base is not None and is_uri(base) and not os.path.isabs(location):
        return f"{base.rstrip('/')}/{location}"
    return os.path.abspath(os.path.join(base or os.getcwd(), os.path.expanduser(location)))


def _path_of_file_uri(uri: str) -> str:
    """Path in a URI `file:///path`, `file://localhost/path` (RFC 8089) or `file:/path`.

    Percent codes are decoded. Characters that should be percent codes, such as spaces, are taken as they are, because
    many programs write them. Raises ConfigError if the URI names another machine.
    """
    rest = uri.removeprefix("file:")
    host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "/", rest[1:])
    if host not in ("", "localhost") or not slash:
        raise ConfigError(f"{uri}: names the host {host!r}; a file on this machine is file:///path, with three slashes")
    try:
        return "/" + unquote(path, errors="strict")
    except UnicodeDecodeError:
        return "/" + path


def resolve(location: str) -> tuple[fs.FileSystem, str]:
    """Filesystem object for `location`, and the path of `location` in that filesystem.

    Raises ConfigError if `location` is not of a form that can be opened; whether the file exists is not checked.
    """
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
    """Filesystem object for the bucket URI `root` (which may have options at its end), and the path of the bucket in
    it.

    Cached, because every filesystem object opens connections and looks up the region of the bucket; without the cache
    there would be one per video.
    """
    return cast("tuple[fs.FileSystem, str]", fs.FileSystem.from_uri(root))


def sibling(location: str, path: str) -> str:
    """Location of the file at `path` in the filesystem of `location`.

    If `location` is a URI, the result has its scheme and its options; otherwise it is `path` itself.
    """
    parts = _URI.fullmatch(location)
    return location.split("://", 1)[0] + "://" + path + (parts[3] or "" if parts else "") if is_uri(location) else path


def join(location: str, *names: str) -> str:
    """Location of `names[0]/names[1]/…` in the directory `location`, a path or URI; the options of a URI stay at its
    end."""
    parts = _URI.fullmatch(location) if is_uri(location) else None
    if parts is None or parts[3] is None:
        return posixpath.join(location, *names)
    return posixpath.join(location.removesuffix(parts[3]), *names) + parts[3]


def appended(location: str, ending: str) -> str:
    """`location`, a path or URI, with `ending` appended to its file name; the options of a URI stay at its end."""
    parts = _URI.fullmatch(location) if is_uri(location) else None
    options = parts[3] or "" if parts else ""
    return location.removesuffix(options) + ending + options


def parent(location: str) -> str | None:
    """Location of the directory that contains `location`; None if `location` is a root directory or a bucket."""
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
    """Size in bytes of the file at `location`; 0 if there is no file."""
    filesystem, path = resolve(location)
    return int(filesystem.get_file_info(path).size or 0)


def read_bytes(location: str) -> bytes:
    """Bytes of the file at `location`, exactly as stored: a name such as `a.gz` does not cause decompression."""
    filesystem, path = resolve(location)
    with filesystem.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def read_json(location: str, *, is_bounded: bool = True) -> Any:
    """Parsed content of the JSON file at `location`.

    Raises ValueError if it is not JSON, nested too deeply or, with `is_bounded`, larger than `MOST_TEXT_BYTES`.
    """
    try:
        return json.loads(_read_text_bytes(location) if is_bounded else read_bytes(location))
    except RecursionError as error:
        raise ValueError(f"{location}: nested too deeply") from error


def _read_text_bytes(location: str) -> bytes:
    """Bytes of a JSON or YAML file. Raises ValueError if it is larger than `MOST_TEXT_BYTES`."""
    num_bytes = size(location)
    if num_bytes > MOST_TEXT_BYTES:
        raise ValueError(f"{location}: must be at most {MOST_TEXT_BYTES} bytes, is {num_bytes}")
    return read_bytes(location)


class _RepeatedKeyError(Exception):
    """A mapping in a YAML file has a key twice. The text names the key and both lines."""


class _UniqueKeys(yaml.SafeLoader):
    """Loader that refuses a mapping with a key that stands twice, of which YAML would silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _RepeatedKeyError(
                    f"{key.value}: must stand once, stands in lines {lines[key.value]} and {line}; join the entries"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(location: str, flag: str) -> Any:
    """Parsed content of the YAML file at `location`. Raises ConfigError if it cannot be read, is not YAML, has a key
    twice, or is larger than `MOST_TEXT_BYTES`.

    `flag` is the flag with which the user named the file, for the message.
    """
    try:
        return yaml.load(_read_text_bytes(location), Loader=_UniqueKeys)
    except OSError as error:
        raise ConfigError(f"{flag} must be a readable YAML file, got {location!r} ({error})") from error
    except _RepeatedKeyError as error:
        raise ConfigError(f"{flag} {location}: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{flag} {location}: not YAML ({' '.join(str(error).split())})") from error
    except ValueError as error:
        raise ConfigError(f"{flag} {error}") from error


def read_table(location: str, columns: list[str] | None = None) -> pa.Table:
    """Table with the content of a Parquet file, or only of its columns `columns`.

    Directory names such as `year=2020` in `location` add no column to it.
    """
    filesystem, path = resolve(location)
    return pq.read_table(path, columns=columns, filesystem=filesystem, partitioning=None)


def list_files(location: str, suffix: str = "", *, recursive: bool = False) -> list[str]:
    """Sorted locations of the files in the directory `location` whose names end in `suffix`; with `recursive` also
    below it.

    Empty if there is no such directory. The files of a lease (a job's claim on the directory) are left out. If
    `location` is a URI, the results are URIs as well.
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
    """Sorted locations of the directories in the directory `location`; empty if there is no such directory.

    The directory of a lease (a job's claim on `location`) is left out.
    """
    filesystem, path = resolve(location)
    entries = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    paths = [entry.path for entry in entries if entry.type == fs.FileType.Directory]
    return sorted(sibling(location, entry) for entry in paths if not is_lease(entry.removeprefix(path)))


def publish(location: str, write: Callable[[Any], None]) -> None:
    """Write a file at `location` such that readers see either the old file or the whole new one.

    `write` gets an open stream and writes the content to it: a temporary file in the same directory, which is then
    renamed. On an object store an upload becomes visible when it is closed, even after an error; there the content is
    first written to this machine and then uploaded.
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
    """Write a file with the bytes `content`, visible as a whole only (see `publish`)."""
    publish(location, lambda stream: stream.write(content))


def publish_json(location: str, value: Any) -> None:
    """Write `value` as a file of indented JSON, with keys in their present order, visible as a whole only (see
    `publish`)."""
    publish_bytes(location, json_text(value, indent=2).encode() + b"\n")


def publish_table(location: str, table: pa.Table) -> None:
    """Write a table as a Parquet file with zstd compression, visible as a whole only (see `publish`)."""
    publish(location, lambda stream: pq.write_table(table, stream, compression="zstd"))


def publish_filtered(location: str, source: str, column: str, unwanted: pa.Array) -> None:
    """Write a copy of the Parquet file `source` to `location`, without the rows whose `column` has a value in
    `unwanted`.

    The other rows stay in order. The copy is visible as a whole only (see `publish`), and is made in small batches, so
    that the file need not fit into memory.
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


def create_dir(location: str) -> None:
    """Create the directory `location` and the directories above it, if they do not exist."""
    filesystem, path = resolve(location)
    filesystem.create_dir(path, recursive=True)


def delete_file(location: str) -> None:
    """Delete the file at `location`."""
    filesystem, path = resolve(location)
    filesystem.delete_file(path)


def delete_tree(location: str) -> None:
    """Delete the directory `location` with its content, if it exists.

    If it contains a lease (a job's claim on the directory), the lease and the empty directory stay.
    """
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
    """Content of a Parquet file (shard) as read into memory: some of its columns, and the types of all."""

    table: pa.Table
    """columns that were read"""
    types: dict[str, str]
    """Arrow types, as text, of all columns in the file, by column name"""


def read_all(locations: list[str], columns: list[str]) -> Iterator[tuple[str, Shard | Exception]]:
    """Yield each location, in the given order, with its `Shard` (content), or with an exception if it cannot be read.

    Only `columns` are read. Several files are read at once, so these columns of all files must fit into memory
    together.
    """
    with ThreadPoolExecutor(READ_THREADS) as pool:
        yield from zip(locations, pool.map(lambda location: _read_shard(location, columns), locations), strict=True)


def _read_shard(location: str, columns: list[str]) -> Shard | Exception:
    """Columns `columns` of the Parquet file at `location`, or an exception if it lacks one or cannot be read."""
    filesystem, path = resolve(location)
    try:
        with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            types = column_types(file.schema_arrow)
            missing = [name for name in columns if name not in types]
            return KeyError(f"no column {missing}") if missing else Shard(table=file.read(columns), types=types)
    except (pa.ArrowInvalid, OSError) as error:
        return error


def iter_tables(locations: list[str], columns: list[str]) -> Iterator[pa.Table]:
    """Yield the columns `columns` of each Parquet file as a table, one file after another, so that one is in memory at
    a time."""
    for location in locations:
        yield read_table(location, columns)


def iter_tables_of(locations: list[str], columns: pa.Schema) -> Iterator[pa.Table]:
    """Yield the columns `columns` of each Parquet file like `iter_tables`, also of files by earlier versions of vidclf.

    A column that such a file lacks holds nulls. Raises pyarrow.ArrowInvalid if that column must not be null.
    """
    for location in locations:
        filesystem, path = resolve(location)
        known = pq.read_schema(path, filesystem=filesystem).names
        names = [field.name for field in columns if field.name in known or not field.nullable]
        yield completed(read_table(location, names), columns)
