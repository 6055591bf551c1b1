"""Extras: which packages a job needs, and the message if they are missing."""

from __future__ import annotations

import tomllib
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from vidclf import extras, installation, preflight
from vidclf.config import ExportConfig, IndexConfig, QuantizeConfig, ServeConfig, TrainConfig, TuneConfig
from vidclf.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SERVE = ServeConfig(ensemble="nowhere")
TUNE = TuneConfig(features=("nowhere",), space="default", output="out")
QUANTIZE = QuantizeConfig(input="nowhere", backbone="resnet50", output="out.safetensors")
TRAIN = TrainConfig(features=("nowhere",), output="out")
TRAIN_WITH_MLFLOW = TrainConfig(features=("nowhere",), output="out", mlflow="http://localhost:5000")
TUNE_WITH_MLFLOW = TuneConfig(features=("nowhere",), space="default", output="out", mlflow="http://localhost:5000")


def exported(to: Any) -> ExportConfig:
    """The configuration of an export in the format `to`."""
    if to == "onnx":
        return ExportConfig(ensemble="nowhere", to=to, output="out.onnx")
    return ExportConfig(run="nowhere", to=to, output="out.csv")


@pytest.fixture(autouse=True)
def absent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that count as not installed: at first all that belong to extras."""
    names = {name for modules in extras.MODULES.values() for name in modules}
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in names else util.find_spec(name))
    return names


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SERVE, "(flask, waitress, prometheus_client): pip install 'vidclf[serve]'"),
        (TUNE, "(optuna): pip install 'vidclf[tune]'"),
        (QUANTIZE, "(nncf): pip install 'vidclf[int8]'"),
        (TRAIN_WITH_MLFLOW, "(mlflow): pip install 'vidclf[mlflow]'"),
        (exported("delta"), "(deltalake): pip install 'vidclf[delta]'"),
        (exported("iceberg"), "(pyiceberg, sqlalchemy): pip install 'vidclf[iceberg]'"),
        (exported("lance"), "(lance): pip install 'vidclf[lance]'"),
        (exported("onnx"), "(onnx): pip install 'vidclf[onnx]'"),
        (TUNE_WITH_MLFLOW, "(optuna, mlflow): pip install 'vidclf[tune,mlflow]'"),
    ],
)
def test_a_missing_extra_is_named_before_any_other_check(
    config: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "is_installed", lambda: True)
    with pytest.raises(ConfigError) as refused:
        preflight.check(config)
    assert str(refused.value) == f"the job needs packages that are not installed {message}"


def test_a_checkout_that_is_not_installed_gets_its_packages_from_requirements(
    monkeypatch: pytest.MonkeyPatch, absent: set[str]
) -> None:
    monkeypatch.setattr(installation, "is_installed", lambda: False)
    absent -= {"flask", "prometheus_client"}
    with pytest.raises(ConfigError) as refused:
        extras.check(SERVE)
    expected = "the job needs packages that are not installed (waitress): pip install -r requirements.txt"
    assert str(refused.value) == expected


def test_a_package_that_is_not_pinned_is_named_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "is_installed", lambda: False)
    with pytest.raises(ConfigError) as refused:
        extras.check(exported("lance"))
    message = "the job needs packages that are not installed (lance): pip install 'pylance>=14.0.2,<15'"
    assert str(refused.value) == message


@pytest.mark.parametrize("config", [TRAIN, exported("csv"), IndexConfig(input="nowhere", output="out.parquet")])
def test_other_jobs_need_no_extra(config: Any) -> None:
    extras.check(config)


def test_installed_extras_pass(absent: set[str]) -> None:
    absent.clear()
    extras.check(TUNE_WITH_MLFLOW)


def test_pyproject_has_the_same_extras() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(declared) == {*extras.MODULES, "cluster", "all", "dev"}
    assert declared["all"] == ["vidclf[cluster,serve,tune,int8,mlflow,delta,iceberg,onnx,timm,open_clip,lite]"]
    assert {text for extra in extras.NOT_PINNED for text in declared[extra]} == {
        text.strip("'") for text in extras.NOT_PINNED.values()
    }
    assert "vidclf[all]" in declared["dev"]
