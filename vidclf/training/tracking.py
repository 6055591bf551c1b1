"""Training curves for TensorBoard and, where asked for, MLflow."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from vidclf import storage
from vidclf.config import TrainConfig
from vidclf.credentials import masked, masked_text
from vidclf.errors import ConfigError
from vidclf.training.member_state import Epoch

TENSORBOARD_DIR = "tensorboard"

MLFLOW_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"

LAST_SCALAR = "seconds/epoch"
"""The last of `scalars`."""

MLFLOW_PARAMS, MLFLOW_METRICS = 100, 1000
"""The most that MLflow takes at a time."""

ODD = re.compile(r"[^\w\-. :]|^\.+$")
"""Characters that MLflow refuses, or that mean a directory to it, in the second part of a name."""


class Tracker:
    """Logs the epochs of one member, or of one trial of a search (`kind`). One that is continued after
    `num_epochs` of them logs these again, into files that take the place of the earlier ones."""

    def __init__(
        self, output: str, index: int | str, config: TrainConfig, num_epochs: int, kind: str = "member"
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._published = storage.join(output, TENSORBOARD_DIR, f"{kind}_{index}")
        for path in storage.list_files(self._published):
            if path.rsplit("/", 1)[-1].startswith("events.out.tfevents."):
                storage.delete_file(path)
        self._writer = SummaryWriter(logdir=self._folder.name, write_to_disk=True)
        self._mlflow = MlflowRun(config, output, index, num_epochs, kind) if config.mlflow is not None else None
        self._step = 0

    def log(self, epoch: Epoch, classes: list[str]) -> None:
        """Scalars by epoch, counted on over attempts; published at once, so that they can be looked at."""
        self._step += 1
        values = scalars(epoch, classes)
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._step)
        self._publish()
        if self._mlflow is not None:
            self._mlflow.log(values, self._step)

    def _publish(self) -> None:
        self._writer.flush()
        for path in Path(self._folder.name).iterdir():
            storage.publish_bytes(storage.join(self._published, path.name), path.read_bytes())

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._folder.cleanup()
        if self._mlflow is not None:
            self._mlflow.end(failed=error is not None)


def scalars(epoch: Epoch, classes: list[str]) -> dict[str, float]:
    """An epoch's figures by the names that TensorBoard groups them under."""
    return {
        "loss/train": epoch.train_loss,
        "loss/val": epoch.val_loss,
        "accuracy/train": epoch.train_accuracy,
        "accuracy/val": epoch.val_accuracy,
        "f1/val_macro": epoch.val_macro_f1,
        "f1/val_weighted": epoch.val_weighted_f1,
        **{f"f1_by_class/{name}": f1 for name, f1 in zip(classes, epoch.val_f1, strict=True)},
        "schedule/lr": epoch.lr,
        "schedule/attempt": epoch.attempt,
        "seconds/epoch": epoch.duration_s,
    }


class MlflowRun:
    """One member or trial as a run of an MLflow tracking server.

    One that goes on after its epoch `num_epochs`, of the same output directory, goes on in the run
    that it had, and what that run holds is not logged again; one that begins anew has a new run.
    """

    def __init__(
        self, config: TrainConfig, output: str, index: int | str, num_epochs: int, kind: str = "member"
    ) -> None:
        from mlflow.entities import Param

        assert config.mlflow is not None
        self._client: Any = mlflow_client(config.mlflow)
        experiment = mlflow_experiment(self._client, config)
        # A digest, because a location may hold quotes, which MLflow's filters cannot.
        identity = hashlib.sha256(f"{output} {index}".encode()).hexdigest()[:16]
        runs = self._client.search_runs(
            [experiment],
            f"tags.`vidclf.{kind}_id` = '{identity}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        self._num_logged = self._last_step(runs[0].info.run_id) if runs else 0
        if runs and self._num_logged <= num_epochs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._num_logged = 0
        tags = {"vidclf.output": masked(output), f"vidclf.{kind}": str(index), f"vidclf.{kind}_id": identity}
        self._run = self._client.create_run(experiment, tags=tags, run_name=f"{kind} {index}").info.run_id
        params = [Param(name, masked_text(str(value))) for name, value in vars(config).items()]
        for start in range(0, len(params), MLFLOW_PARAMS):
            self._client.log_batch(self._run, params=params[start : start + MLFLOW_PARAMS])

    def log(self, values: dict[str, float], step: int) -> None:
        """Figures by name, of a step that counts from 1 and is one more each time."""
        from mlflow.entities import Metric

        if step <= self._num_logged:
            return
        now_ms = int(time.time() * 1000)
        metrics = [Metric(metric_name(name), value, now_ms, step) for name, value in values.items()]
        for start in range(0, len(metrics), MLFLOW_METRICS):
            self._client.log_batch(self._run, metrics=metrics[start : start + MLFLOW_METRICS])
        self._num_logged = step

    def end(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")

    def _last_step(self, run: str) -> int:
        # The last metric of a batch: a step is logged where its batch is.
        return max((metric.step for metric in self._client.get_metric_history(run, LAST_SCALAR)), default=0)


def metric_name(name: str) -> str:
    """A name that MLflow takes: what it refuses in a class's name is spelt as its code (`&` as `_26_`)."""
    group, _, rest = name.partition("/")
    return f"{group}/{re.sub(ODD, lambda odd: ''.join(f'_{ord(character):x}_' for character in odd[0]), rest)}"


def mlflow_experiment(client: Any, config: TrainConfig) -> str:
    """The id of the experiment, which is made where there is none: by whoever starts the members, since
    two of them at once would both make it."""
    found = client.get_experiment_by_name(config.mlflow_experiment)
    return str(found.experiment_id if found else client.create_experiment(config.mlflow_experiment))


def mlflow_client(uri: str) -> Any:
    """A client of the tracking server at `uri`; ConfigError where MLflow is not installed or refuses it."""
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ConfigError(f"--mlflow {uri}: needs MLflow on every node; pip install mlflow-skinny ({error})") from error
    try:
        return MlflowClient(tracking_uri=uri)
    except (MlflowException, ImportError) as error:
        raise ConfigError(f"--mlflow {uri}: cannot be used ({' '.join(str(error).split())})") from error


def check_mlflow(uri: str) -> None:
    """ConfigError unless the tracking server at `uri` answers.

    It is asked twice and no more: MLflow's own patience, which members have, is four minutes.
    """
    client = mlflow_client(uri)
    from mlflow.exceptions import MlflowException

    patience = os.environ.get(MLFLOW_RETRIES)
    os.environ[MLFLOW_RETRIES] = "1"
    try:
        client.search_experiments(max_results=1)
    except (MlflowException, ImportError) as error:
        raise ConfigError(f"--mlflow {uri}: does not answer ({' '.join(str(error).split())})") from error
    finally:
        del os.environ[MLFLOW_RETRIES]
        if patience is not None:
            os.environ[MLFLOW_RETRIES] = patience
