"""Records which files of vidclf handle a video's location, while their code runs in this process or in a child."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

SOURCES = (f"{ROOT}/jobs/", f"{ROOT}/vidclf/")


def start(location: str, log: str) -> None:
    """Record from now on in this process: append to the file `log` each source file that handles `location`.

    A file handles the location if one of its functions has it in an argument, passes it as an argument, or has it in a
    local variable when it returns: as text, in a column of an Arrow table, or in a list, tuple or dictionary of these.
    """
    seen: set[str] = set()

    def record(path: str) -> None:
        if path.startswith(SOURCES) and path not in seen:
            seen.add(path)
            with open(log, "a") as file:
                file.write(f"{os.path.relpath(path, ROOT)}\n")

    def profile(frame: FrameType, event: str, result: Any) -> None:
        if event not in ("call", "return") or not frame.f_code.co_filename.startswith(SOURCES):
            return
        if any(holds(value, location) for value in frame.f_locals.values()):
            if event == "call" and frame.f_back is not None:
                record(frame.f_back.f_code.co_filename)
            record(frame.f_code.co_filename)
        elif event == "return" and holds(result, location):
            record(frame.f_code.co_filename)

    sys.setprofile(profile)


def stop() -> None:
    """End the recording in this process."""
    sys.setprofile(None)


def write_child_hook(directory: Path, location: str, log: str) -> None:
    """Write a module into `directory` that starts the recording in each Python process that has it on its path."""
    code = f"from tests.support import location_trace\nlocation_trace.start({location!r}, {log!r})\n"
    (directory / "sitecustomize.py").write_text(code)


def holds(value: Any, location: str) -> bool:
    """Whether `value` is or contains the text `location`; the attributes of other objects are not searched."""
    if isinstance(value, str):
        return location in value
    if isinstance(value, (list, tuple)):
        return any(holds(item, location) for item in value)
    if isinstance(value, dict):
        return any(holds(item, location) for item in value.values())
    if type(value).__module__ == "pyarrow.lib":
        return _arrow_holds(value, location)
    return False


def _arrow_holds(value: Any, location: str) -> bool:
    """Whether a text column of an Arrow table, array or struct contains `location`."""
    import pyarrow as pa

    if isinstance(value, (pa.Table, pa.RecordBatch)):
        return any(_arrow_holds(column, location) for column in value.columns)
    if not isinstance(value, (pa.Array, pa.ChunkedArray)):
        return False
    if pa.types.is_struct(value.type):
        return any(_arrow_holds(column, location) for column in value.flatten())
    return pa.types.is_string(value.type) and location in value.to_pylist()
