"""Logged epochs of a member can be read back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import training_job
from vidclf import cli
from vidclf.config import TrainConfig
from vidclf.errors import ConfigError
from vidclf.training.member_state import Epoch
from vidclf.training.tracking import (
    LAST_SCALAR,
    MLFLOW_RETRIES,
    MlflowRun,
    Tracker,
    check_mlflow,
    metric_name,
    mlflow_client,
    scalars,
)

CLASSES = ["Flat_Content", 'News & "Talk"']


def epoch(number: int) -> Epoch:
    return Epoch(
        attempt=1,
        number=number,
        lr=0.001,
        train_loss=1 / number,
        train_accuracy=0.5,
        train_recall=[0.5, 0.5],
        val_loss=0.75,
        val_accuracy=0.25,
        val_macro_f1=0.125,
        val_weighted_f1=0.5,
        val_f1=[0.25, 1.0],
        duration_s=2.0,
    )


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A configuration with a file store of MLflow, which MLflow refuses unless MLFLOW_ALLOW_FILE_STORE is set."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return replace(training_job.config(str(tmp_path / "it's")), mlflow=f"file:{tmp_path / 'mlflow'}")


def runs(config: TrainConfig) -> list[Any]:
    client = mlflow_client(str(config.mlflow))
    experiment = client.get_experiment_by_name("vidclf")
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def steps(config: TrainConfig, run: Any, name: str) -> list[tuple[int, float]]:
    history = mlflow_client(str(config.mlflow)).get_metric_history(run.info.run_id, name)
    return [(metric.step, metric.value) for metric in history]


def test_parameters_and_every_epoch_are_read_back_from_mlflow(config: TrainConfig) -> None:
    with Tracker(config.output, 1, config, 0) as tracker:
        for number in (1, 2):
            tracker.log(epoch(number), CLASSES)
    (run,) = runs(config)
    assert (run.info.run_name, run.info.status) == ("member 1", "FINISHED")
    assert run.data.tags["vidclf.output"] == config.output
    assert run.data.params.keys() == vars(config).keys()
    assert (run.data.params["hidden_dim"], run.data.params["multi_scale"]) == ("64", "(0.85, 1.0, 1.15)")
    assert steps(config, run, "loss/train") == [(1, 1.0), (2, 0.5)]
    assert run.data.metrics["f1_by_class/Flat_Content"] == 0.25
    assert run.data.metrics["f1_by_class/News _26_ _22_Talk_22_"] == 1.0
    assert len(run.data.metrics) == len(scalars(epoch(1), CLASSES)) == 11


def test_a_member_that_goes_on_stays_in_its_run_and_logs_no_epoch_twice(config: TrainConfig) -> None:
    tracker = Tracker(config.output, 0, config, 0)
    tracker.log(epoch(1), CLASSES)
    tracker.__exit__(RuntimeError, RuntimeError("killed"), None)
    assert [run.info.status for run in runs(config)] == ["FAILED"]
    # The state was written after the second epoch, but the job was killed before that epoch was logged.
    with Tracker(config.output, 0, config, 2) as tracker:
        for number in (1, 2, 3):
            tracker.log(epoch(number), CLASSES)
    (run,) = runs(config)
    assert run.info.status == "FINISHED"
    assert steps(config, run, "loss/train") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_a_member_that_begins_anew_has_a_new_run(config: TrainConfig) -> None:
    for index in (0, 0, 1):
        with Tracker(config.output, index, config, 0) as tracker:
            tracker.log(epoch(1), CLASSES)
    assert sorted(run.info.run_name for run in runs(config)) == ["member 0", "member 0", "member 1"]


def test_a_store_that_mlflow_refuses_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(ConfigError, match=r"--mlflow file:.*: cannot be used .*maintenance mode"):
        mlflow_client(f"file:{tmp_path}")


def test_a_server_that_does_not_answer_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MLFLOW_RETRIES, "7")
    with pytest.raises(ConfigError, match=r"--mlflow http://127.0.0.1:9: does not answer .*Connection refused"):
        check_mlflow("http://127.0.0.1:9")
    assert os.environ[MLFLOW_RETRIES] == "7"


def test_passwords_and_tokens_stay_out_of_what_mlflow_stores(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file store takes no password, so the tests' store answers at the address of a server with one.
    server = "https://user:pa55word@mlflow.example.org/api?token=t0ken"
    store = mlflow_client(str(config.mlflow))
    monkeypatch.setattr("vidclf.training.tracking.mlflow_client", lambda uri: store)
    config = replace(config, mlflow=server, output="s3://key:secr3t@bucket/ensemble")
    MlflowRun(config, config.output, 0, 0).end(failed=False)
    experiment = store.get_experiment_by_name("vidclf").experiment_id
    (run,) = store.search_runs([experiment])
    assert run.data.params["mlflow"] == "https://***@mlflow.example.org/api?token=***"
    assert run.data.params["output"] == run.data.tags["vidclf.output"] == "s3://***@bucket/ensemble"
    written = "".join(path.read_text() for path in (tmp_path / "mlflow").rglob("*") if path.is_file())
    assert "mlflow.example.org" in written
    assert not any(secret in written for secret in ("pa55word", "t0ken", "secr3t"))


def test_a_password_stays_out_of_the_refusal_of_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])

    def job(config: TrainConfig) -> int:
        check_mlflow("http://user:pa55word@127.0.0.1:9/?token=t0ken")
        return 0

    monkeypatch.setattr(cli, "_parsed", lambda *arguments: (object(), None))
    monkeypatch.setattr(cli.preflight, "check", lambda *arguments: None)
    with pytest.raises(SystemExit) as stopped:
        cli.run(TrainConfig, job)
    stderr = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "--mlflow http://***@127.0.0.1:9/?token=***" in stderr
    assert "pa55word" not in stderr
    assert "t0ken" not in stderr


def test_names_that_mlflow_refuses_are_spelt_out() -> None:
    assert metric_name("loss/train") == "loss/train"
    assert metric_name("f1_by_class/a/b") == "f1_by_class/a_2f_b"
    assert metric_name("f1_by_class/..") == "f1_by_class/_2e__2e_"
    assert metric_name("f1_by_class/v1.0: été") == "f1_by_class/v1.0: été"
    assert list(scalars(epoch(1), CLASSES))[-1] == LAST_SCALAR
