"""Locations of jobs/ and tune_configs/: beside the package in a checkout, inside it after `pip install`.

setup.py puts them into the wheel as vidclf/bundled/.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""Directory of the package vidclf."""


def directory(name: str) -> Path:
    """Directory `name` of the checkout, jobs or tune_configs, or its copy in an installed vidclf."""
    bundled = PACKAGE / "bundled" / name
    return bundled if bundled.is_dir() else PACKAGE.parent / name


def program(job: str) -> str:
    """Words with which a command line starts a job: `python jobs/train.py` in a checkout, otherwise `vidclf train`."""
    return f"python jobs/{job}.py" if directory("jobs").parent == PACKAGE.parent else f"vidclf {job}"


def is_installed() -> bool:
    """Whether pip knows vidclf, so that it can add an extra. False if the jobs run from a checkout that is not
    installed."""
    return any(importlib.metadata.distributions(name="vidclf"))
