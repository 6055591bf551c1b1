"""The wheel works without the checkout: it is built as `python -m build` does, installed into an environment of its
own, and its command classifies a video."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.ensembles import write_small_ensemble
from tests.support.videos import write_video

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("vidclf", "jobs", "tune_configs", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def build(hook: str, source: Path, output: Path) -> Path:
    """The file that a hook of setuptools makes from the source tree: build_sdist or build_wheel."""
    program = f"from setuptools import build_meta; print(build_meta.{hook}({str(output)!r}))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=True)
    assert "would be ignored" not in done.stdout + done.stderr  # setuptools warns about a directory it leaves out
    return output / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source archive, which is made from a copy of the checkout."""
    root = tmp_path_factory.mktemp("built")
    copy = root / "copy"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    with tarfile.open(build("build_sdist", copy, root)) as archive:
        archive.extractall(root / "unpacked", filter="data")
    (unpacked,) = (root / "unpacked").iterdir()
    return build("build_wheel", unpacked, root)


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `vidclf` in an environment that has the other packages of this one, and no path to the checkout."""
    environment = tmp_path_factory.mktemp("clean") / "env"
    venv.create(environment, symlinks=True)
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    (site_packages / "packages.pth").write_text(sysconfig.get_path("purelib"))
    python = environment / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", wheel]
    subprocess.run(pip, check=True, timeout=300, cwd=environment)
    return environment / "bin" / "vidclf"


def bare() -> dict[str, str]:
    """The environment variables without PYTHONPATH, which could lead to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(command: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in a directory outside the checkout."""
    return subprocess.run(
        [command, *arguments], capture_output=True, text=True, timeout=300, check=False, cwd=cwd, env=bare()
    )


def test_the_wheel_holds_every_module_job_template_and_search_space(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    of_package = [*(ROOT / "vidclf").rglob("*.py"), *(ROOT / "vidclf/pages/templates").iterdir()]
    bundled = [*(ROOT / "jobs").glob("*.py"), *(ROOT / "tune_configs").glob("*.yaml")]
    expected = {str(path.relative_to(ROOT)) for path in of_package}
    assert names == expected | {f"vidclf/bundled/{path.relative_to(ROOT)}" for path in bundled}


def test_an_installed_vidclf_classifies_a_video(command: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "one.mp4", num_frames=12, size=(64, 64))
    (tmp_path / "ensemble").mkdir()
    write_small_ensemble(tmp_path / "ensemble", ["Animation", "Gaming"], num_frames=4)
    assert run(command, "--version", cwd=tmp_path).stdout == "vidclf 0.1.0\n"
    flags = ("--input", "clips", "--ensemble", "ensemble", "--output", "predictions", "--accept-uncertified")
    done = run(command, "classify", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/predictions: 1 video, 1 ok, 0 quarantined")
    (shard,) = (tmp_path / "predictions").glob("part-*.parquet")
    (row,) = pq.read_table(shard).to_pylist()
    assert row["video_uri"].endswith("/clips/one.mp4")
    assert row["top_label"] in ("Animation", "Gaming")
    audit = run(command, "audit", "--run", "predictions", cwd=tmp_path)
    assert audit.stdout.endswith("the numbers add up\n")


def test_a_search_space_is_found_by_its_name(command: Path, tmp_path: Path) -> None:
    program = "from vidclf.tuning.space import read_space; import vidclf; print(read_space('smoke').fixed['epochs'])"
    program += "; print(vidclf.__file__)"
    python = command.parent / "python"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=bare())
    epochs, path = done.stdout.split()
    assert epochs == "6"
    assert path.startswith(f"{command.parents[1]}/lib/")
