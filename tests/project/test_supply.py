"""The lists of packages agree: ranges in pyproject.toml, pins in requirements.txt, requirements.lock with digests, and
constraints.txt."""

from __future__ import annotations

import importlib.metadata
import re
import sysconfig
import tomllib
from pathlib import Path

import pytest
from av._core import library_meta
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

NOT_PINNED = ("pylance",)
"""Packages of extras that requirements.txt leaves out because of their size: tests of them are skipped."""


def pinned() -> list[Requirement]:
    """The requirements in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked() -> dict[str, list[Requirement]]:
    """The entries of the lock by package name; several if a package has one version per platform."""
    entries: dict[str, list[Requirement]] = {}
    for line in LOCK.splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\").strip())
            entries.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return entries


def version_here(entries: list[Requirement]) -> str | None:
    """The locked version for this platform; None if there is none."""
    versions = [
        str(next(iter(entry.specifier)).version) for entry in entries if entry.marker is None or entry.marker.evaluate()
    ]
    return versions[0] if versions else None


@pytest.mark.parametrize("requirement", pinned(), ids=lambda requirement: requirement.name)
def test_the_lock_holds_the_pinned_version(requirement: Requirement) -> None:
    (pin,) = requirement.specifier
    assert {str(entry.specifier) for entry in locked()[canonicalize_name(requirement.name)]} == {f"=={pin.version}"}


def test_every_locked_package_has_a_version_and_digests() -> None:
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n".join(lines))
    assert len(entries) > 100
    for entry in entries:
        name, *digests = entry.split(" \\\n")
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z,]+\])?==\S+", name), entry
        assert digests, entry
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}\n?", digest) for digest in digests), entry


def test_the_constraints_are_the_lock_without_digests() -> None:
    constraints = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert constraints == [
        line.removesuffix("\\").strip() for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))
    ]
    # pip refuses constraints with extras.
    assert [line for line in constraints if "[" in line] == []


def test_every_pin_lies_in_the_range_of_pyproject_and_the_other_way_round() -> None:
    declared = [
        *PROJECT["dependencies"],
        *(text for texts in PROJECT["optional-dependencies"].values() for text in texts),
    ]
    ranges: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, declared):
        if requirement.name != "vidclf":
            ranges.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    pins = {canonicalize_name(requirement.name): requirement for requirement in pinned()}
    assert sorted(ranges) == sorted([*pins, *NOT_PINNED])
    for name, pin in pins.items():
        (version,) = [specifier.version for specifier in pin.specifier]
        assert all(requirement.specifier.contains(version) for requirement in ranges[name]), name
        assert {extra for requirement in ranges[name] for extra in requirement.extras} >= pin.extras - {"tune"}, name


def test_the_supported_versions_of_python_are_the_same_everywhere() -> None:
    assert PROJECT["requires-python"] == ">=3.11,<3.15"
    makefile = (ROOT / "Makefile").read_text()
    assert "\nPYTHON ?= python3 python3.14 python3.13 python3.12 python3.11\n" in makefile
    assert "\nVERSIONS := 3.11 3.12 3.13 3.14\n" in makefile
    assert "OLDEST, NEWEST = (3, 11), (3, 14)" in (ROOT / "tools" / "set_up.py").read_text()
    for path in ("requirements.txt", "requirements.lock", "docs/guides/install.md", "Makefile"):
        assert "Python 3.11 to 3.14" in (ROOT / path).read_text(), path


def test_the_lock_names_no_registry() -> None:
    assert "://" not in LOCK
    assert "--index" not in LOCK


def test_what_the_pinned_packages_need_is_locked_in_a_version_that_fits() -> None:
    """Compared with the metadata of the installed packages, so for this platform and this Python."""
    entries = locked()
    left = [(requirement, frozenset(requirement.extras)) for requirement in pinned()]
    checked: set[tuple[str, frozenset[str]]] = set()
    while left:
        requirement, extras = left.pop()
        name = canonicalize_name(requirement.name)
        assert name in entries, f"{name} is needed and not locked; run `make lock`"
        version = version_here(entries[name])
        assert version is not None, f"{name} is not locked for this platform"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is needed, {version} locked"
        if (name, extras) in checked:
            continue
        checked.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # not needed by the installed build, as with torch for CPUs
        for text in distribution.requires or ():
            needed = Requirement(text)
            environments = [{**default_environment(), "extra": extra} for extra in extras or {""}]
            if needed.marker is None or any(needed.marker.evaluate(environment) for environment in environments):
                left.append((needed, frozenset(needed.extras)))
    assert len(checked) > 80


def test_the_page_on_licences_says_what_the_installed_files_say() -> None:
    page = (ROOT / "docs/reference/licences.md").read_text()
    configured = library_meta["libavcodec"]
    for flag in ("--enable-version3", "--enable-libx264", "--enable-libx265"):
        assert flag in page
        assert flag in configured["configuration"].split()
    assert f'"{configured["license"]}"' in page
    for name in ("av", "torch", "opencv-python-headless"):
        assert f"`{name}` {importlib.metadata.version(name)}" in page
    of_nvidia = [name for name in locked() if name.startswith("nvidia-")]
    assert f"asks for {len(of_nvidia)} packages `nvidia-*`" in page
    assert all(entry.marker is not None for name in of_nvidia for entry in locked()[name]), "wanted on Linux alone"


def test_the_page_on_licences_names_every_package_whose_terms_are_not_permissive() -> None:
    """Judged by the metadata of the installed packages. Those of NVIDIA are counted by the test above."""
    page = (ROOT / "docs/reference/licences.md").read_text()
    # Only the directory of the installation: setuptools puts its own copies of other packages on the path of a process
    # that imports it.
    for distribution in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")]):
        metadata = distribution.metadata
        stated = [
            metadata.get("License-Expression") or metadata.get("License") or "",
            *metadata.get_all("Classifier", []),
        ]
        words = " ".join(text.partition("\n")[0] for text in stated if "::" not in text or text.startswith("License"))
        name = canonicalize_name(distribution.name)
        if re.search(r"GPL|MPL|Mozilla|EUPL|CDDL|Proprietary", words) and not name.startswith("nvidia-"):
            assert f"`{name}`" in page, f"{name}: {words}"
