"""Conversion between NumPy arrays of frame features and the Arrow table column `features`, and a check of its values.

Shape suffixes: T frames, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf.arrow import nested_list


def features_column(features_TD: Sequence[npt.NDArray[np.float16] | None], feature_dim: int) -> pa.Array:
    """Build the Arrow column `features` from one float16 array [frames, features] per video; None becomes null.

    Its type is list<fixed_size_list<float16, `feature_dim`>>. Built from one concatenated buffer, without a Python loop
    over values.
    """
    present_TD = [rows_TD for rows_TD in features_TD if rows_TD is not None]
    values_TD = np.concatenate(present_TD or [np.empty((0, feature_dim), np.float16)])
    return nested_list(
        [None if rows_TD is None else len(rows_TD) for rows_TD in features_TD],
        pa.FixedSizeListArray.from_arrays(
            pa.array(values_TD.astype(np.float16, copy=False).reshape(-1)),
            feature_dim,
        ),
    )


def features_TD(row: pa.ListScalar) -> npt.NDArray[np.float16]:
    """Convert one value of the Arrow column `features` (one video) to a float16 array [frames, features]."""
    frames = row.values
    flat: npt.NDArray[np.float16] = frames.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(frames), frames.type.list_size)


def are_finite(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bool_]:
    """Whether all values of a video are finite, for each video of the Arrow column `features`."""
    return np.array([np.isfinite(features_TD(row)).all() for row in column], bool)
