"""Imports point one way, Ray stays where a workload runs, and the README's tree is true."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = [
    {"vidclf.schema", "vidclf.config", "vidclf.credentials"},
    {
        "vidclf.storage",
        "vidclf.owned",
        "vidclf.outputs",
        "vidclf.arguments",
        "vidclf.address",
        "vidclf.ledger",
        "vidclf.reconcile",
        "vidclf.progress",
        "vidclf.cluster",
        "vidclf.events",
        "vidclf.device",
        "vidclf.claims",
        "vidclf.lease",
    },
    {"vidclf.archive"},
    {"vidclf.features"},
    {"vidclf.learning"},
    {"vidclf.prediction"},
    {"vidclf.cli"},
]
"""From the bottom up. A module may import from its own layer and from those below."""

RAY_MODULES = {
    "vidclf.cluster",
    "vidclf.features.conversions",
    "vidclf.features.embed",
    "vidclf.features.extract",
    "vidclf.features.monitoring",
    "vidclf.features.sink",
    "vidclf.learning.member",
    "vidclf.learning.methods",
    "vidclf.learning.train",
    "vidclf.learning.trial",
    "vidclf.learning.tune",
    "vidclf.learning.worker",
    "vidclf.prediction.classifier",
    "vidclf.prediction.classify",
}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "vidclf").rglob("*.py")
    }


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> int | None:
    """The layer of a module; None for names that are no module of ours (classes, functions)."""
    for index, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return index
    return None


@pytest.mark.parametrize("module", sorted(set(modules()) - {"vidclf"}))
def test_every_module_has_a_layer_and_imports_only_from_below(module: str) -> None:
    own = layer(module)
    assert own is not None, f"{module} is in no layer"
    above = {name for name in imports(modules()[module]) if (other := layer(name)) is not None and other > own}
    assert above == set()


def test_ray_is_imported_only_where_a_workload_runs() -> None:
    importing = {name for name, path in modules().items() if any(re.match(r"ray(\.|$)", i) for i in imports(path))}
    assert importing <= RAY_MODULES


def test_no_job_imports_a_job() -> None:
    for path in (ROOT / "jobs").glob("*.py"):
        assert not any(name.split(".")[0] == "jobs" for name in imports(path))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: nothing says which files are ours")
def test_the_tree_in_the_readme_names_every_tracked_file_of_ours_and_no_other() -> None:
    tree = re.search(r"```tree\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree is not None
    told = set()
    folder = ""
    for line in tree[1].splitlines():
        name = line.split("  ")[0].strip() if not line.startswith(" ") else line.strip().split("  ")[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
            told |= set() if folder else {name}
        else:
            told.add(folder + name)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    ours = {
        path
        for path in listed
        if path and not path.startswith(("examples/archive/", "tests/")) and not path.endswith("__init__.py")
    }
    assert told == ours | {"examples/archive", "tests/test_<module>.py", "tests/test_end_to_end.py"}
