"""Rows of a Parquet file from someone else, read in pieces and given up where they are more than its size can mean.

Parquet stores a repeated value once: half a megabyte may stand for 20 million rows, which would take gigabytes as
Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from vidclf import storage
from vidclf.errors import ConfigError

ROWS_AT_A_TIME = 16_384

MOST_EXPANSION = 200
"""Bytes of text that a byte of the file may stand for. Sequential paths under zstd reach some 20."""

UNCHECKED_BYTES = 64 * 1024**2
"""Bytes of text up to which the file's size does not matter."""


def bounded_batches(
    location: str, columns: tuple[str, ...], key: tuple[str, ...], flag: str
) -> Iterator[pa.RecordBatch]:
    """The columns among `columns` that the file holds, some rows at a time.

    Raises ConfigError, naming `flag`, as soon as the text of the columns `key`, whose values are distinct in a good
    file, is more than the file can hold. Raises what pyarrow raises where it is no Parquet file.
    """
    filesystem, path = storage.resolve(location)
    with filesystem.open_input_file(path) as stream:
        file_bytes = stream.size()
        most_bytes = max(UNCHECKED_BYTES, MOST_EXPANSION * file_bytes)
        file = pq.ParquetFile(stream)
        held = [name for name in columns if name in file.schema_arrow.names]
        num_rows = num_bytes = 0
        for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=held):
            yield batch
            num_rows += batch.num_rows
            num_bytes += sum(batch[name].nbytes for name in held if name in key)
            if num_bytes > most_bytes:
                raise ConfigError(
                    f"{flag} {location}: must name each video once, holds {file.metadata.num_rows} rows in "
                    f"{file_bytes} bytes, whose first {num_rows} are {num_bytes} bytes of text"
                )
