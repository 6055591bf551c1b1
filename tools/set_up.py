"""Sets up .venv with the packages of requirements.txt. `make` runs this script when .venv is missing or incomplete.

    python3.12 tools/set_up.py                 make or complete .venv with this interpreter
    python3.12 tools/set_up.py --check         exit with 1 and a reason if this interpreter cannot run vidclf

A set-up that was interrupted, even by SIGKILL, is continued. The file .venv/installed marks a complete one. The script
needs only the standard library, and `--check` also works under versions of Python that are too old.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
"""First and last version of Python for which every package of requirements.txt has a wheel (`make check-pins`)."""

DOWNLOAD_GB, INSTALLED_GB = 3.5, 7.6
"""Sizes of all packages, as files to download and installed. Most of it are the CUDA libraries of torch."""

SHOWN_MB = 50
"""Downloads from this size on are shown one by one."""

ENVIRONMENT = Path(".venv")
REQUIREMENTS = Path("requirements.txt")


def unfit() -> str | None:
    """Reason why this interpreter cannot run vidclf, as text; None if it can."""
    version = "{}.{}".format(*sys.version_info[:2])
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return "is " + version
    if sys.implementation.name != "cpython":
        return "is " + sys.implementation.name
    import sysconfig

    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "is a free-threaded build"
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return f"lacks venv (Debian, Ubuntu: apt-get install python{version}-venv)"
    return None


def interpreter(environment: Path) -> str:
    """Interpreter of an environment."""
    return str(environment / "bin" / "python")


def succeeds(*command: str) -> bool:
    """Whether a command runs and ends with exit code 0. Its output is discarded."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_environment(environment: Path) -> None:
    """Make the environment, or use the one that is there if its interpreter fits and has pip.

    An environment of another interpreter is used as it is, so that `make` does not change the Python of a .venv.
    """
    python = interpreter(environment)
    if not succeeds(python, __file__, "--check"):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    elif not succeeds(python, "-m", "pip", "--version"):
        subprocess.run([python, "-m", "ensurepip", "--upgrade", "--default-pip"], check=True, stdout=subprocess.DEVNULL)


def forget_partial_packages(environment: Path) -> None:
    """Remove what a killed pip has left in an environment, so that pip installs these packages anew.

    pip writes RECORD last. A package without it may be incomplete, but pip would take it as installed. Directories
    whose name begins with `~` are old versions that pip had moved away.
    """
    for site_packages in environment.glob("lib/python3*/site-packages"):
        partial = {path for path in site_packages.glob("*.dist-info") if not (path / "RECORD").exists()}
        for path in sorted(partial | set(site_packages.glob("~*"))):
            shutil.rmtree(path)
            print(f"{path.name}: incomplete, will be installed again", flush=True)


def size_gb(environment: Path) -> float:
    """Size of all files below a directory, in GB."""
    files = (Path(root, name) for root, _, names in os.walk(environment) for name in names)
    return sum(path.lstat().st_size for path in files) / 1e9


def install(python: str, requirements: Path) -> int:
    """Install the requirements with pip. Large downloads are printed as they begin. Returns pip's exit code."""
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    with subprocess.Popen([*command, "-r", str(requirements)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.split()
            if words[:1] == ["Downloading"] and words[-1:] == ["MB)"] and float(words[-2].strip("(")) >= SHOWN_MB:
                print(f"  {line.strip()}", flush=True)
            elif words[:2] == ["Installing", "collected"]:
                print(f"  Installing {len(words) - 3} packages", flush=True)
    return process.returncode


def set_up(environment: Path, requirements: Path) -> int:
    """Make or complete an environment with the requirements, and mark it as complete. Returns the exit code."""
    is_continued = environment.is_dir()
    missing_gb = INSTALLED_GB - (size_gb(environment) if is_continued else 0)
    free_gb = shutil.disk_usage(environment.resolve().parent).free / 1e9
    if free_gb < missing_gb:
        print(f"set-up needs {missing_gb:.1f} GB for {environment}, {free_gb:.1f} GB are free", file=sys.stderr)
        return 2
    make_environment(environment)
    python = interpreter(environment)
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
    verb = "Continuing" if is_continued else "Setting up"
    print(
        f"{verb} {environment} with {version} ({os.path.realpath(python)}): at most {DOWNLOAD_GB} GB to download, "
        f"{INSTALLED_GB} GB on disk, about 3 minutes plus the download",
        flush=True,
    )
    forget_partial_packages(environment)
    code = install(python, requirements)
    if code == 0:
        (environment / "installed").touch()
    else:
        print("The set-up stopped. Run the same command again to continue it.", file=sys.stderr)
    return code


def main() -> int:
    """Check this interpreter, then set up .venv. Returns the exit code."""
    reason = unfit()
    if reason is not None:
        print(reason)
        return 1
    return 0 if "--check" in sys.argv[1:] else set_up(ENVIRONMENT, REQUIREMENTS)


if __name__ == "__main__":
    sys.exit(main())
