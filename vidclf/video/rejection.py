"""The exception for a video that cannot be used, with its reject reason."""

from __future__ import annotations

from vidclf.credentials import masked_text
from vidclf.schema import RejectReason


class VideoRejected(Exception):
    """A video yields no frames.

    `reason` is one of the closed list `RejectReason`. `message` gives details, with credentials masked.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        message = masked_text(message)
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message
