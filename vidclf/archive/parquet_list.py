"""Batches of rows of a user's Parquet file, refused if the file expands to far more text than its size suggests.

Parquet stores a repeated value once: half a megabyte may expand to 20 million rows, which would take gigabytes as
Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from vidclf import storage
from vidclf.errors import ConfigError

BATCH_ROWS = 16_384
"""Number of rows that are read at once."""

MOST_EXPANSION = 200
"""Largest allowed number of bytes of text per byte of the file.

Paths with consecutive numbers, compressed with zstd, reach about 20.
"""

UNCHECKED_BYTES = 64 * 1024**2
"""Bytes of text that a file of any size may expand to without being refused."""


def bounded_batches(
    location: str, columns: tuple[str, ...], key: tuple[str, ...], flag: str
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file in batches, with those of `columns` that the file has.

    `key` names the columns whose values should be distinct, such as the location. Raises ConfigError, which names the
    flag `flag`, as soon as their text exceeds what a file of this size can hold. Raises pyarrow's errors if the file
    is not a Parquet file.
    """
    filesystem, path = storage.resolve(location)
    with filesystem.open_input_file(path) as stream:
        file_bytes = stream.size()
        most_bytes = max(UNCHECKED_BYTES, MOST_EXPANSION * file_bytes)
        file = pq.ParquetFile(stream)
        present = [name for name in columns if name in file.schema_arrow.names]
        num_rows = num_bytes = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=present):
            yield batch
            num_rows += batch.num_rows
            num_bytes += sum(batch[name].nbytes for name in present if name in key)
            if num_bytes > most_bytes:
                raise ConfigError(
                    f"{flag} {location}: must name each video once, holds {file.metadata.num_rows} rows in "
                    f"{file_bytes} bytes, whose first {num_rows} are {num_bytes} bytes of text"
                )
