"""Helpers for Arrow tables: check a table against its schema, and convert between Arrow and numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def writable_view(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Array on the same memory as `array` that is marked as writable, although it must only be read.

    Arrays from Arrow buffers and from Ray's object store are marked as read-only, and torch warns about such arrays.
    """
    if array.flags.writeable:
        return array
    interface = {**array.__array_interface__, "data": (array.__array_interface__["data"][0], False)}
    holder = type("_Holder", (), {"__array_interface__": interface, "owner": array})()
    return np.asarray(holder)


def vectors(values_BC: npt.NDArray[np.float32]) -> pa.Array:
    """Arrow array of B fixed-size lists with C float32 values each, from a numpy array [B rows, C values]."""
    flat = np.ascontiguousarray(values_BC, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values_BC.shape[1])


def nested_list(lengths: Sequence[int | None], values: pa.Array) -> pa.Array:
    """Arrow array of lists: list i holds the next `lengths[i]` elements of `values`, or is null if `lengths[i]` is
    None."""
    offsets = np.cumsum([0, *[length or 0 for length in lengths]]).astype(np.int32)
    mask = pa.array([length is None for length in lengths])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


def column_types(columns: pa.Schema) -> dict[str, str]:
    """Types of the columns as texts, by column name.

    A type has the same text before a table is written to Parquet and after: Parquet calls the items of a list
    `element`, Arrow calls them `item`, and here they are always `element`.
    """
    return {field.name: str(field.type).replace("<item: ", "<element: ") for field in columns}


def combined(column: pa.ChunkedArray) -> pa.Array:
    """Values of a table column as one Arrow array; they are copied only if the column has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


class SchemaError(ValueError):
    """A table does not match the schema of its file: a column is missing, unexpected, of another type, or null where
    the schema allows no null."""


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """`table` with its columns in the order of `schema`.

    Raises SchemaError if a column is missing, unexpected (columns are not dropped here) or of another type, or if a
    column that must not hold nulls holds one. `what` names the table in the message.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    extra = [name for name in table.column_names if name not in schema.names]
    if missing or extra:
        raise SchemaError(f"{what}: columns missing {missing}, unexpected {extra}")
    table = table.select(schema.names)
    for field in schema:
        column = table.column(field.name)
        if column.type != field.type:
            raise SchemaError(f"{what}: column {field.name!r} must be {field.type}, is {column.type}")
        if not field.nullable and column.null_count:
            raise SchemaError(f"{what}: column {field.name!r} has {column.null_count} nulls")
    return table.cast(schema)


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with a column of nulls for each column of `schema` that it lacks, if that column may be null.

    An earlier version of vidclf wrote the table, before the column was added.
    """
    for field in schema:
        if field.nullable and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
