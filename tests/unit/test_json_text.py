"""JSON of vidclf never holds NaN or infinity."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from vidclf import storage
from vidclf.json_text import json_text


def test_numbers_that_are_not_finite_are_null() -> None:
    value = {"a": math.nan, "b": [1.5, math.inf, (-math.inf, "nan")], "c": {"d": None, "e": True}}
    assert json_text(value) == '{"a": null, "b": [1.5, null, [null, "nan"]], "c": {"d": null, "e": true}}'


def test_everything_else_is_as_python_writes_it() -> None:
    value = {"b": [1, 2.5, "\u00e9", None], "a": {"x": False}}
    assert json_text(value, indent=2) == json.dumps(value, indent=2)
    assert json_text(value, sort_keys=True) == json.dumps(value, sort_keys=True)
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_text({1, 2})


def test_a_file_with_nan_holds_null(tmp_path: Path) -> None:
    storage.publish_json(f"{tmp_path}/a.json", {"loss": math.nan})
    assert (tmp_path / "a.json").read_text() == '{\n  "loss": null\n}\n'
