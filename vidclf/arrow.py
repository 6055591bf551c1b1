"""Arrow helpers: checking a table against its schema, and converting between Arrow and numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def writable_view(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same memory under an array that does not say it is read-only, as Arrow's buffers and Ray's
    object store do: torch warns of such. For those who only read."""
    if array.flags.writeable:
        return array
    interface = {**array.__array_interface__, "data": (array.__array_interface__["data"][0], False)}
    holder = type("_Holder", (), {"__array_interface__": interface, "owner": array})()
    return np.asarray(holder)


def vectors(values_BC: npt.NDArray[np.float32]) -> pa.Array:
    """Rows as fixed-size lists."""
    flat = np.ascontiguousarray(values_BC, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values_BC.shape[1])


def nested_list(lengths: Sequence[int | None], values: pa.Array) -> pa.Array:
    """`values` cut into lists of `lengths`; None makes a null."""
    offsets = np.cumsum([0, *[length or 0 for length in lengths]]).astype(np.int32)
    mask = pa.array([length is None for length in lengths])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


def column_types(columns: pa.Schema) -> dict[str, str]:
    """The type of each column as text, the same before and after Parquet, which calls a list's items
    otherwise than Arrow does."""
    return {field.name: str(field.type).replace("<item: ", "<element: ") for field in columns}


def combined(column: pa.ChunkedArray) -> pa.Array:
    """A column's values in one array; where they are in one already, that."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


class SchemaError(ValueError):
    """A table does not keep the contract of the stage that wrote it."""


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Return `table` with exactly `schema`'s columns in its order, or raise `SchemaError`.

    Extra columns are dropped on purpose by the caller, never here: a column too many is as much an
    error as one too few. Raises also where a null stands in a column that may not hold one.
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
