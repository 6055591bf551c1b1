"""Memory that a training job takes on its machine, stated before the features are read.

Members are trained in turns if the machine has not enough memory for all of them at once. A job is refused if not even
the model of one member and its process fit. What a member trains on a GPU is in the GPU's memory.

Counted is memory that no file on a disk backs. Features are mapped from a file (`features/frame_file.py`); the system
keeps as much of it in memory as is free. So the number of videos counts little: for its columns and, while the
ensemble is calibrated, for a few numbers per feature instead of the frames.

Bytes of fixed parts were measured with Ray 2.60 and torch 2.15; `docs/benchmarks/scale.md` compares stated and measured
memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidclf import device, ray_address, storage
from vidclf.config import TrainConfig
from vidclf.errors import ConfigError
from vidclf.features.spec import FeatureSpec
from vidclf.number_words import counted
from vidclf.training import gpu_memory
from vidclf.training.dataset import TrainingData
from vidclf.training.member_worker import marker

JOB_BYTES = 610_000_000
"""Memory of the process of the job, with torch and Ray."""

RAY_BYTES = 500_000_000
"""Memory of the processes of Ray on a machine where it starts for the job."""

MEMBER_BYTES = 1_250_000_000
"""Memory of the processes of Ray Train for a member: its worker with torch, the controller of its run, and four
actors. The model comes on top of it."""

VIDEO_BYTES = 3_000
"""Memory per video for its columns (location, id, label, source), lists and scores."""

CALIBRATION_BYTES_PER_FEATURE = 20
"""Most memory per video and feature that a stage of the calibration takes: the fit of the linear member, with mean and
standard deviation in float32, both once more standardised, and a remainder. The other stages take less."""

CGROUP = Path("/sys/fs/cgroup")
"""Directory in which Linux states the limits of a container."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Memory of a machine or container, in bytes."""

    total_bytes: int
    available_bytes: int
    """memory that new processes can take without swapping"""


@dataclass(frozen=True, kw_only=True)
class HostMemory:
    """Memory, in bytes, that a training job takes on the machine on which it was started."""

    fixed_bytes: int
    """the process of the job, and Ray if it starts on this machine"""
    member_bytes: int
    """the training of one member (model of the ensemble); 0 if members are trained on other machines"""
    model_bytes: int
    """part of `member_bytes` for weights and activations"""
    num_members: int
    """members to train"""
    num_at_once: int
    """members that are trained at the same time"""
    calibration_bytes: int
    """rows of all videos that calibration has in memory, after the members have been trained"""
    columns_bytes: int
    """columns of all videos"""

    @property
    def peak_bytes(self) -> int:
        """Bytes of the part of the job that takes the most: the training of the members, or the calibration."""
        largest = max(self.num_at_once * self.member_bytes, self.calibration_bytes)
        return self.fixed_bytes + self.columns_bytes + largest

    @property
    def least_bytes(self) -> int:
        """Bytes without which the job cannot end, however it is run: the process of the job, and the model of one
        member or the rows of the calibration. The processes of Ray are left out, because their size varies."""
        return JOB_BYTES + self.columns_bytes + max(self.model_bytes, self.calibration_bytes)

    def line(self, num_videos: int, machine: Machine) -> str:
        """A line for the log: how much memory the job takes, what for, and how much the machine has."""
        parts = [f"{_gb(self.fixed_bytes)} for the job"]
        if self.num_members and self.member_bytes:
            members = counted(self.num_members, "member")
            if self.num_at_once < self.num_members:
                members = f"{self.num_at_once} of {members} at a time"
            parts.append(f"{_gb(self.num_at_once * self.member_bytes)} for {members}")
        rows_bytes = self.columns_bytes + self.calibration_bytes
        parts.append(f"{_gb(rows_bytes)} for {counted(num_videos, 'video')} while they are calibrated")
        text = f"memory: about {_gb(self.peak_bytes)} of {_gb(machine.total_bytes)}: {', '.join(parts)}"
        if self.peak_bytes > machine.available_bytes:
            text += f"; other processes leave {_gb(machine.available_bytes)}, which may be too little"
        return text


def host_memory(config: TrainConfig, specs: Sequence[FeatureSpec], num_videos: int, machine: Machine) -> HostMemory:
    """Memory of a training job on `machine` over the features of `num_videos` videos, from one backbone per entry of
    `specs`.

    Members that the output already holds are not trained again. They are trained on this machine unless the environment
    names a cluster.
    """
    is_here = _trains_here()
    is_imported = config.import_reference is not None
    done = [] if config.overwrite else [storage.exists(marker(config.output, i)) for i in range(config.members)]
    num_missing = 0 if is_imported else config.members - sum(done)
    # The folds of a cross-validation are trained one after the other.
    num_members = max(num_missing, config.members if config.folds else 0)
    fixed_bytes = JOB_BYTES + (RAY_BYTES if is_here else 0)
    columns_bytes = VIDEO_BYTES * num_videos
    is_on_gpu = config.gpus_per_member > 0 and device.num_here() > 0
    models = [gpu_memory.model_memory(config, spec.feature_dim, spec.plan.num_frames) for spec in specs]
    largest_model = max(each.model_bytes for each in models)
    model_bytes = largest_model if is_here and num_members and not is_on_gpu else 0
    member_bytes = MEMBER_BYTES + model_bytes if is_here else 0
    return HostMemory(
        fixed_bytes=fixed_bytes,
        member_bytes=member_bytes,
        model_bytes=model_bytes,
        num_members=num_members,
        num_at_once=_num_fitting(machine.available_bytes - fixed_bytes - columns_bytes, member_bytes, num_members),
        calibration_bytes=CALIBRATION_BYTES_PER_FEATURE * sum(spec.feature_dim for spec in specs) * num_videos,
        columns_bytes=columns_bytes,
    )


def check(config: TrainConfig, specs: Sequence[FeatureSpec], num_videos: int) -> str:
    """The line on the memory that the job takes. Raises ConfigError if this machine does not have so much, whatever
    other processes take of it at the moment."""
    machine = this_machine()
    memory = host_memory(config, specs, num_videos, machine)
    if memory.least_bytes <= machine.total_bytes:
        return memory.line(num_videos, machine)
    needs = f"takes at least {_gb(memory.least_bytes)} of memory on this machine, which has {_gb(machine.total_bytes)}"
    if memory.calibration_bytes > memory.model_bytes:
        videos = counted(num_videos, "video")
        raise ConfigError(
            f"--features {','.join(config.features)}: calibrating {videos} {needs}; train on a machine with more memory"
        )
    raise ConfigError(
        f"--batch-size {config.batch_size}: training one member {needs}; give a smaller --batch-size or a smaller "
        "--hidden-dim, or train on a cluster (RAY_ADDRESS)"
    )


def num_at_once(config: TrainConfig, data: Sequence[TrainingData], num_members: int, gpus: float) -> int:
    """How many of `num_members` members to train at the same time, so that they fit into the memory that is free now:
    at least one, and all if they are trained on a cluster.

    `data` has the videos of each backbone; `gpus` is the fraction of a GPU that each member has, 0 for none.
    """
    if not _trains_here():
        return num_members
    models = [gpu_memory.member_memory(config, each) for each in data]
    largest_model = 0 if gpus else max(each.model_bytes for each in models)
    return _num_fitting(this_machine().available_bytes, MEMBER_BYTES + largest_model, num_members)


def _num_fitting(free_bytes: int, member_bytes: int, num_members: int) -> int:
    """How many of `num_members` members fit into `free_bytes` at once; at least one, if there is one."""
    return min(max(free_bytes // member_bytes, 1), num_members) if member_bytes else num_members


def _trains_here() -> bool:
    """Whether members are trained on this machine: whether the environment names no cluster."""
    return ray_address.named_cluster(os.environ) is None


def this_machine() -> Machine:
    """The memory of this machine, or of its container if that is limited to less."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:  # no container with limits (cgroup v2)
        limit = "max"
    if limit == "max":
        return Machine(total_bytes=total, available_bytes=available)
    left = int(limit) - int(statistics["anon"]) - int(statistics.get("shmem", 0))
    return Machine(total_bytes=min(total, int(limit)), available_bytes=min(available, left))


def _gb(num_bytes: int) -> str:
    """Text of a number of bytes in GB."""
    return f"{num_bytes / 1e9:.1f} GB"
