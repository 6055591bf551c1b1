"""A digest in the last line of a text tells the job's own file from one that was edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidclf.runs import signed_text


def test_the_signature_is_the_last_line() -> None:
    assert signed_text.signed("a\n") == (
        b"a\n<!-- written by vidclf; SHA-256 of the text above: "
        b"87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7 -->\n"
    )


@pytest.mark.parametrize("change", [b"", b"\n", b"b\n"])
def test_a_text_is_unchanged_if_only_empty_lines_follow(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(signed_text.signed("a\n") + change)
    assert signed_text.is_unchanged(str(path)) == (change != b"b\n")


@pytest.mark.parametrize("content", [b"", b"a\n", b"a\n<!-- written by vidclf; SHA-256 of the text above: 0 -->\n"])
def test_other_texts_are_not_signed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(content)
    assert not signed_text.is_unchanged(str(path))
    path.write_bytes(signed_text.signed("a\n").replace(b"a", b"A", 1))
    assert not signed_text.is_unchanged(str(path))
    assert not signed_text.is_unchanged(str(tmp_path / "missing"))
