"""Writes the generated pages of the documentation.

    make docs

- `development/architecture.md`: the tree of modules, from their docstrings
- `reference/jobs.md`: the flags of every job, from the configuration classes
- `reference/columns.md`: the columns of every table, from `vidclf/schema.py`
- `reference/reject-reasons.md`: the reasons for which a video is rejected, from `vidclf/schema.py`
- `reference/http-api.md`: the API of the server, from its OpenAPI document

A test compares the pages with what this script would write.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import typing
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Literal

import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from vidclf import cli, config, schema
from vidclf.config.fields import field_rules
from vidclf.server import openapi, refusals

DOCS = ROOT / "docs"
ARCHITECTURE = DOCS / "development" / "architecture.md"
BEGIN, END = "<!-- tree: written by `make docs` -->\n", "<!-- end of tree -->"
NOTICE = "<!-- written by `make docs` from the code; do not edit -->\n\n"


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


def architecture_page() -> str:
    """The page on the architecture, with its tree brought up to date."""
    text = ARCHITECTURE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:begin] + tree() + text[end:]


def job_names() -> list[str]:
    """Names of the jobs in the order in which a user meets them; jobs added later come last, by name."""
    order = ["index", "extract", "train", "tune", "classify", "audit", "evaluate", "diff", "export", "serve"]
    order += ["plan", "quantize"]
    names = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    return [name for name in order if name in names] + sorted(names - set(order))


def cell(text: str) -> str:
    """Text for a cell of a Markdown table: on one line, with vertical bars escaped."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def flag_rows(config_class: type) -> Iterator[str]:
    """Rows of a Markdown table with the flags of a job, under a row with the heading of each group of shared flags."""
    kinds, rules = typing.get_type_hints(config_class), field_rules(config_class)
    docs, defaults = cli.field_docs(config_class), {field.name: field.default for field in fields(config_class)}
    for title, names in cli.titled_fields(config_class).items():
        if title:
            yield f"| **{cell(title)}** | |"
        for name in names:
            is_choice = typing.get_origin(kinds[name]) is Literal
            words = cli.help_text(docs[name], defaults[name], None if is_choice else rules.get(name))
            value = "" if kinds[name] is bool else " " + cli.metavar(kinds[name])
            yield f"| `--{name.replace('_', '-')}{value}` | {cell(words)} |"


def jobs_page() -> str:
    """The page with the flags of every job."""
    text = (
        "# Jobs and their flags\n\n" + NOTICE + "The `--help` of each job shows the same text. Every job also takes "
        "`--config FILE`, a YAML file with any of its options; flags override it. A flag that is yes or no is "
        "switched off with `--no-…`.\n"
    )
    for name in job_names():
        config_class = getattr(config, f"{name.capitalize()}Config")
        description = inspect.getdoc(config_class) or ""
        rows = "\n".join(flag_rows(config_class))
        text += f"\n## {name}\n\n{description}\n\n| flag | meaning |\n|---|---|\n{rows}\n"
    return text


def type_name(kind: pa.DataType) -> str:
    """Name of an Arrow type in a table: `list of float64`, `list of 4 float32`, `timestamp`."""
    if pa.types.is_fixed_size_list(kind):
        return f"list of {kind.list_size} {type_name(kind.value_type)}"
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    return "float16" if pa.types.is_float16(kind) else str(kind)


EXAMPLE_CLASSES, EXAMPLE_DIMENSION = 4, 2048
"""Number of classes and of features per frame for which the page on columns shows the tables."""


def tables() -> dict[str, tuple[pa.Schema, str]]:
    """Schema and description of every table that a job writes, by its heading."""
    texts = module_texts(ROOT / "vidclf" / "schema.py")
    return {
        "Manifest": (schema.MANIFEST, texts["MANIFEST"]),
        "Features": (schema.features(EXAMPLE_DIMENSION), texts["features"]),
        "Predictions": (schema.predictions(EXAMPLE_CLASSES), texts["predictions"]),
        "Segments": (schema.segments(EXAMPLE_CLASSES), texts["segments"]),
        "Quarantine": (schema.QUARANTINE, texts["QUARANTINE"]),
        "Duplicates": (schema.DUPLICATES, texts["DUPLICATES"]),
        "Splits of an ensemble": (schema.SPLIT_TABLE, texts["SPLIT_TABLE"]),
        "Leakage": (schema.LEAKAGE, texts["LEAKAGE"]),
        "Flips": (schema.FLIPS, texts["FLIPS"]),
        "Trials": (schema.trials({}), texts["trials"]),
    }


def module_texts(path: Path) -> dict[str, str]:
    """Description of each constant and function of a module: the string below it, or its docstring."""
    body = ast.parse(path.read_text()).body
    texts = {node.name: ast.get_docstring(node) or "" for node in body if isinstance(node, ast.FunctionDef)}
    for node, following in itertools.pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(following, ast.Expr) and isinstance(node.targets[0], ast.Name):
            texts[node.targets[0].id] = inspect.cleandoc(str(typing.cast(ast.Constant, following.value).value))
    return texts


def columns_page() -> str:
    """The page with the columns of every table."""
    texts = module_texts(ROOT / "vidclf" / "schema.py")
    text = (
        f"# Columns\n\n{NOTICE}The columns of every table, shown for {EXAMPLE_CLASSES} classes and a backbone of "
        f"{EXAMPLE_DIMENSION} dimensions. Letters in array shapes: T sampled frames of a video, D features per frame, "
        "C classes. [Files](files.md) says which job writes which table.\n\n"
        "Columns that several tables share:\n\n"
        f"- {cell(texts['_VIDEO_FIELDS'].split(chr(10) * 2, 1)[1])}\n"
        f"- {cell(' '.join(texts['_PICTURE_FIELDS'].split()))}\n"
    )
    for heading, (table, words) in tables().items():
        rows = "\n".join(f"| `{f.name}` | {type_name(f.type)} | {'yes' if f.nullable else ''} |" for f in table)
        text += f"\n## {heading}\n\n{words}\n\n| column | type | may be null |\n|---|---|---|\n{rows}\n"
    return text


def reasons_page() -> str:
    """The page with every reason for which a video is rejected."""
    tree_of_schema = ast.parse((ROOT / "vidclf" / "schema.py").read_text())
    reasons = next(n for n in tree_of_schema.body if isinstance(n, ast.ClassDef) and n.name == "RejectReason")
    words = [
        " ".join(str(n.value.value).split())
        for n in reasons.body
        if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
    ][1:]
    rows = "\n".join(f"| `{reason}` | {cell(word)} |" for reason, word in zip(schema.RejectReason, words, strict=True))
    return (
        f"# Reject reasons\n\n{NOTICE}A video that gives no features and no prediction has a row in `quarantine/` with "
        "one of these reasons. `--retry-quarantined REASON,…` tries such videos again.\n\n"
        f"| reason | cause and remedy |\n|---|---|\n{rows}\n\n"
        "## Incomplete videos that are not rejected\n\nA video that is cut off or damaged and still gives a frame is "
        "not rejected. Its row has the seconds that are missing, at least, in the column `missing_s`; 0 means that "
        "nothing is known to be missing.\n\n"
        "| file | result |\n|---|---|\n"
        "| MP4, MOV, index first, cut | ok; `missing_s` is the duration of the index less that of the frames |\n"
        "| MP4, MOV, index last, cut | `truncated`: the index is lost |\n"
        "| MP4, MOV in fragments, cut | ok; `missing_s` is what the last fragment promises, and nothing promises the "
        "fragments behind it |\n"
        "| Matroska, WebM, AVI, ASF, FLV, cut | ok; `missing_s` is the duration of the header less that of the "
        "frames |\n"
        "| MPEG-2 TS and PS, raw streams, live recordings, cut | ok; `missing_s` is 0: no header promises more |\n"
        "| hole of zeros at the end | as a file that is cut there |\n"
        "| hole of zeros inside | ok; `missing_s` is the gap between the frames. In an MP4 it counts if a needed "
        "packet lies in the hole, in other remote files if a packet is damaged |\n"
        "| cut before the first frame ends, or zeros from the first byte | `truncated` |\n"
    )


def http_api_page() -> str:
    """The page on the HTTP API of the server."""
    rows = []
    for path, item in openapi.document(["A", "B"])["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                statuses = ", ".join(operation["responses"])
                rows.append(f"| `{method.upper()} {path}` | {cell(operation['summary'])} | {statuses} |")
    reasons = sorted(refusals.STATUS, key=lambda reason: (refusals.STATUS[reason], reason.value))
    reason_rows = "\n".join(
        f"| {refusals.STATUS[reason]} | `{reason.value}` | {cell(refusals.WORDS[reason])} |" for reason in reasons
    )
    return (
        f"# HTTP API\n\n{NOTICE}The API of [the server](../guides/serve.md). `/api/openapi.json` describes every field "
        "of every answer.\n\n| request | what it does | statuses |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "## Reasons\n\nA refused request and a failed job have a reason from this list. A failed job has its reason in "
        "`problem`, with the status that a refused request would have.\n\n"
        f"| status | reason | message |\n|---|---|---|\n{reason_rows}\n"
    )


def pages() -> dict[Path, str]:
    """Text of every generated page, by its path."""
    return {
        ARCHITECTURE: architecture_page(),
        DOCS / "reference" / "jobs.md": jobs_page(),
        DOCS / "reference" / "columns.md": columns_page(),
        DOCS / "reference" / "reject-reasons.md": reasons_page(),
        DOCS / "reference" / "http-api.md": http_api_page(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
