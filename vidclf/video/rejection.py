"""The verdict on a video that cannot be used."""

from __future__ import annotations

from vidclf.credentials import masked_text
from vidclf.schema import RejectReason


class VideoRejected(Exception):
    """A video that yields no frames; `reason` is from the closed list, the message says more, without credentials."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        message = masked_text(message)
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message
