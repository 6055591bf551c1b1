"""Packages of the wheel: vidclf, and inside it the directories jobs/ and tune_configs/ as vidclf/bundled/.

They stand beside vidclf/ in a checkout, so that `python jobs/extract.py` works there without installation. Everything
else about the wheel is in pyproject.toml, which cannot place a directory elsewhere while it searches for packages.
"""

from setuptools import find_namespace_packages, setup

BUNDLED = ("jobs", "tune_configs")
"""Directories of the checkout that the wheel contains inside vidclf/bundled/."""

# Also directories of data files, which have no __init__.py, count as packages.
PACKAGES = find_namespace_packages(include=["vidclf", "vidclf.*"], exclude=["*.__pycache__"])

setup(
    packages=[*PACKAGES, *(f"vidclf.bundled.{name}" for name in BUNDLED)],
    package_dir={f"vidclf.bundled.{name}": name for name in BUNDLED},
)
