"""Weights files of an ensemble's members, and loading a whole ensemble from its directory."""

from __future__ import annotations

import hashlib

import safetensors.torch
import torch
from torch import Tensor

from vidclf import storage
from vidclf.backbones.openvino_engine import has_bf16
from vidclf.ensemble.bf16 import PrecisionProbe, to_bf16
from vidclf.ensemble.calibration_file import read_trust
from vidclf.ensemble.checked import load_linear as load_linear
from vidclf.ensemble.inference import Ensemble
from vidclf.ensemble.info import ENSEMBLE_FILE, MembersInfo, read_info
from vidclf.ensemble.model_kinds import build_model
from vidclf.ensemble.temporal_model import TemporalModel
from vidclf.ensemble.weights_file_check import check_finite, check_member_file
from vidclf.errors import ConfigError


def member_file(index: int) -> str:
    """Name of the weights file of the member with this index."""
    return f"member_{index}.safetensors"


def write_member(directory: str, index: int, state: dict[str, Tensor]) -> str:
    """Write the weights file of one member and return the SHA-256 of the file."""
    content = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
    storage.publish_bytes(storage.join(directory, member_file(index)), content)
    return hashlib.sha256(content).hexdigest()


def load(directory: str, device: torch.device, precision: str = "fp32") -> Ensemble:
    """Load the ensemble in a directory, ready to classify on `device`.

    `precision` is the number format of the members on a CPU: fp32, bf16 or auto. With auto, bf16 is taken if the
    processor supports it and gives nearly the same probabilities on the stored test videos (`PrecisionProbe`). On a GPU
    members always run in TF32.

    Raises ConfigError if a member is missing, does not have the sizes in `ensemble.json`, or has weights that are not
    finite.
    """
    info = read_info(directory)
    for index in range(len(info.members)):
        _check_member(directory, info, index)
    members = [load_member(directory, info, index).eval() for index in range(len(info.members))]
    trust, linear = read_trust(directory, info), load_linear(directory, info)
    # The device is checked first: `has_bf16` loads OpenVINO, which a worker on a GPU does not need.
    is_on_cpu = device.type == "cpu"
    may_choose = is_on_cpu and precision == "auto" and trust.probe is not None and has_bf16()
    if is_on_cpu and (precision == "bf16" or may_choose):
        in_bf16 = Ensemble(info, [to_bf16(member) for member in members], trust, device, linear)
        if precision == "bf16" or (trust.probe is not None and _agrees(in_bf16, trust.probe)):
            return in_bf16
    return Ensemble(info, members, trust, device, linear)


def _agrees(in_bf16: Ensemble, probe: PrecisionProbe) -> bool:
    """Whether the ensemble in bfloat16 gives nearly the same probabilities on the stored test videos (`probe`) as
    float32 did."""
    return probe.agrees(in_bf16(probe.sequences_S, tta=True).view_probabilities_VBC)


def load_member(directory: str, info: MembersInfo, index: int) -> TemporalModel:
    """Load the member with this index, on the CPU.

    Raises ConfigError if its file is missing, is not the one that `ensemble.json` lists, does not have the sizes stated
    there, or has weights that are not finite.
    """
    path = storage.join(directory, info.members[index].file)
    _check_member(directory, info, index)
    model = build_model(_feature_dim(info, index), info.hierarchy.num_outputs, info.model)
    try:
        content = storage.read_bytes(path)
        if hashlib.sha256(content).hexdigest() != info.members[index].digest:
            raise ConfigError(f"--ensemble {path}: is not the file that {ENSEMBLE_FILE} lists (digest differs)")
        state = safetensors.torch.load(content)
        check_finite(path, state)
        model.load_state_dict(state)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ConfigError(f"--ensemble {path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    return model


def _check_member(directory: str, info: MembersInfo, index: int) -> None:
    """Raise ConfigError unless the weights file of a member has tensors of the sizes in `ensemble.json`. Reads only the
    file's header."""
    path = storage.join(directory, info.members[index].file)
    check_member_file(path, _feature_dim(info, index), info.hierarchy.num_outputs, info.model)


def _feature_dim(info: MembersInfo, index: int) -> int:
    """Number of features per frame that the member with this index takes."""
    return info.backbones[info.spaces_M[index]].feature_dim
