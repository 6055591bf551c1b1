"""The error for an ensemble that an earlier version of this software calibrated."""

from __future__ import annotations

from vidclf.errors import ConfigError


class OutdatedEnsembleError(ConfigError):
    """Raised for an ensemble whose members are usable, but whose calibration is from an earlier version and must be
    made anew."""

    def __init__(self, path: str, difference: str) -> None:
        """`path` is the file of the earlier version, `difference` what is different in it, as the end of a sentence."""
        super().__init__(
            f"--ensemble {path}: was calibrated by an earlier version {difference}; run jobs/train.py again with the "
            "same flags, which recalibrates and keeps the members"
        )
