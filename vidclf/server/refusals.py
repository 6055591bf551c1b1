"""What can go wrong with a request to the server or with its video: a closed list, each with its HTTP
status and its words.

The words are all that an answer says: messages of libraries and of the operating system name paths and
versions, which are nobody's business on the other side.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from vidclf.schema import RejectReason


class Problem(StrEnum):
    """Why a request is turned away, or its video given up for no fault of its own."""

    BAD_REQUEST = "bad_request"
    CROSS_SITE = "cross_site_request"
    HOST_NOT_ALLOWED = "host_not_allowed"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_JOB = "unknown_job"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    URI_NOT_ALLOWED = "uri_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    CANCELLED = "cancelled"
    FETCH_TIMEOUT = "fetch_timeout"
    QUEUE_FULL = "queue_full"
    TOO_MANY_STREAMS = "too_many_streams"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    INTERNAL_ERROR = "internal_error"
    LOADING = "loading"
    STOPPING = "stopping"
    INSUFFICIENT_STORAGE = "insufficient_storage"


Reason = Problem | RejectReason

STATUS: dict[Reason, int] = {
    Problem.BAD_REQUEST: 400,
    Problem.CROSS_SITE: 403,
    Problem.HOST_NOT_ALLOWED: 403,
    Problem.UNKNOWN_PATH: 404,
    Problem.UNKNOWN_JOB: 404,
    Problem.METHOD_NOT_ALLOWED: 405,
    Problem.REQUEST_TIMEOUT: 408,
    Problem.CANCELLED: 410,
    Problem.UNSUPPORTED_MEDIA_TYPE: 415,
    Problem.URI_NOT_ALLOWED: 422,
    Problem.FETCH_TIMEOUT: 422,
    Problem.QUEUE_FULL: 429,
    Problem.TOO_MANY_STREAMS: 429,
    Problem.TOO_MANY_CONNECTIONS: 429,
    Problem.INTERNAL_ERROR: 500,
    Problem.LOADING: 503,
    Problem.STOPPING: 503,
    Problem.INSUFFICIENT_STORAGE: 507,
    RejectReason.TOO_LARGE: 413,
    RejectReason.NOT_A_VIDEO: 415,
    RejectReason.UNSUPPORTED_CODEC: 415,
    RejectReason.NOT_FOUND: 422,
    RejectReason.PERMISSION_DENIED: 422,
    RejectReason.EMPTY_FILE: 422,
    RejectReason.NO_VIDEO_STREAM: 422,
    RejectReason.TRUNCATED: 422,
    RejectReason.DECODE_ERROR: 422,
    RejectReason.TOO_FEW_FRAMES: 422,
    RejectReason.READ_ERROR: 422,
    RejectReason.OUT_OF_MEMORY: 422,
    RejectReason.DECODE_TIMEOUT: 422,
    RejectReason.DECODER_CRASHED: 422,
}

WORDS: dict[Reason, str] = {
    Problem.BAD_REQUEST: "The request is not one that this address understands.",
    Problem.CROSS_SITE: "The request comes from another site's page.",
    Problem.HOST_NOT_ALLOWED: "This server does not go by that name; --allowed-hosts lists the names that it goes by.",
    Problem.UNKNOWN_PATH: "There is nothing at this address.",
    Problem.UNKNOWN_JOB: "No such job, or its result is no longer kept.",
    Problem.REQUEST_TIMEOUT: "The request took too long to arrive.",
    Problem.CANCELLED: "The job was cancelled.",
    Problem.METHOD_NOT_ALLOWED: "This address does not take that method.",
    Problem.UNSUPPORTED_MEDIA_TYPE: "Send multipart/form-data with a part 'file', or application/json with a 'uri'.",
    Problem.URI_NOT_ALLOWED: "Videos are not fetched from there: its scheme, host, port or address is not allowed.",
    Problem.FETCH_TIMEOUT: "Fetching the video took too long.",
    Problem.QUEUE_FULL: "As many videos are waiting as may wait; try again in a while.",
    Problem.TOO_MANY_STREAMS: "As many are listening to progress as may; ask for the job itself instead.",
    Problem.TOO_MANY_CONNECTIONS: "This address holds as many connections as one address may, or the server does.",
    Problem.INTERNAL_ERROR: "Something failed here that is not the video's fault; the server's log has more.",
    Problem.LOADING: "The model is being loaded; try again in a while.",
    Problem.STOPPING: "The server is stopping; the video was not classified.",
    Problem.INSUFFICIENT_STORAGE: "The server has no space left for the video.",
    RejectReason.TOO_LARGE: "The video is larger than this server takes.",
    RejectReason.NOT_A_VIDEO: "This is not a video file.",
    RejectReason.UNSUPPORTED_CODEC: "There is no decoder for this video's codec.",
    RejectReason.NOT_FOUND: "There is no video at that URI.",
    RejectReason.PERMISSION_DENIED: "The video at that URI may not be read.",
    RejectReason.EMPTY_FILE: "The file is empty.",
    RejectReason.NO_VIDEO_STREAM: "The file holds no video stream.",
    RejectReason.TRUNCATED: "The file ends before the video does: it was cut off on the way.",
    RejectReason.DECODE_ERROR: "The video is damaged: none of what it needs could be decoded.",
    RejectReason.TOO_FEW_FRAMES: "No frame of the video could be decoded.",
    RejectReason.READ_ERROR: "The video could not be read to its end.",
    RejectReason.OUT_OF_MEMORY: "Decoding the video takes more memory than one video may have.",
    RejectReason.DECODE_TIMEOUT: "Decoding the video took too long.",
    RejectReason.DECODER_CRASHED: "The video crashed the decoder.",
}

RETRY_AFTER_S = 5


class Refused(Exception):
    """A request, or a job, ends with a reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def problem(reason: Reason) -> dict[str, Any]:
    """What an answer says of it."""
    return {"reason": reason.value, "message": WORDS[reason], "status": STATUS[reason]}


def problem_headers(reason: Reason) -> list[tuple[str, str]]:
    """What goes with an answer that tells of it: when to try again, where that may help."""
    return [("Retry-After", str(RETRY_AFTER_S))] if STATUS[reason] in (429, 503, 507) else []
