"""Training of the members of an ensemble in the process of the test, by the function that Ray Train's workers run.

It is for tests of what is trained. Ray Train starts five processes per member, which take longer than a small training.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vidclf.config import TrainConfig
from vidclf.runs import lease
from vidclf.training import member_worker, train
from vidclf.training.dataset import TrainingData
from vidclf.training.member_plan import MemberPlan
from vidclf.training.member_worker import MemberLoop


def train_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the `train` job train its members one after the other in this process, without Ray and without a GPU, until
    the end of the test."""

    def nothing(*arguments: object, **named: object) -> None:
        """Stands for reports to the progress line and to Ray Train."""

    tally = SimpleNamespace(**{name: SimpleNamespace(remote=nothing) for name in ("put", "say", "refuse")})

    def train_members(
        config: TrainConfig, data: list[TrainingData], members: list[MemberPlan], missing: list[int], gpus: float
    ) -> None:
        for index in missing:
            loop = MemberLoop(
                index=index,
                config=config,
                plan=members[index],
                data=[data[members[index].data]],
                gpus=gpus,
                tally=tally,
                guard=lease.guard(config.output),
            )
            member_worker.train_member({"loop": loop})

    monkeypatch.setattr(train, "train_members", train_members)
    monkeypatch.setattr(train, "_share", lambda config, data: 0.0)  # it asks the cluster for its GPUs
    here = SimpleNamespace(get=lambda value: value, train=SimpleNamespace(report=nothing))
    monkeypatch.setattr(member_worker, "ray", here)
