"""Conversion between feature arrays [T, D] and the `features` column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf.arrow import nested_list


def features_column(features_TD: Sequence[npt.NDArray[np.float16] | None], feature_dim: int) -> pa.Array:
    """Rows of [T, D] float16 (None: null) as list<fixed_size_list<D>>, without a Python loop over values."""
    return nested_list(
        [None if rows is None else len(rows) for rows in features_TD],
        pa.FixedSizeListArray.from_arrays(
            pa.array(
                np.concatenate(
                    [rows for rows in features_TD if rows is not None] or [np.empty((0, feature_dim), np.float16)]
                )
                .astype(np.float16, copy=False)
                .reshape(-1)
            ),
            feature_dim,
        ),
    )


def features_TD(row: pa.ListScalar) -> npt.NDArray[np.float16]:
    """One row of the `features` column as [T, D] float16."""
    inner = row.values
    flat: npt.NDArray[np.float16] = inner.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(inner), inner.type.list_size)
