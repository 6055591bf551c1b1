"""Refusals of the server: a closed list of reasons, each with its HTTP status and its message.

A refusal contains nothing else. Messages of libraries and of the operating system name paths and versions, which must
not be sent to clients.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from vidclf.schema import RejectReason


class Problem(StrEnum):
    """Reasons for which the server refuses a request or fails a job, besides the reasons why a video is rejected."""

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
"""Every reason that a refusal may have."""

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
    RejectReason.UNSUPPORTED_CONTAINER: 415,
    RejectReason.NOT_FOUND: 422,
    RejectReason.PERMISSION_DENIED: 422,
    RejectReason.EMPTY_FILE: 422,
    RejectReason.NO_VIDEO_STREAM: 422,
    RejectReason.ENCRYPTED: 422,
    RejectReason.TRUNCATED: 422,
    RejectReason.DECODE_ERROR: 422,
    RejectReason.TOO_FEW_FRAMES: 422,
    RejectReason.READ_ERROR: 422,
    RejectReason.OUT_OF_MEMORY: 422,
    RejectReason.DECODE_TIMEOUT: 422,
    RejectReason.DECODER_CRASHED: 422,
    RejectReason.FEATURES_NOT_FINITE: 422,
}
"""HTTP status of each reason."""

WORDS: dict[Reason, str] = {
    Problem.BAD_REQUEST: "The request is malformed.",
    Problem.CROSS_SITE: "The request comes from a page of another site.",
    Problem.HOST_NOT_ALLOWED: "The server does not answer to this host name; --allowed-hosts adds names.",
    Problem.UNKNOWN_PATH: "There is no such path.",
    Problem.UNKNOWN_JOB: "There is no such job, or its result is no longer kept.",
    Problem.REQUEST_TIMEOUT: "The request took too long to arrive.",
    Problem.CANCELLED: "The job was cancelled.",
    Problem.METHOD_NOT_ALLOWED: "This path does not support the method.",
    Problem.UNSUPPORTED_MEDIA_TYPE: "Send multipart/form-data with a part 'file', or application/json with a 'uri'.",
    Problem.URI_NOT_ALLOWED: "The server does not fetch from there: scheme, host, port or address is not allowed.",
    Problem.FETCH_TIMEOUT: "Fetching the video took too long.",
    Problem.QUEUE_FULL: "The queue is full; try again later.",
    Problem.TOO_MANY_STREAMS: "Too many clients listen to events; poll the job instead.",
    Problem.TOO_MANY_CONNECTIONS: "There are too many connections from this address, or to this server.",
    Problem.INTERNAL_ERROR: "The server failed; the video is not the cause. The server's log has details.",
    Problem.LOADING: "The model is still loading; try again later.",
    Problem.STOPPING: "The server is stopping; the video was not classified.",
    Problem.INSUFFICIENT_STORAGE: "The server has no space left for the video.",
    RejectReason.TOO_LARGE: "The video is larger than this server accepts.",
    RejectReason.NOT_A_VIDEO: "This is not a video file.",
    RejectReason.UNSUPPORTED_CODEC: "There is no decoder for this video's codec.",
    RejectReason.UNSUPPORTED_CONTAINER: "Videos of this file format are not opened.",
    RejectReason.NOT_FOUND: "There is no video at that URI.",
    RejectReason.PERMISSION_DENIED: "The server is not permitted to read the video at that URI.",
    RejectReason.EMPTY_FILE: "The file is empty.",
    RejectReason.NO_VIDEO_STREAM: "The file contains no video stream.",
    RejectReason.ENCRYPTED: "The video is encrypted.",
    RejectReason.TRUNCATED: "The file is incomplete: it ends before the video does.",
    RejectReason.DECODE_ERROR: "The video is damaged: none of the needed frames could be decoded.",
    RejectReason.TOO_FEW_FRAMES: "No frame of the video could be decoded.",
    RejectReason.READ_ERROR: "The video could not be read to its end.",
    RejectReason.OUT_OF_MEMORY: "Decoding the video takes more memory than allowed.",
    RejectReason.DECODE_TIMEOUT: "Decoding the video took too long.",
    RejectReason.DECODER_CRASHED: "The video crashed the decoder.",
    RejectReason.FEATURES_NOT_FINITE: "The network has no finite values for the video.",
}
"""Message of each reason, for people."""

RETRY_AFTER_S = 5
"""Seconds after which a client that was refused may try again."""


class Refused(Exception):
    """Error that ends a request or a job; `reason` is sent to the client."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def problem(reason: Reason) -> dict[str, Any]:
    """Dict about a refusal as the client receives it in JSON: reason, message and HTTP status."""
    return {"reason": reason.value, "message": WORDS[reason], "status": STATUS[reason]}


def problem_headers(reason: Reason) -> list[tuple[str, str]]:
    """HTTP headers of a refusal: Retry-After if trying again may help, else none."""
    return [("Retry-After", str(RETRY_AFTER_S))] if STATUS[reason] in (429, 503, 507) else []
