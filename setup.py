"""Packages of the wheel: vidclf, and inside it the directories jobs/ and tune_configs/ as vidclf/bundled/.

They stand beside vidclf/ in a checkout, so that `python jobs/extract.py` works there without installation. Everything
else about the wheel is in pyproject.toml, which cannot place a directory elsewhere while it searches for packages.
"""

from setuptools import find_packages, setup

BUNDLED = ("jobs", "tune_configs")
"""Directories of the checkout that the wheel contains inside vidclf/bundled/."""

setup(
    packages=[*find_packages(include=["vidclf", "vidclf.*"]), *(f"vidclf.bundled.{name}" for name in BUNDLED)],
    package_dir={f"vidclf.bundled.{name}": name for name in BUNDLED},
)
