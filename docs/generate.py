"""Writes the generated part of the documentation: the tree of modules in `docs/development/architecture.md`.

    make docs

A test compares the page with what this script would write.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "development" / "architecture.md"
BEGIN, END = "<!-- tree: written by `make docs` -->\n", "<!-- end of tree -->"


def summary(path: Path) -> str:
    """First line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    if not docstring:
        raise ValueError(f"{path.relative_to(ROOT)}: a docstring is missing")
    return docstring.splitlines()[0].rstrip(".")


def tree() -> str:
    """One line per module of `vidclf`, package by package, each with the first line of its docstring."""
    lines = ["vidclf/"]
    root = ROOT / "vidclf"
    lines += [f"  {path.name:<26} {summary(path)}" for path in sorted(root.glob("*.py")) if path.name != "__init__.py"]
    for package in sorted(path.parent for path in root.glob("*/__init__.py")):
        lines += ["", f"  {package.name + '/':<26} {summary(package / '__init__.py')}"]
        modules = sorted(path for path in package.glob("*.py") if path.name != "__init__.py")
        lines += [f"    {path.name:<24} {summary(path)}" for path in modules]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def page() -> str:
    """The page with its tree brought up to date."""
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:begin] + tree() + text[end:]


if __name__ == "__main__":
    PAGE.write_text(page())
