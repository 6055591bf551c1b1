"""Tests of checkpoints without a network: asking it is an error, and the Hugging Face Hub's cache is empty."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest


def forbid_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Refuse every connection until the end of the test, and let the cache of the Hub be a directory of `tmp_path`."""

    def refuse(*_: object) -> None:
        raise OSError("a test asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
