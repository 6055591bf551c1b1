"""vidclf: classification of large video archives, as batch jobs on a Ray cluster.

Python interface (docs/guides/python.md):

- `classify(input=…, ensemble=…, output=…)`: classify an archive, as the job `classify` does. Returns `Classification`.
- `read_predictions(run)`: the predictions of a finished classification as a pyarrow Table.
- `Ensemble.load(directory).classify(path)`: classify one video in this process. Returns `Prediction`.
- `ConfigError`, `RunStopped`, `VideoRejected`: the errors of these functions.

Each name is imported at its first use, so that `import vidclf` and the command `vidclf` start fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidclf.api import Classification, Ensemble, Prediction, classify, read_predictions
    from vidclf.errors import ConfigError, RunStopped
    from vidclf.video.rejection import VideoRejected

__version__ = "0.1.0"

__all__ = [
    "Classification",
    "ConfigError",
    "Ensemble",
    "Prediction",
    "RunStopped",
    "VideoRejected",
    "classify",
    "read_predictions",
]

_MODULE_OF = {
    **dict.fromkeys(("Classification", "Ensemble", "Prediction", "classify", "read_predictions"), "vidclf.api"),
    **dict.fromkeys(("ConfigError", "RunStopped"), "vidclf.errors"),
    "VideoRejected": "vidclf.video.rejection",
}
"""Module of each name in `__all__`."""


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vidclf' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
