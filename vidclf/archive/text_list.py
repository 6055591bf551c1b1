"""Lists of videos in text files: tables with any usual separator, with or without a header, and plain lines."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from vidclf.archive.list_values import (
    LOCATION_COLUMNS,
    TEXT_COLUMNS,
    column_name,
    looks_like_a_location,
    twice,
)
from vidclf.archive.video_names import VIDEO_EXTENSIONS, extension

_SEPARATORS = ",;\t|"

_PATH_AND_LABEL = re.compile(rf"(.*\.(?:{'|'.join(sorted(VIDEO_EXTENSIONS))}))[\"']?(\s*[,;\t|]\s*|\s+)(\S.*)", re.I)
"""Pattern of a line of an annotation file: a path with the extension of a video, a separator, and a label."""


def decoded(content: bytes, file_name: str) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark. Raises ValueError with the remedy."""
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4096]
    if is_utf16:
        raise ValueError(
            f"must be UTF-8, is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {file_name} > utf8_{file_name}"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"must be UTF-8, line {line} has the byte {content[error.start]:#04x}; convert it, for example: iconv -f "
            f"WINDOWS-1252 -t UTF-8 {file_name} > utf8_{file_name}"
        ) from None


def read_table(
    text: str, separator: str | None = None, naming: tuple[str, ...] = LOCATION_COLUMNS
) -> list[dict[str, Any]]:
    """Return the rows of a table, by column name. Raises ValueError if it is not a table of videos.

    The separator is the one that gives the columns of the first line. Without a header, a table of one column holds
    locations, and one of two columns locations and labels. `naming`: columns that may name the video; a header has one.
    """
    lead = re.match(r"sep=(.)\r?\n", text)  # Excel writes and reads this line
    if lead:
        text, separator = text[lead.end() :], lead[1]
    first_line = next((line for line in text.split("\n") if line.strip()), "")
    if separator is None:
        separator = max(_SEPARATORS, key=lambda candidate: _columns_found(first_line, candidate, naming))
    rows = [row for row in _cells(text, separator) if any(cell.strip() for cell in row)]
    if not rows:
        raise ValueError("is empty")
    header, rows = _header(rows, naming)
    records = []
    names = [column_name(name) for name in header]
    for number, row in enumerate(rows, 1):
        if [column_name(cell) for cell in row] == names and set(names) & set(naming):
            raise ValueError(f"row {number} repeats the header; remove it")
        if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
            raise ValueError(
                f"row {number} has {len(row)} columns, the first line has {len(header)}; quote values with "
                f"{separator!r} in them"
            )
        records.append(dict(zip(header, row, strict=False)))
    return records


def _cells(text: str, separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"not a table with the separator {separator!r} ({error})") from None


def _columns_found(line: str, separator: str, naming: tuple[str, ...]) -> tuple[int, int]:
    """Return how well a separator fits the first line: the numbers of known column names and of columns."""
    try:
        cells = next(csv.reader([line.rstrip("\r")], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return 0, 0
    return sum(column_name(cell) in (*naming, *TEXT_COLUMNS) for cell in cells), len(cells)


def _header(rows: list[list[str]], naming: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the rows below them. Raises ValueError if no column of `naming` is there."""
    first = rows[0]
    if set(map(column_name, first)) & set(naming):
        name = twice(first)
        if name is not None:
            raise ValueError(f"names the column {name!r} twice; rename or remove one")
        return first, rows[1:]
    places = [place for place, cell in enumerate(first) if looks_like_a_location(cell)]
    if not places:
        shown = ", ".join(repr(cell) for cell in first)
        raise ValueError(f"must have a column {', '.join(naming)}, has {shown}; name it in the first line")
    if len(first) > 2:
        raise ValueError(f"must name its {len(first)} columns in the first line, such as path,label,split")
    return ["path" if place == places[0] else "label" for place in range(len(first))], rows


def read_lines(text: str, naming: tuple[str, ...] = LOCATION_COLUMNS) -> list[Any]:
    """Return the entries of a plain text list: a location per line, or a location and a label.

    A first line with column names, one of them of `naming`, makes it a table. Only a line feed ends a line: a file name
    may contain the other characters at which `splitlines` splits. Raises ValueError if only some of the lines have a
    label.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    separator = _header_separator(lines[0], naming) if lines else None
    if separator is not None:
        return read_table(text, separator, naming)
    matches = [_PATH_AND_LABEL.fullmatch(line.strip()) for line in lines]
    labelled = [bool(match and extension(match[3]) not in VIDEO_EXTENSIONS) for match in matches]
    if not any(labelled):
        return [_unquoted(line) for line in lines]
    records = []
    for number, (line, match, has_label) in enumerate(zip(lines, matches, labelled, strict=True), 1):
        if match is None or not has_label:
            raise ValueError(f"row {number} has no label, others have one: {line!r}; add it, or name columns in a .csv")
        if match[2].isspace() and "\t" not in match[2] and len(match[3].split()) > 1:
            raise ValueError(f"row {number} has several words behind the path: {line!r}; name the columns in a .csv")
        records.append({"path": match[1].strip().lstrip("\"'"), "label": _unquoted(match[3].strip())})
    return records


def _header_separator(line: str, naming: tuple[str, ...]) -> str | None:
    """Return the separator of a first line that holds only column names; None if it is no such line."""
    for separator in _SEPARATORS + " ":
        names = [column_name(name) for name in line.split(separator)]
        if set(names) <= {*naming, *TEXT_COLUMNS} and set(names) & set(naming):
            return separator
    return None


def _unquoted(line: str) -> str:
    """Return a line without the quotation marks around the whole of it."""
    text = line.strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text.count(text[0]) == 2
    return text[1:-1] if is_quoted else line
