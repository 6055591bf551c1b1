"""The server's WSGI application: the HTTP API and the web page, free of the model and of the HTTP server.

Requests put videos into the queue and read progress and results from it. Every refusal has a reason from the closed
list in `refusals.py`. Importing this module loads neither torch nor Ray nor scipy.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from vidclf.json_text import json_text
from vidclf.schema import RejectReason
from vidclf.server.fetch import UriPolicy
from vidclf.server.host_names import is_known_host
from vidclf.server.job import Job
from vidclf.server.job_queue import JobQueue
from vidclf.server.page import Page
from vidclf.server.prometheus import CONTENT_TYPE, ServeMetrics
from vidclf.server.refusals import STATUS, Problem, Reason, Refused, problem, problem_headers
from vidclf.server.uploads import FORM_BYTES, MAX_PARTS, UploadFolder, UploadRequest, shown_name

CLASSIFY = "/api/classify"
"""Path of requests that submit a video."""

MAX_STREAMS = 32
"""Largest number of clients that receive events (progress of a job) at the same time. Each of them occupies a
thread."""

TICK_S = 1.0
"""Seconds between two events of a job whose state does not change. A lost client is noticed within this time."""

MAX_JSON_BYTES = 16 * 1024
"""Largest size in bytes of a request that submits a video by its URI. Such a request is read into memory."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Addresses and names of this machine that other machines cannot reach."""

ANSWER_HEADERS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
]
"""HTTP headers of every answer of the server."""

STRICT_CSP = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
"""Content-Security-Policy header of every answer but the web page."""

NO_VIDEO = {"image", "text", "font", "model"}
"""Content types that are certainly no video (the part before the slash); an upload that declares one is refused."""

STILL_VIDEO = {"text/vnd.trolltech.linguist"}
"""Exceptions from `NO_VIDEO`: some systems declare this type for `.ts`, an MPEG transport stream."""

log = logging.getLogger("vidclf.serve")

EXTENSION = "vidclf"
"""Key of the `Service` in `app.extensions` of the Flask application."""

routes = Blueprint("vidclf", __name__)


@dataclass(kw_only=True)
class Service:
    """State of a server that all its requests share."""

    queue: JobQueue
    folder: UploadFolder
    policy: UriPolicy
    metrics: ServeMetrics
    page: Page
    openapi: dict[str, Any]
    ensemble_id: str
    classes: list[str]
    max_upload_bytes: int
    host: str
    """address or name that the server listens on"""
    allowed_hosts: tuple[str, ...] = ()
    """further host names under which clients may address the server"""
    is_ready: bool = False
    """whether the model is loaded"""
    streams: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_STREAMS))
    """has one permit for each client that may receive events"""

    def admit(self, method: str, path: str) -> Reason | None:
        """Reason for refusing a request, judged by its method and path alone; None to accept it."""
        if (method, path) != ("POST", CLASSIFY):
            return None
        if not self.is_ready:
            return Problem.LOADING
        return Problem.QUEUE_FULL if self.queue.is_full() else None


def create_app(service: Service) -> Flask:
    """Flask application (WSGI) with all routes, for the state `service`."""
    app = Flask("vidclf", static_folder=None)
    app.request_class = type(
        "_Upload", (UploadRequest,), {"folder": service.folder, "max_bytes": service.max_upload_bytes}
    )
    app.config["MAX_CONTENT_LENGTH"] = service.max_upload_bytes + FORM_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = FORM_BYTES
    app.config["MAX_FORM_PARTS"] = MAX_PARTS
    # Before the routes are registered, which read it.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.extensions[EXTENSION] = service
    app.register_blueprint(routes)
    return app


@routes.get("/")
def get_page() -> Response:
    page = _service().page
    return Response(page.html, mimetype="text/html", headers=[("Content-Security-Policy", page.csp)])


@routes.post(CLASSIFY)
def classify() -> Response:
    service = _service()
    reason = service.admit(request.method, request.path)
    if reason is not None:
        raise Refused(reason)
    if request.mimetype == "multipart/form-data":
        job = take_upload(service)
    elif request.mimetype == "application/json":
        job = take_uri(service)
    else:
        raise Refused(Problem.UNSUPPORTED_MEDIA_TYPE)
    url = f"/api/jobs/{job.id}"
    return json_answer({"id": job.id, "url": url, "events": f"{url}/events"}, 202, [("Location", url)])


@routes.get("/api/jobs/<job_id>")
def get_job(job_id: str) -> Response:
    queue = _service().queue
    return json_answer(queue.describe(queue.find(job_id)))


@routes.delete("/api/jobs/<job_id>")
def cancel_job(job_id: str) -> Response:
    queue = _service().queue
    return json_answer(queue.describe(queue.cancel(job_id)))


@routes.get("/api/jobs/<job_id>/events")
def get_events(job_id: str) -> Response:
    service = _service()
    job = service.queue.find(job_id)
    if not service.streams.acquire(blocking=False):
        raise Refused(Problem.TOO_MANY_STREAMS)
    response = Response(event_stream(service.queue, job), mimetype="text/event-stream")
    response.call_on_close(service.streams.release)
    return response


@routes.get("/api/openapi.json")
def get_openapi() -> Response:
    return json_answer(_service().openapi)


@routes.get("/healthz")
def get_health() -> Response:
    service = _service()
    if not service.is_ready:
        raise Refused(Problem.LOADING)
    return json_answer({"status": "ok", "ensemble_id": service.ensemble_id, "classes": service.classes})


@routes.get("/metrics")
def get_metrics() -> Response:
    service = _service()
    return Response(service.metrics.text(service.queue), content_type=CONTENT_TYPE)


# The handlers below are of the application, not of the blueprint: they also apply to unknown paths.


@routes.before_app_request
def refuse_other_sites() -> None:
    check_origin(_service(), request.headers)


@routes.app_errorhandler(Refused)
def answer_refused(error: Refused) -> Response:
    return refusal(error.reason)


@routes.app_errorhandler(HTTPException)
def answer_http_error(error: HTTPException) -> Response:
    response = refusal(_reason(error))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


@routes.app_errorhandler(Exception)
def answer_fault(error: Exception) -> Response:
    log.error("%s %s", request.method, request.path, exc_info=error)
    return refusal(Problem.INTERNAL_ERROR)


@routes.after_app_request
def finish_answer(response: Response) -> Response:
    for name, value in [*ANSWER_HEADERS, STRICT_CSP]:
        response.headers.setdefault(name, value)
    _service().metrics.answered(response.status_code)
    return response


@routes.teardown_app_request
def discard_uploads(error: BaseException | None) -> None:
    _upload_request().discard_uploads()


def take_upload(service: Service) -> Job:
    """Put the uploaded video of the current request into the queue and return its job. The upload is already complete.

    Raises Refused for a form with anything but one part `file`, for a content type that is no video, for an empty file,
    and if the queue is full.
    """
    files = list(request.files.items(multi=True))
    if [name for name, _ in files] != ["file"] or request.form:
        raise Refused(Problem.BAD_REQUEST)
    _, file = files[0]
    if file.mimetype.split("/")[0] in NO_VIDEO and file.mimetype not in STILL_VIDEO:
        raise Refused(RejectReason.NOT_A_VIDEO)
    arrived = _upload_request().arrived
    upload = arrived[0]
    if upload.size_bytes == 0:
        raise Refused(RejectReason.EMPTY_FILE)
    upload.close()
    job = service.queue.submit(shown_name(file.filename), path=upload.path, size_bytes=upload.size_bytes)
    arrived.clear()  # the queue deletes the file from now on
    return job


def take_uri(service: Service) -> Job:
    """Put the video whose URI is in the current request into the queue and return its job.

    The worker fetches the video later, and then checks the URI again. Raises Refused for a malformed request, for a URI
    that is not allowed, and if the queue is full.
    """
    if (request.content_length or 0) > MAX_JSON_BYTES:
        raise Refused(Problem.BAD_REQUEST)
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or set(body) != {"uri"} or not isinstance(body["uri"], str) or not body["uri"]:
        raise Refused(Problem.BAD_REQUEST)
    service.policy.check(body["uri"])
    return service.queue.submit(shown_name(urlsplit(body["uri"]).path), uri=body["uri"])


def check_origin(service: Service, headers: Headers) -> None:
    """Raise Refused for requests from web pages of other sites, and for host names that are not this server's."""
    host = headers.get("Host", "")
    if not is_known_host(host, service.host, service.allowed_hosts):
        raise Refused(Problem.HOST_NOT_ALLOWED)
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Refused(Problem.CROSS_SITE)


def event_stream(queue: JobQueue, job: Job) -> Iterator[bytes]:
    """Server-sent events about the progress of a job, as bytes, until the job ends.

    Every job ends: a stopping server fails the remaining ones.
    """
    while True:
        version, description = job.version, queue.describe(job)
        name = description["stage"] if description["stage"] in ("done", "failed") else "progress"
        yield f"event: {name}\ndata: {json_text(description)}\n\n".encode()
        if name != "progress":
            return
        queue.wait_for_change(job, version, TICK_S)


def json_answer(value: Any, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Response:
    content = json_text(value)
    return Response(content, status=status, mimetype="application/json", headers=headers)


def refusal(reason: Reason) -> Response:
    """HTTP answer that refuses a request for `reason`, with its status and headers."""
    return json_answer({"error": problem(reason)}, STATUS[reason], problem_headers(reason))


def _service() -> Service:
    return cast(Service, current_app.extensions[EXTENSION])


def _upload_request() -> UploadRequest:
    return cast(UploadRequest, request)


def _reason(error: HTTPException) -> Reason:
    known: dict[int, Reason] = {
        404: Problem.UNKNOWN_PATH,
        405: Problem.METHOD_NOT_ALLOWED,
        413: RejectReason.TOO_LARGE,
        415: Problem.UNSUPPORTED_MEDIA_TYPE,
    }
    return known.get(error.code or 500, Problem.BAD_REQUEST if (error.code or 500) < 500 else Problem.INTERNAL_ERROR)
