"""requirements.lock agrees with requirements.txt, and lists every package with its digests."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from av._core import library_meta
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


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
