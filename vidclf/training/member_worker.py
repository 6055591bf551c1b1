"""Training of one member (model of an ensemble) in a Ray Train worker, from its last saved state on. [Ray Train]"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import ray
import ray.train
import torch

from vidclf import storage, torch_gpu
from vidclf.config import TrainConfig
from vidclf.ensemble import files
from vidclf.ensemble.member_record import MemberRecord
from vidclf.errors import ConfigError
from vidclf.runs.lease import Guard
from vidclf.training import gpu_memory
from vidclf.training.dataset import TrainingData
from vidclf.training.gpu_memory import Placement
from vidclf.training.member_fit import FittedMember, MemberFit, write_snapshot
from vidclf.training.member_plan import MemberPlan
from vidclf.training.member_state import Epoch, Snapshot
from vidclf.training.state_writer import StateWriter
from vidclf.training.tracking import Tracker

STATE_DIR = "_state"
"""Directory with the saved states of unfinished members: weights, optimizer and history after one of their last
epochs."""

SHARE_FLAG = "--gpus-per-member"
"""Flag that sets the share of a GPU, for messages."""


@dataclass(frozen=True, kw_only=True)
class MemberLoop:
    """Arguments of the worker function `train_member` for one member (model of the ensemble)."""

    index: int
    config: TrainConfig
    plan: MemberPlan
    data: list[Any]
    """the Ray object reference to the member's TrainingData, in a list so that Ray passes the reference and not the
    data"""
    gpus: float
    """fraction of a GPU that is reserved for the worker"""
    tally: Any
    """handle of the Ray actor `tally.Tally`, which gathers counts and messages of all workers"""
    guard: Guard
    """check before writing, which raises if another job has taken over the output directory"""

    def say(self, text: str) -> None:
        """Print a line about this member in the log of the job, through the tally."""
        self.tally.say.remote(f"member {self.index}: {text}")


def train_member(values: dict[str, ray.ObjectRef[MemberLoop]]) -> None:
    """The worker function of Ray Train: train one member (model of the ensemble), and write its weights and marker
    file.

    The marker file is written last. The state of the training is saved from time to time. The next worker continues
    from there, whether Ray Train restarts the member after a crash or the job is submitted again. If the GPU memory is
    too small, the function returns without writing the marker. It does not raise, because Ray Train would only try
    again.
    """
    loop: MemberLoop = ray.get(values["loop"])
    config, index, tally = loop.config, loop.index, loop.tally
    data: TrainingData = ray.get(loop.data[0])
    device = torch_gpu.take_share(loop.gpus)
    first = gpu_memory.placement_on(device, SHARE_FLAG, loop.gpus, config, data)
    try:
        fitted, placement = gpu_memory.within_memory(
            first, config.batch_size, partial(_fit, loop, data, device), loop.say
        )
    except torch.OutOfMemoryError as error:
        loop.say(str(error).splitlines()[0])
        return
    except ConfigError as error:
        # Not raised, because Ray would train the member again, with the same result.
        ray.get(tally.refuse.remote(f"member {index}: {error}"))
        return
    tally.put.remote(f"epochs of {index}", config.epochs)  # after early stopping, the other epochs count as done
    loop.guard.check()
    digest = files.write_member(config.output, index, fitted.state)
    is_on_gpu = device.type == "cuda"
    member = MemberRecord(
        file=files.member_file(index),
        backbone=loop.plan.backbone,
        num_parameters=sum(tensor.numel() for tensor in fitted.state.values()),
        seed=config.seed + index,
        digest=digest,
        recipe=loop.plan.recipe,
        attempts=fitted.num_attempts,
        epochs=len(fitted.history),
        duration_s=sum(epoch.duration_s for epoch in fitted.history),
        precision=torch_gpu.precision(device.type, has_lstm=config.model == "bilstm"),
        placement=asdict(placement) if is_on_gpu else None,
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated(device) if is_on_gpu else None,
        best=asdict(fitted.best),
    )
    publish_record(config.output, index, member, [asdict(epoch) for epoch in fitted.history])
    storage.delete_file(state_file(config.output, index, loop.plan.recipe))
    ray.train.report({"val_macro_f1": fitted.best.val_macro_f1})


def _fit(
    loop: MemberLoop, data: TrainingData, device: torch.device, placement: Placement
) -> tuple[FittedMember, Placement]:
    """The trained member and its `placement` (how it used the GPU's memory). Training continues from the last saved
    state, if there is one."""
    config, index, tally = loop.config, loop.index, loop.tally
    state = state_file(config.output, index, loop.plan.recipe)

    def publish(snapshot: Snapshot) -> None:
        """Write the state of the training to its file."""
        storage.publish(state, partial(write_snapshot, snapshot))

    fit = MemberFit(data, config, config.seed + index, device, placement)
    if storage.exists(state):
        fit.restore(storage.read_bytes(state))
    with Tracker(config.output, index, config, len(fit.history)) as tracker, StateWriter(publish) as states:
        for epoch in fit.history:
            tracker.log(epoch, data.classes)
        while not fit.is_done:
            epoch = fit.run_epoch()
            loop.guard.check()
            states.offer(fit.snapshot)
            tracker.log(epoch, data.classes)
            tally.put.remote(f"epochs of {index}", epoch.number)
            tally.put.remote(f"member {index}", epoch.val_macro_f1)
            loop.say(epoch_text(epoch, fit.best, config, len(data.val.labels)))
    return fit.result(), placement


def epoch_text(epoch: Epoch, best: Epoch, config: TrainConfig, num_val: int) -> str:
    """A line for the log about an epoch. The time left in it is an upper bound, because early stopping may end the
    training.

    `num_val` is the number of validation videos. The line states how many of them are right: among a few videos, one
    more error changes the accuracy a lot.
    """
    left_s = (config.epochs - epoch.number) * epoch.duration_s
    attempt = f" of attempt {epoch.attempt}" if epoch.attempt > 1 else ""
    return (
        f"epoch {epoch.number}/{config.epochs}{attempt}, loss {epoch.train_loss:.3f}, validation loss "
        f"{epoch.val_loss:.3f}, accuracy {epoch.val_accuracy:.3f} ({round(epoch.val_accuracy * num_val)} of {num_val} "
        f"videos), macro F1 {epoch.val_macro_f1:.3f} "
        f"(best {best.val_macro_f1:.3f} at {best.number}), {epoch.duration_s:.1f} s, at most {left_s:.0f} s "
        "left"
    )


def marker(output: str, index: int) -> str:
    """Location of the file that marks a member (model of the ensemble) as finished. It is written last and holds the
    member's record and the figures of its epochs."""
    return storage.join(output, f"member_{index}.json")


def publish_record(output: str, index: int, member: MemberRecord, history: list[dict[str, Any]]) -> None:
    """Write the marker file of a finished member (model of the ensemble), with its record and the figures of its
    epochs."""
    storage.publish_json(marker(output, index), {"member": member.as_json(), "history": history})


def read_record(output: str, index: int) -> MemberRecord:
    """The record of a finished member (model of the ensemble), read from its marker file."""
    return MemberRecord.read(storage.read_json(marker(output, index))["member"])


def state_file(output: str, index: int, recipe: str) -> str:
    """Location of the saved state of an unfinished member. The digest `recipe` of its settings is in the name, so that
    a member with changed settings starts anew."""
    return storage.join(output, STATE_DIR, f"member_{index}-{recipe[:16]}.pt")
