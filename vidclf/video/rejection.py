"""The exception for a video that cannot be used; it carries the reason."""

from __future__ import annotations

from vidclf.credentials import masked_text
from vidclf.schema import RejectReason


class VideoRejected(Exception):
    """Error: a video gives no usable frames.

    `reason` is one of the fixed list `RejectReason`. `message` gives details, with credentials masked.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        message = masked_text(message)
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message
