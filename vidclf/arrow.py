"""Arrow helpers: checking a table against its schema, and conversion between Arrow and numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def writable_view(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of the same memory that is marked as writable, for code that only reads.

    Arrays from Arrow buffers and from Ray's object store are marked as read-only, and torch warns about those.
    """
    if array.flags.writeable:
        return array
    interface = {**array.__array_interface__, "data": (array.__array_interface__["data"][0], False)}
    holder = type("_Holder", (), {"__array_interface__": interface, "owner": array})()
    return np.asarray(holder)


def vectors(values_BC: npt.NDArray[np.float32]) -> pa.Array:
    """An array [B, C] as a float32 Arrow column of B fixed-size lists of length C."""
    flat = np.ascontiguousarray(values_BC, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values_BC.shape[1])


def nested_list(lengths: Sequence[int | None], values: pa.Array) -> pa.Array:
    """A column of lists with the given lengths, cut one after another from `values`; a length of None gives a null."""
    offsets = np.cumsum([0, *[length or 0 for length in lengths]]).astype(np.int32)
    mask = pa.array([length is None for length in lengths])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


def column_types(columns: pa.Schema) -> dict[str, str]:
    """The type of each column as text, by column name.

    The text is the same before and after a file was written: Parquet names the items of a list `element`, Arrow
    names them `item`.
    """
    return {field.name: str(field.type).replace("<item: ", "<element: ") for field in columns}


def combined(column: pa.ChunkedArray) -> pa.Array:
    """The values of a column in one array; copied only if the column has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


class SchemaError(ValueError):
    """A table does not match the schema that its stage must write."""


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Return `table` with exactly the columns of `schema`, in its order.

    Raises SchemaError for a missing column, an additional one, another type, or a null in a column that must not hold
    nulls; `what` names the table in the message. A caller that wants to drop columns must do so before.
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
