"""A training whose worker and driver are killed ends with the same result after a resubmission."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support import training_job
from tests.support.processes import DEADLINE_S, Job
from vidclf.training.dataset import training_data
from vidclf.training.member_fit import fit_member
from vidclf.training.member_state import Epoch


def epochs_done(output: Path) -> int:
    """Number of epochs in the last state of an unfinished member; 0 without a state."""
    states = list(output.glob("_state/*.pt"))
    return torch.load(states[0], weights_only=True)["number"] if states else 0


def test_a_killed_worker_and_a_killed_driver_cost_no_epoch_but_the_one_in_flight(
    tmp_path: Path, ray_session: str
) -> None:
    output = tmp_path / "ensemble"
    first = Job(output, tmp_path / "first.log")
    try:
        first.until(lambda: epochs_done(output) >= 2)
        worker = first.worker()
        assert worker is not None
        worker.kill()
        at_worker = epochs_done(output)
        # The member continues in another process of the same job.
        first.until(lambda: epochs_done(output) >= at_worker + 2)
        assert first.worker() != worker
    finally:
        first.kill()
    at_driver = epochs_done(output)
    assert 4 <= at_driver < 40
    assert not (output / "ensemble.json").exists()
    second = Job(output, tmp_path / "second.log", ray_address=ray_session)
    assert second.process.wait(timeout=DEADLINE_S) == 0, (tmp_path / "second.log").read_text()

    marker = json.loads((output / "member_0.json").read_text())
    history = [replace(Epoch(**epoch), duration_s=0.0) for epoch in marker["history"]]
    config = training_job.config(str(output))
    alone = fit_member(training_data(training_job.features()), config, training_job.SEED, torch.device("cpu"))
    assert history == [replace(epoch, duration_s=0.0) for epoch in alone.history]
    state = load_file(output / "member_0.safetensors")
    assert all(torch.equal(state[key], value) for key, value in alone.state.items())
    # Each process logged each of its epochs once, and no state remains.
    logged_epochs = [
        int(line.split("epoch ")[1].split("/")[0])
        for line in (tmp_path / "second.log").read_text().splitlines()
        if line.startswith("member 0: epoch")
    ]
    assert logged_epochs == sorted(set(logged_epochs))
    assert min(logged_epochs) == at_driver + 1
    assert list(output.glob("_state/*.pt")) == []
    assert len(list(output.glob("tensorboard/member_0/events*"))) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_member_on_a_gpu_learns_as_one_on_the_cpu() -> None:
    data, config = training_data(training_job.features()), training_job.config("unused")
    on_cpu, on_gpu = (fit_member(data, config, 0, torch.device(name)).best for name in ("cpu", "cuda"))
    assert abs(on_cpu.val_loss - on_gpu.val_loss) < 0.1
