"""Files of a checkpoint (configuration and weights of a network): in a directory, or in the Hugging Face Hub's cache.

Files that the cache lacks are downloaded. `HF_HOME`, `HF_HUB_OFFLINE` and the other variables of `huggingface_hub` are
heeded, because that package does the download.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vidclf import credentials, extras, storage
from vidclf.errors import ConfigError

WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the file with the weights in a directory or repository of timm, in the order in which they are tried."""

CARD = "README.md"
"""Name of the model card, whose first lines state the licence."""

_LICENCE = re.compile(r"^license(?:_name)?:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)


class CheckpointFiles(Protocol):
    """Place with the files of a checkpoint."""

    revision: str | None
    """commit of the repository; None for a directory, and until the first file of a repository is found"""

    def find(self, names: Sequence[str]) -> str:
        """Return the location of the first of these files that exists. Raises ConfigError if none does."""

    def has(self, name: str) -> bool:
        """Return whether the file `name` exists, as far as that is known without a network."""

    def card(self) -> str:
        """Return the text of the model card; empty if there is none."""


@dataclass
class Directory:
    """A directory with the files of a checkpoint, at a path or URI."""

    name: str
    """the value of `--backbone`, for messages"""
    location: str
    revision: str | None = None

    def find(self, names: Sequence[str]) -> str:
        """Return the location of the first of these files that exists. Raises ConfigError if none does."""
        for name in names:
            if storage.exists(storage.join(self.location, name)):
                return storage.join(self.location, name)
        raise ConfigError(f"--backbone {self.name}: must be a directory with {' or '.join(names)}")

    def has(self, name: str) -> bool:
        """Return whether the file `name` exists."""
        return storage.exists(storage.join(self.location, name))

    def card(self) -> str:
        """Return the text of the model card; empty if there is none."""
        card = storage.join(self.location, CARD)
        return storage.read_bytes(card).decode(errors="replace") if storage.exists(card) else ""


@dataclass
class Repository:
    """A repository of the Hugging Face Hub. All files are of one commit, which the first download decides."""

    name: str
    """the value of `--backbone`, for messages"""
    id: str
    """name of the repository, ORG/NAME"""
    revision: str | None = None

    def find(self, names: Sequence[str]) -> str:
        """Return the path of the first of these files that exists, downloaded unless it is in the cache.

        Raises ConfigError if the repository has none of them, and without a network if the cache has none.
        """
        for name in names[:-1]:
            path = self._file(name, is_optional=True)
            if path is not None:
                return path
        return str(self._file(names[-1]))

    def has(self, name: str) -> bool:
        """Return whether the repository has the file `name`; False if that cannot be known now."""
        return self._file(name, is_optional=True) is not None

    def card(self) -> str:
        """Return the text of the model card; empty if there is none, or if it cannot be downloaded."""
        path = self._file(CARD, is_optional=True)
        return Path(path).read_text(errors="replace") if path is not None else ""

    def _file(self, file: str, is_optional: bool = False) -> str | None:
        """Return the path of a file in the cache; None for an optional file that cannot be had."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

        try:
            path = Path(hf_hub_download(self.id, file, revision=self.revision))
        except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
            if is_optional and isinstance(error, EntryNotFoundError):
                return None
            raise ConfigError(f"--backbone {self.name}: {self._failure(file, error)}") from error
        self.revision = path.parent.name  # the cache keeps the files of a commit in snapshots/COMMIT
        return str(path)

    def _failure(self, file: str, error: Exception) -> str:
        """Return the text of the error that a file is neither in the cache nor can be downloaded, with the remedy."""
        from huggingface_hub import constants

        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        revision = f" --revision {self.revision}" if self.revision else ""
        return (
            f"{file} of {self.id} is not in {constants.HF_HUB_CACHE} and could not be downloaded ({reason}); where "
            f"there is a network, run `hf download {self.id}{revision} --local-dir DIR`, copy DIR here, and give "
            "--backbone local-dir:DIR"
        )


def directory(name: str, location: str) -> Directory:
    """Return the directory `location` of the backbone `name`. Raises ConfigError if its URI contains credentials."""
    if credentials.has_credentials(location):
        raise ConfigError(
            f"--backbone {credentials.masked(name)}: must be without credentials, which would be stored with the "
            "features; put them into the environment"
        )
    return Directory(name=name, location=location)


def read_config(name: str, file: str) -> dict[str, Any]:
    """Return the content of a JSON file of the backbone `name`. Raises ConfigError unless it is a JSON object."""
    try:
        values = json.loads(storage.read_bytes(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--backbone {name}: {file} cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--backbone {name}: {file} must hold a JSON object, holds {type(values).__name__}")
    return values


def stated_licence(card: str) -> str | None:
    """Return the licence that the head of a model card (YAML between lines of `---`) states; None if it states none.

    A `license_name` is preferred to `license: other`.
    """
    head = card.split("---", 2)[1] if card.startswith("---") and card.count("---") >= 2 else ""
    names = [match[1] for match in _LICENCE.finditer(head)]
    return next((name for name in names if name != "other"), names[0] if names else None)


def require_extra(name: str, extra: str) -> None:
    """Raise ConfigError, naming the extra to install, if a package that the backbone `name` needs is not installed."""
    extras.require([extra], f"--backbone {name}")
