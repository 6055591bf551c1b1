"""Checks of a member's weights file, which may come from an untrusted source, and the header of any safetensors file.

The header is compared with the sizes in `ensemble.json` before memory is allocated for either. A safetensors
file begins with 8 bytes for the length of the header (little-endian), followed by the header: JSON that maps the name
of each tensor to its `dtype`, `shape` and `data_offsets` (huggingface/safetensors, README, Format).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidclf import storage
from vidclf.config import ModelConfig
from vidclf.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 16 * 1024**2
"""Largest header of a weights file that is read, in bytes. The header of a member has about 10 KB."""

MAX_MEMBERS = 256
"""Largest number of members that an ensemble may have."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")

ITEM_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}
"""Bytes per number of each number format of safetensors that an ensemble's files use."""

Shapes = dict[str, tuple[int, ...]]
"""Shape of each tensor by its name."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Names, shapes and number formats in a safetensors file, without its numbers."""

    shapes: Shapes
    dtypes: dict[str, str]
    """number format of each tensor by its name, as safetensors names it: a key of `ITEM_BYTES`"""


def is_plain_name(name: object) -> bool:
    """Whether `name` is a plain file name, which cannot point outside the ensemble's directory: no path and no hidden
    file."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None


def check_member_file(location: str, feature_dim: int, num_outputs: int, config: ModelConfig) -> None:
    """Raise ConfigError unless the header of a weights file lists exactly the tensors of a member with these sizes.

    Neither the tensors of the file nor those of the model are held in memory.
    """
    # Imported here, because a job that only reads headers starts without torch.
    import torch

    from vidclf.ensemble.model_kinds import build_model

    shapes = read_header(location).shapes
    stacked = {"num_lstm_layers": config.num_lstm_layers, "classifier_dims": len(config.classifier_dims)}
    for field, number in stacked.items():
        if field in config.sizes and number > len(shapes):
            raise ConfigError(
                f"--ensemble {location}: must hold the weights of {number} layers ({field} in ensemble.json), "
                f"holds {len(shapes)} tensors"
            )
    try:
        with torch.device("meta"):
            expected = {
                name: tuple(tensor.shape)
                for name, tensor in build_model(feature_dim, num_outputs, config).state_dict().items()
            }
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ConfigError(
            f"--ensemble {location}: the sizes in ensemble.json make no model ({str(error).splitlines()[0]})"
        ) from error
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise ConfigError(
                f"--ensemble {location}: tensor {name} must have the shape {_text(expected.get(name))} by the sizes in "
                f"ensemble.json, has {_text(shapes.get(name))}"
            )


def check_finite(location: str, state: Mapping[str, Tensor]) -> None:
    """Raise ConfigError if a weight in `state` is NaN or infinite, since every probability would then be NaN."""
    import torch

    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"--ensemble {location}: weights must be finite, {name} holds NaN or infinity")


def read_header(location: str) -> Header:
    """Read the header of a safetensors file of an ensemble.

    Raises ConfigError if it cannot be read, if it states a number format that no such file has, or if the file does not
    have the length of the tensors in the header. So reading the file afterwards takes as much memory as they do.
    """
    filesystem, path = storage.resolve(location)
    try:
        with filesystem.open_input_file(path) as stream:
            file_bytes = stream.size()
            num_bytes = int.from_bytes(stream.read(8), "little")
            if num_bytes > min(MAX_HEADER_BYTES, file_bytes - 8):
                raise ConfigError(
                    f"--ensemble {location}: its header must have at most {MAX_HEADER_BYTES} bytes and lie in the "
                    f"file, states {num_bytes} in a file of {file_bytes}"
                )
            entries: dict[str, Any] = json.loads(stream.read(num_bytes))
        entries.pop("__metadata__", None)
        header = Header(
            shapes={name: tuple(_size(size) for size in entry["shape"]) for name, entry in entries.items()},
            dtypes={name: str(entry["dtype"]) for name, entry in entries.items()},
        )
        stated_bytes = (
            8
            + num_bytes
            + sum(math.prod(shape) * ITEM_BYTES[header.dtypes[name]] for name, shape in header.shapes.items())
        )
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"--ensemble {location}: cannot be loaded ({str(error).splitlines()[0]})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"--ensemble {location}: not a safetensors file ({error!r})") from error
    if file_bytes != stated_bytes:
        raise ConfigError(
            f"--ensemble {location}: must have {stated_bytes} bytes by the shapes in its header, has {file_bytes}"
        )
    return header


def _size(value: Any) -> int:
    """A size in a header. Raises ValueError unless it is a number from 0."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"a size must be a number from 0, got {value!r}")
    return value


def _text(shape: tuple[int, ...] | None) -> str:
    """The shape as text for a message; `none` for a tensor that is absent."""
    return "none" if shape is None else str(list(shape))
