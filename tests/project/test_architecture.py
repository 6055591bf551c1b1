"""Imports between packages go one way, Ray is imported in named modules only, and the generated docs are up to date."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = [
    {"json_text", "number_words"},
    {"errors", "schema", "arrow", "credentials", "installation", "container_signature", "csv_text"},
    {"config"},
    {"device", "extras"},
    {"storage", "progress", "event_log", "ray_address", "stderr_filter", "private_folder", "shortage"},
    {"archive", "video"},
    {"runs"},
    {"ray_cluster", "metrics", "torch_gpu"},
    {"tally", "preflight", "gpu_worker"},
    {"backbones"},
    {"features"},
    {"pipeline"},
    {"planning", "uncertainty"},
    {"ensemble"},
    {"training", "classification"},
    {"tuning", "words"},
    {"pages"},
    {"reports", "server", "export"},
    {"cli"},
    {"completion", "api"},
    {"command"},
    {"__main__"},
]
"""Layers from the bottom up. A package may import itself and lower layers, but not the other packages of its layer."""

RAY_MODULES = {
    "vidclf.classification.from_features",
    "vidclf.pipeline.embed_stage",
    "vidclf.pipeline.engines",
    "vidclf.pipeline.graph",
    "vidclf.pipeline.prometheus",
    "vidclf.pipeline.sink",
    "vidclf.ray_cluster",
    "vidclf.server.model_actor",
    "vidclf.tally",
    "vidclf.gpu_worker",
    "vidclf.training.member_worker",
    "vidclf.training.ray_members",
    "vidclf.tuning.ray_search",
    "vidclf.tuning.search_progress",
    "vidclf.tuning.trial_worker",
    "vidclf.tuning.tune",
}


@cache
def modules() -> dict[str, Path]:
    """The files of all modules of vidclf, by module name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "vidclf").rglob("*.py")
    }


@cache
def imports(path: Path) -> set[str]:
    """All names that a file imports, also inside functions: `a.b` and `a.b.c` for `from a.b import c`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package(module: str) -> str | None:
    """The top-level package or module under `vidclf`; None for everything else."""
    parts = module.split(".")
    return parts[1] if parts[0] == "vidclf" and len(parts) > 1 and layer(parts[1]) is not None else None


def layer(name: str) -> int | None:
    """The number of the layer of a package, counted from the bottom; None if it is in none."""
    return next((index for index, names in enumerate(LAYERS) if name in names), None)


def may_import(importer: str, imported: str) -> bool:
    importer_layer, imported_layer = layer(importer), layer(imported)
    assert importer_layer is not None
    assert imported_layer is not None
    return importer == imported or imported_layer < importer_layer


@pytest.mark.parametrize("module", sorted(set(modules()) - {"vidclf"}))
def test_every_module_has_a_layer_and_imports_only_from_below(module: str) -> None:
    importer = package(module)
    assert importer is not None, f"{module} is in no layer"
    imported = {name for name in imports(modules()[module]) if package(name)}
    assert {name for name in imported if not may_import(importer, str(package(name)))} == set()


def test_no_import_circle() -> None:
    """Depth-first search over the imports at the top of each module; imports inside functions are left out."""
    known = modules()
    edges = {
        name: {
            target
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
            for target in (f"{node.module}.{alias.name}", node.module)
            if target in known and target != name
        }
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " imports ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(edges[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_ray_is_imported_only_where_a_workload_runs() -> None:
    importing = {name for name, path in modules().items() if any(re.match(r"ray(\.|$)", i) for i in imports(path))}
    assert importing <= RAY_MODULES


def test_no_job_imports_a_job() -> None:
    for path in (ROOT / "jobs").glob("*.py"):
        assert not any(name.split(".")[0] == "jobs" for name in imports(path))


def test_the_generated_pages_are_up_to_date() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    generate = importlib.import_module("generate")
    stale = [path.name for path, text in generate.pages().items() if path.read_text() != text]
    assert stale == [], "run `make docs`"


def test_json_is_written_in_one_module_so_that_no_nan_reaches_a_file() -> None:
    writers = {name for name, path in modules().items() if re.search(r"\bjson\.dumps?\b", path.read_text())}
    assert writers == {"vidclf.json_text"}
