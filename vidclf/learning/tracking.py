"""Training curves for TensorBoard and, where asked for, MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from vidclf import storage
from vidclf.config import ConfigError, TrainConfig
from vidclf.learning.fit import Epoch

TENSORBOARD_DIR = "tensorboard"


class Tracker:
    """Logs the epochs of one member, or of one trial of a search. One that is continued logs its earlier
    epochs again, into files that take the place of the earlier ones."""

    def __init__(self, output: str, index: int | str, config: TrainConfig, kind: str = "member") -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._published = storage.join(output, TENSORBOARD_DIR, f"{kind}_{index}")
        storage.delete_tree(self._published)
        self._writer = SummaryWriter(logdir=self._folder.name, write_to_disk=True)
        self._mlflow = MlflowRun(config, output, index, kind) if config.mlflow is not None else None
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
    """One member or trial as a run of an MLflow tracking server. The same one of the same output directory goes
    on in the run that it had."""

    def __init__(self, config: TrainConfig, output: str, index: int | str, kind: str) -> None:
        assert config.mlflow is not None
        self._client: Any = mlflow_client(config.mlflow)
        found = self._client.get_experiment_by_name(config.mlflow_experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(config.mlflow_experiment)
        tags = {"vidclf.output": output, f"vidclf.{kind}": str(index)}
        same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs = self._client.search_runs([experiment], same)
        self._run = (
            runs[0] if runs else self._client.create_run(experiment, tags=tags, run_name=f"{kind} {index}")
        ).info.run_id
        if not runs:
            for name, value in vars(config).items():
                self._client.log_param(self._run, name, value)

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def end(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def mlflow_client(uri: str) -> Any:
    """A client of the tracking server at `uri`; ConfigError where MLflow is not installed."""
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise ConfigError(f"--mlflow {uri}: needs MLflow on every node; pip install mlflow-skinny ({error})") from error
    return MlflowClient(tracking_uri=uri)
