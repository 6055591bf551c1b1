"""Decoder processes that the tests of reports share, because the start of one takes half a second or more."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from vidclf.reports import attended_frames
from vidclf.video.decoder_process import SupervisedDecoder


@pytest.fixture(scope="session")
def decoder_of() -> Iterator[dict[bytes, SupervisedDecoder]]:
    """Decoders by their pickled arguments; their processes end with the session."""
    started: dict[bytes, SupervisedDecoder] = {}
    yield started
    for decoder in started.values():
        decoder.close()


@pytest.fixture(autouse=True)
def shared_decoders(monkeypatch: pytest.MonkeyPatch, decoder_of: dict[bytes, SupervisedDecoder]) -> None:
    """Let a report take a decoder that an earlier report of the session has used, and leave it open."""

    def shared(*arguments: Any) -> SimpleNamespace:
        key = pickle.dumps(arguments)
        if key not in decoder_of:
            decoder_of[key] = SupervisedDecoder(*arguments)
        return SimpleNamespace(decode=decoder_of[key].decode, close=lambda: None)

    monkeypatch.setattr(attended_frames, "SupervisedDecoder", shared)
