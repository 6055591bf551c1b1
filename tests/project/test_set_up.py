"""`make` finds an interpreter, and tools/set_up.py makes the environment or continues one."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def set_up() -> ModuleType:
    """A fresh copy of the script as a module."""
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "tools" / "set_up.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up_interpreter(path: Path, check: str) -> Path:
    """An executable that does `check` for `--check`, and prints its arguments otherwise."""
    path.write_text(f'#!/bin/sh\ncase "$2" in --check) {check};; *) echo "$0 $@"; mkdir -p .venv/bin;; esac\n')
    path.chmod(0o755)
    return path


def make(directory: Path, *interpreters: Path) -> subprocess.CompletedProcess[str]:
    """`make .venv/installed` in a directory, with these interpreters as candidates."""
    shutil.copy(ROOT / "Makefile", directory)
    (directory / "requirements.txt").touch()
    command = ["make", "--no-print-directory", f"PYTHON={' '.join(map(str, interpreters))}", ".venv/installed"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory, timeout=300)


def test_make_takes_the_first_interpreter_that_fits(tmp_path: Path) -> None:
    old = made_up_interpreter(tmp_path / "old", "echo is 3.10; exit 1")
    shim = made_up_interpreter(tmp_path / "shim", "exit 127")
    good, better = (made_up_interpreter(tmp_path / name, "exit 0") for name in ("good", "better"))
    done = make(tmp_path, tmp_path / "absent", old, shim, good, better)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{good} tools/set_up.py\n", "")


def test_make_names_all_interpreters_in_one_line_if_none_fits(tmp_path: Path) -> None:
    old = made_up_interpreter(tmp_path / "old", "echo is 3.10; exit 1")
    shim = made_up_interpreter(tmp_path / "shim", "exit 127")
    done = make(tmp_path, old, shim)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == (
        f"vidclf needs Python 3.11 to 3.14: {old} is 3.10; {shim} does not run; install one, or name it: "
        "make PYTHON=/path/to/python3.12"
    )


Version = namedtuple("Version", "major minor micro")


@pytest.mark.parametrize(
    ("version", "reason"),
    [((3, 10, 13), "is 3.10"), ((3, 11, 0), None), ((3, 14, 9), None), ((3, 15, 0), "is 3.15"), ((2, 7, 1), "is 2.7")],
)
def test_the_versions_that_fit(
    version: tuple[int, int, int], reason: str | None, set_up: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", Version(*version))
    assert set_up.unfit() == reason


def test_an_interpreter_without_ensurepip_does_not_fit(set_up: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert set_up.unfit() == f"lacks venv (Debian, Ubuntu: apt-get install python{version}-venv)"


def test_too_little_room_is_refused_before_anything_is_made(
    set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000_000)
    monkeypatch.setattr(set_up.shutil, "disk_usage", lambda path: usage)
    assert set_up.set_up(tmp_path / "env", tmp_path / "requirements.txt") == 2
    assert capsys.readouterr().err == f"set-up needs 7.6 GB for {tmp_path}/env, 3.0 GB are free\n"
    assert list(tmp_path.iterdir()) == []


def small_wheel(directory: Path) -> Path:
    """A wheel of a package `parcel` with one module."""
    directory.mkdir()
    path = directory / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("parcel.py", "CONTENT = 'whole'\n")
        wheel.writestr("parcel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
        wheel.writestr("parcel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("parcel-1.0.dist-info/RECORD", "parcel.py,,\nparcel-1.0.dist-info/METADATA,,\n")
    return path


def test_an_interrupted_set_up_is_continued(
    set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment has one package without RECORD, and an old version that pip had moved away."""
    wheel = small_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setattr(set_up, "INSTALLED_GB", 0.01)
    environment, requirements = tmp_path / "env", tmp_path / "requirements.txt"
    requirements.write_text("parcel==1.0\n")
    venv.create(environment, with_pip=False, symlinks=True)
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    # The pip of this interpreter: to install one would take seconds.
    (site_packages / "pip.pth").write_text(sysconfig.get_path("purelib"))
    (site_packages / "parcel.py").write_text("CONTENT = 'half")
    (site_packages / "parcel-1.0.dist-info").mkdir()
    (site_packages / "parcel-1.0.dist-info" / "METADATA").write_text("Name: parcel\nVersion: 1.0\n")
    (site_packages / "~arcel-0.9.dist-info").mkdir()

    assert set_up.set_up(environment, requirements) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Continuing {environment} with Python {sys.version.split()[0]} (")
    assert rest == [
        "parcel-1.0.dist-info: incomplete, will be installed again",
        "~arcel-0.9.dist-info: incomplete, will be installed again",
        "  Installing 1 packages",
    ]
    assert (site_packages / "parcel.py").read_text() == "CONTENT = 'whole'\n"
    assert (environment / "installed").exists()


def test_a_set_up_that_fails_is_not_marked_as_complete(
    set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(set_up, "make_environment", lambda environment: None)
    monkeypatch.setattr(set_up, "interpreter", lambda environment: sys.executable)
    monkeypatch.setattr(set_up, "INSTALLED_GB", 0)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "requirements.txt").write_text("parcel==1.0\n")
    assert set_up.set_up(tmp_path / "env", tmp_path / "requirements.txt") == 1
    assert capfd.readouterr().err.endswith("The set-up stopped. Run the same command again to continue it.\n")
    assert not (tmp_path / "env" / "installed").exists()


@pytest.mark.parametrize(
    ("failing", "remedy"),
    [
        ("--check", [sys.executable, "-m", "venv", "--clear", "env"]),
        ("pip", ["env/bin/python", "-m", "ensurepip", "--upgrade", "--default-pip"]),
        ("nothing", ["env/bin/python", "-m", "pip", "--version"]),
    ],
)
def test_a_half_made_environment_is_completed(
    failing: str, remedy: list[str], set_up: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made anew if its interpreter is gone or does not fit, and gets pip if that is missing."""
    commands: list[list[str]] = []

    def run(command: Sequence[str], **arguments: object) -> subprocess.CompletedProcess[str]:
        commands.append(list(command))
        if failing == "--check" and failing in command:
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, int(failing in command))

    monkeypatch.setattr(set_up.subprocess, "run", run)
    set_up.make_environment(Path("env"))
    assert commands[-1] == remedy


def test_large_downloads_are_shown(set_up: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pip = tmp_path / "python"
    pip.write_text(
        "#!/bin/sh\n"
        "echo 'Collecting torch==2.15.0'\n"
        "echo '  Downloading torch-2.15.0-cp311-manylinux_2_28_x86_64.whl.metadata (27 kB)'\n"
        "echo 'Downloading torch-2.15.0-cp311-manylinux_2_28_x86_64.whl (873.2 MB)'\n"
        "echo 'Downloading numpy-2.4.6-cp311-manylinux_2_28_x86_64.whl (16.9 MB)'\n"
        "echo 'Installing collected packages: numpy, torch'\n"
        "exit 3\n"
    )
    pip.chmod(0o755)
    assert set_up.install(str(pip), tmp_path / "requirements.txt") == 3
    assert capsys.readouterr().out.splitlines() == [
        "  Downloading torch-2.15.0-cp311-manylinux_2_28_x86_64.whl (873.2 MB)",
        "  Installing 2 packages",
    ]
