"""Training of the members (models of the ensemble) in parallel, one Ray Train run per member. [Ray Train]"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from vidclf import ray_cluster, storage
from vidclf.config import TrainConfig
from vidclf.errors import RunStopped
from vidclf.progress import ProgressLine
from vidclf.runs import lease
from vidclf.tally import Tally, watch
from vidclf.training import host_memory, tracking
from vidclf.training.dataset import TrainingData
from vidclf.training.member_plan import MemberPlan
from vidclf.training.member_worker import SHARE_FLAG, MemberLoop, marker, train_member

RAY_TRAIN_DIR = "_ray_train"
"""Directory in the output for Ray Train's own files."""

MAX_FAILURES = 2
"""Number of times that a member is restarted whose worker or node died; after these the job fails."""


def train_members(
    config: TrainConfig, data: list[TrainingData], members: list[MemberPlan], missing: list[int], gpus: float
) -> None:
    """Train the members (models of the ensemble) with the indices `missing` in parallel, and wait for all of them. On
    one machine, no more are trained at the same time than fit into its memory.

    Each has the fraction `gpus` of a GPU. `members` has one entry per member, each with its position in `data`. Raises
    RunStopped if a member does not fit into its share of the GPU's memory, and the error of Ray Train if a member fails
    for good.
    """
    resources = ray_cluster.connect()
    if config.mlflow is not None:
        tracking.mlflow_experiment(tracking.mlflow_client(config.mlflow), config)
    at_once = host_memory.num_at_once(config, data, len(missing), gpus)
    if at_once < len(missing):
        print(f"training {at_once} of {len(missing)} members at a time: the free memory is too little for all")
    # At most the cluster's CPUs minus one, which is left for the controllers of Ray Train.
    cpus = min(config.cpus_per_member, max(resources.num_cpus - 1, 0.5) / at_once)
    tally = Tally.start()
    # The members on a node share one copy in its object store.
    data_refs = [ray.put(member_data) for member_data in data]
    total = len(missing) * config.epochs
    line = ProgressLine("epochs", total, f"epochs of {len(missing)} members")

    def run(index: int) -> None:
        """Train one member in its own Ray Train run. RunStopped if the member does not fit into its share of the GPU's
        memory."""
        loop = MemberLoop(
            index=index,
            config=config,
            plan=members[index],
            data=[data_refs[members[index].data]],
            gpus=gpus,
            tally=tally,
            guard=lease.guard(config.output),
        )
        # Not a TorchTrainer: a run has one worker and thus no process group, and its controller would load torch, too.
        DataParallelTrainer(
            train_member,
            # As an object of Ray, which the controller passes on without loading the modules of its classes.
            train_loop_config={"loop": ray.put(loop)},
            scaling_config=ScalingConfig(
                num_workers=1, use_gpu=gpus > 0, resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})}
            ),
            run_config=RunConfig(
                name=f"member_{index}-{members[index].recipe[:16]}",
                storage_path=storage.join(config.output, RAY_TRAIN_DIR),
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()
        if not storage.exists(marker(config.output, index)):
            if refusal := ray.get(tally.refusal.remote()):
                raise RunStopped(refusal)
            raise RunStopped(
                f"member {index} did not fit into its share of the GPU's memory, {SHARE_FLAG} {gpus:g}; give a larger "
                "share, or smaller batches (--batch-size)"
            )

    with watch(tally, line, _progress), ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run, index) for index in missing]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # members whose turn has not come are not begun
            raise


def _progress(counts: dict[str, float]) -> tuple[int, str]:
    """Number of epochs done by all members and a text with each member's macro F1, for the progress line. `counts` are
    the figures that the workers have reported, by name."""
    scores = [f"{value:.2f}" for name, value in sorted(counts.items()) if name.startswith("member")]
    epochs = sum(value for name, value in counts.items() if name.startswith("epochs of"))
    return int(epochs), f"macro F1 on validation {' '.join(scores)}" if scores else ""
