"""Backbones in ONNX files. OpenVINO reads them, and no torch is involved.

The file must have one input, images [N, 3, H, W] in float32, and one output of two dimensions, features [N, D]. The
preprocessing lies beside it, in one of two files:

- `FILE.json` with timm's entries `input_size`, `interpolation`, `crop_pct`, `crop_mode`, `mean` and `std`, at the top
  or under `pretrained_cfg`,
- `preprocessor_config.json`, as the Hugging Face library `transformers` writes it for image models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf import storage
from vidclf.backbones import openvino_engine
from vidclf.backbones.agreement import reference_photos
from vidclf.backbones.backbone_model import BackboneModel
from vidclf.backbones.catalog import Preprocessing
from vidclf.backbones.checkpoint_files import read_config
from vidclf.backbones.frame_settings import check_interpolation, preprocessing_of_timm
from vidclf.backbones.openvino_engine import ConversionError, OpenVinoModel, OpenVinoSession
from vidclf.errors import ConfigError
from vidclf.video.frame_transform import FrameTransform

FILE = "onnx.file"
"""Name of the ONNX file's bytes among the weights of a backbone."""

RESAMPLINGS = {2: "bilinear", 3: "bicubic"}
"""Methods of scaling by their number in Pillow, which `preprocessor_config.json` states."""


def named(name: str, weights: str, location: str) -> BackboneModel:
    """Return the description of the ONNX file `location`, a path or URI.

    `weights` must be `DEFAULT`, or a file of 8-bit weights. Raises ConfigError for a file that cannot be read or has
    other inputs or outputs, and without preprocessing beside it.
    """
    if weights == "random":
        raise ConfigError(f"--weights random: an ONNX file has its own weights, give DEFAULT for --backbone {name}")
    preprocessing = _preprocessing(name, location)
    model = BackboneModel(
        name=name,
        weights=weights,
        library="onnx",
        architecture="onnx",
        feature_dim=0,
        preprocessing=preprocessing,
        checkpoint=location,
    )
    try:
        network = with_normalisation(model, read_file(location))
    except ConversionError as error:
        raise ConfigError(f"--backbone {name}: {error}") from error
    return BackboneModel(**{**vars(model), "feature_dim": network.output(0).partial_shape[1].get_length()})


def read_file(location: str) -> npt.NDArray[np.uint8]:
    """Return the bytes of an ONNX file. Raises ConversionError if it cannot be read."""
    try:
        return np.frombuffer(storage.read_bytes(location), np.uint8)
    except OSError as error:
        raise ConversionError(f"{location} cannot be read ({error})") from error


def is_onnx(state: Mapping[str, Any]) -> bool:
    """Return whether the weights `state` of a backbone are an ONNX file."""
    return FILE in state


def converted(model: BackboneModel, state: Mapping[str, npt.NDArray[np.generic]]) -> OpenVinoModel:
    """Return the backbone in OpenVINO's representation, with its features of the reference photos in fp32.

    Raises ConversionError if OpenVINO cannot run the file.
    """
    graph, constants = openvino_engine.saved(with_normalisation(model, state[FILE].view(np.uint8)))
    probe_THWC = reference_photos(model.side)
    try:
        probed_TD = OpenVinoSession(graph, constants, "fp32")(probe_THWC)
    except RuntimeError as error:
        raise ConversionError(
            f"OpenVINO cannot run it for several frames at once; export it with a free first dimension ({_line(error)})"
        ) from error
    if probed_TD.shape != (len(probe_THWC), model.feature_dim) or not np.isfinite(probed_TD).all():
        raise ConversionError(
            f"its features of {len(probe_THWC)} photos have shape {probed_TD.shape}, or are not finite"
        )
    return OpenVinoModel(graph=graph, weights=constants, probe_THWC=probe_THWC, probed_TD=probed_TD)


def with_normalisation(model: BackboneModel, file: npt.NDArray[np.uint8]) -> Any:
    """Return OpenVINO's model object of an ONNX file: frames [T, H, W, 3] uint8 in, features [T, D] float32 out.

    Raises ConversionError if OpenVINO cannot read the file, and for other inputs or outputs.
    """
    openvino = openvino_engine.openvino()
    from openvino.preprocess import PrePostProcessor

    try:
        network = openvino.Core().read_model(file.tobytes())
        if len(network.inputs) != 1 or len(network.inputs[0].partial_shape) != 4:
            raise ConversionError("the ONNX file must have one input, images [N, 3, H, W]")
        features = [output for output in network.outputs if len(output.partial_shape) == 2]
        if len(features) != 1:
            shapes = [str(output.partial_shape) for output in network.outputs]
            raise ConversionError(f"the ONNX file must have one output of features [N, D], its outputs are {shapes}")
        network.reshape([-1, 3, model.side, model.side])
        network = openvino.Model([features[0]], network.get_parameters(), "backbone")
        steps = PrePostProcessor(network)
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        normalisation = steps.input().preprocess().convert_element_type(openvino.Type.f32)
        normalisation.mean([255 * value for value in model.preprocessing.mean])
        normalisation.scale([255 * value for value in model.preprocessing.std])
        steps.output().tensor().set_element_type(openvino.Type.f32)
        network = steps.build()
    except RuntimeError as error:
        raise ConversionError(
            f"OpenVINO cannot read the ONNX file for frames of {model.side} × {model.side} pixels ({_line(error)})"
        ) from error
    if not network.output(0).partial_shape[1].is_static:
        raise ConversionError("the ONNX file must state the number of its features")
    return network


def _line(error: Exception) -> str:
    """Return the last line of an error of OpenVINO, which states the cause."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _preprocessing(name: str, location: str) -> Preprocessing:
    """Return the preprocessing that lies beside the ONNX file. Raises ConfigError if there is none."""
    own, shared = f"{location}.json", storage.join(location.rpartition("/")[0], "preprocessor_config.json")
    if storage.exists(own):
        values = read_config(name, own)
        return preprocessing_of_timm(name, values.get("pretrained_cfg", values))
    if storage.exists(shared):
        return preprocessing_of_transformers(name, read_config(name, shared))
    raise ConfigError(f"--backbone {name}: needs its preprocessing beside it, in {own} or {shared}")


def preprocessing_of_transformers(name: str, values: dict[str, Any]) -> Preprocessing:
    """Return the preprocessing in a `preprocessor_config.json`. Raises ConfigError if `FrameTransform` has no equal."""
    size = values.get("size", {})
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = values.get("crop_size") if values.get("do_center_crop") else None
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    is_short = "shortest_edge" in size
    side = int(size.get("shortest_edge") or size.get("height") or 0)
    cut = crop or size
    factor = values.get("rescale_factor", 1 / 255)
    is_known = side and (is_short or size.get("height") == size.get("width")) and (crop is not None or not is_short)
    if not is_known or cut.get("height") != cut.get("width") or abs(255 * factor - 1) > 1e-3:
        raise ConfigError(
            f"--backbone {name}: its preprocessor_config.json must scale to a square, by `size` and `crop_size`, and "
            f"rescale by 1/255; has size {size}, crop_size {crop}, rescale_factor {factor}; write {name}.json instead"
        )
    interpolation = RESAMPLINGS.get(values.get("resample", 2), f"number {values.get('resample')}")
    check_interpolation(name, interpolation)
    transform = FrameTransform(
        resize_size=side,
        crop_size=cut["height"],
        interpolation=interpolation,
        crop_mode="center" if is_short else "squash",
    )
    is_normalised = values.get("do_normalize", True)
    mean, std = (values["image_mean"], values["image_std"]) if is_normalised else ((0.0,) * 3, (1.0,) * 3)
    return Preprocessing(transform=transform, mean=tuple(mean), std=tuple(std))
