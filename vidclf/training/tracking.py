"""Training curves for TensorBoard and, with `--mlflow`, for MLflow."""

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
"""Directory in the output for TensorBoard's files."""

MLFLOW_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
"""Environment variable that tells MLflow's client how often to retry a request."""

LAST_SCALAR = "seconds/epoch"
"""The last name in the result of `scalars`, and therefore logged last in each epoch."""

MLFLOW_PARAMS, MLFLOW_METRICS = 100, 1000
"""Largest numbers of parameters and metrics that MLflow accepts in one call."""

REFUSED = re.compile(r"[^\w\-. :]|^\.+$")
"""Characters that MLflow refuses after the slash of a metric name, and names of dots only, which mean a directory."""


class Tracker:
    """Writer of the training curves of one model: a member of an ensemble, or a trial of a hyperparameter search.

    `kind` says which of the two. A training that continues after `num_epochs` epochs logs these epochs again, into
    files that replace the earlier ones.
    """

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
        """Add an epoch's figures to the curves and publish them at once. Curves count the epochs of all attempts."""
        self._step += 1
        values = scalars(epoch, classes)
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._step)
        self._publish()
        if self._mlflow is not None:
            self._mlflow.log(values, self._step)

    def _publish(self) -> None:
        """Copy TensorBoard's files from the temporary folder to the output."""
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
    """The figures of an epoch by their names in the curves; TensorBoard groups them by the part before the slash."""
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
    """The curves of one model (member of an ensemble, or trial of a search) as a run on an MLflow tracking server.

    A training of the same output directory that continues after epoch `num_epochs` continues its MLflow run, and epochs
    that the MLflow run already has are not logged again. A training that starts from scratch gets a new MLflow run.
    """

    def __init__(
        self, config: TrainConfig, output: str, index: int | str, num_epochs: int, kind: str = "member"
    ) -> None:
        from mlflow.entities import Param

        assert config.mlflow is not None
        self._client: Any = mlflow_client(config.mlflow)
        experiment = mlflow_experiment(self._client, config)
        # A digest, because a location may contain quotes and MLflow's filters must not.
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
        """Log the figures of an epoch, by name. `step` counts the epochs from 1."""
        from mlflow.entities import Metric

        if step <= self._num_logged:
            return
        now_ms = int(time.time() * 1000)
        metrics = [Metric(metric_name(name), value, now_ms, step) for name, value in values.items()]
        for start in range(0, len(metrics), MLFLOW_METRICS):
            self._client.log_batch(self._run, metrics=metrics[start : start + MLFLOW_METRICS])
        self._num_logged = step

    def end(self, failed: bool) -> None:
        """Mark the MLflow run as failed or finished."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")

    def _last_step(self, run: str) -> int:
        """The last epoch whose figures the MLflow run `run` has completely; 0 if there is none."""
        # LAST_SCALAR is the last metric of an epoch: if it is logged, so are all others.
        return max((metric.step for metric in self._client.get_metric_history(run, LAST_SCALAR)), default=0)


def metric_name(name: str) -> str:
    """A metric name that MLflow accepts: each refused character after the slash is replaced by its hexadecimal code
    (`&` becomes `_26_`)."""
    group, _, rest = name.partition("/")
    return f"{group}/{re.sub(REFUSED, lambda part: ''.join(f'_{ord(character):x}_' for character in part[0]), rest)}"


def mlflow_experiment(client: Any, config: TrainConfig) -> str:
    """The id of the MLflow experiment that the configuration names, which is created if it does not exist.

    The job must call this before it starts members: two members at the same time would both create the experiment.
    """
    experiment = client.get_experiment_by_name(config.mlflow_experiment)
    return str(experiment.experiment_id if experiment else client.create_experiment(config.mlflow_experiment))


def mlflow_client(uri: str) -> Any:
    """A client of the MLflow tracking server at `uri`. ConfigError if MLflow is not installed or refuses the URI."""
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
    """Raise ConfigError unless the MLflow tracking server at `uri` answers.

    The server is asked only twice. MLflow's default, which the training itself uses, retries for four minutes.
    """
    client = mlflow_client(uri)
    from mlflow.exceptions import MlflowException

    configured_retries = os.environ.get(MLFLOW_RETRIES)
    os.environ[MLFLOW_RETRIES] = "1"
    try:
        client.search_experiments(max_results=1)
    except (MlflowException, ImportError) as error:
        raise ConfigError(f"--mlflow {uri}: does not answer ({' '.join(str(error).split())})") from error
    finally:
        del os.environ[MLFLOW_RETRIES]
        if configured_retries is not None:
            os.environ[MLFLOW_RETRIES] = configured_retries
