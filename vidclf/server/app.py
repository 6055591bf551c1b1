"""What the server answers over HTTP: the application, free of the model and of the HTTP server.

Videos go into the queue, progress and results come out of it; everything that is refused is refused with
a reason of the closed list (`problems.py`).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from vidclf.schema import RejectReason
from vidclf.server.fetch import UriPolicy
from vidclf.server.host_names import is_known_host
from vidclf.server.job_queue import Job, JobQueue
from vidclf.server.page import Page
from vidclf.server.prometheus import CONTENT_TYPE, ServeMetrics
from vidclf.server.refusals import STATUS, Problem, Reason, Refused, problem, problem_headers
from vidclf.server.uploads import FORM_BYTES, MAX_PARTS, PrivateFolder, UploadRequest, shown_name

CLASSIFY = "/api/classify"

MAX_STREAMS = 32
"""Clients that may listen to events at a time, each of which takes a thread."""

TICK_S = 1.0
"""Between two events of a job whose stage does not change; also how long a client that has gone is not
noticed."""

MAX_JSON_BYTES = 16 * 1024
"""Of a request that names a URI; it is read into memory."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

ANSWER_HEADERS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
]

STRICT_CSP = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

NO_VIDEO = {"image", "text", "font", "model"}
"""Kinds of content that a part may be declared as and that are certainly no video."""

STILL_VIDEO = {"text/vnd.trolltech.linguist"}
"""What some systems take the ending .ts of an MPEG transport stream for."""

log = logging.getLogger("vidclf.serve")


@dataclass(kw_only=True)
class Service:
    """What the requests share."""

    queue: JobQueue
    folder: PrivateFolder
    policy: UriPolicy
    metrics: ServeMetrics
    page: Page
    openapi: dict[str, Any]
    ensemble_id: str
    classes: list[str]
    max_upload_bytes: int
    host: str
    """that the server listens on"""
    allowed_hosts: tuple[str, ...] = ()
    """further names that it answers to"""
    is_ready: bool = False
    """whether the model is loaded"""
    streams: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_STREAMS))

    def admit(self, method: str, path: str) -> Reason | None:
        """Why a request is refused by its first line."""
        if (method, path) != ("POST", CLASSIFY):
            return None
        if not self.is_ready:
            return Problem.LOADING
        return Problem.QUEUE_FULL if self.queue.is_full() else None


def create_app(service: Service) -> Flask:
    """The WSGI application."""
    app = Flask("vidclf", static_folder=None)
    app.request_class = type(
        "_Upload", (UploadRequest,), {"folder": service.folder, "max_bytes": service.max_upload_bytes}
    )
    app.config["MAX_CONTENT_LENGTH"] = service.max_upload_bytes + FORM_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = FORM_BYTES
    app.config["MAX_FORM_PARTS"] = MAX_PARTS
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False

    @app.before_request
    def refuse_other_sites() -> None:
        check_origin(service, request.headers)

    @app.get("/")
    def page() -> Response:
        return Response(
            service.page.html, mimetype="text/html", headers=[("Content-Security-Policy", service.page.csp)]
        )

    @app.post(CLASSIFY)
    def classify() -> Response:
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
        return answered({"id": job.id, "url": url, "events": f"{url}/events"}, 202, [("Location", url)])

    @app.get("/api/jobs/<job_id>")
    def job(job_id: str) -> Response:
        return answered(service.queue.describe(service.queue.find(job_id)))

    @app.delete("/api/jobs/<job_id>")
    def cancel(job_id: str) -> Response:
        return answered(service.queue.describe(service.queue.cancel(job_id)))

    @app.get("/api/jobs/<job_id>/events")
    def events(job_id: str) -> Response:
        found = service.queue.find(job_id)
        if not service.streams.acquire(blocking=False):
            raise Refused(Problem.TOO_MANY_STREAMS)
        response = Response(event_stream(service.queue, found), mimetype="text/event-stream")
        response.call_on_close(service.streams.release)
        return response

    @app.get("/api/openapi.json")
    def openapi() -> Response:
        return answered(service.openapi)

    @app.get("/healthz")
    def healthz() -> Response:
        if not service.is_ready:
            raise Refused(Problem.LOADING)
        return answered({"status": "ok", "ensemble_id": service.ensemble_id, "classes": service.classes})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(service.metrics.text(service.queue), content_type=CONTENT_TYPE)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        return refusal(error.reason)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = refusal(_reason(error))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def fault(error: Exception) -> Response:
        log.error("%s %s", request.method, request.path, exc_info=error)
        return refusal(Problem.INTERNAL_ERROR)

    @app.after_request
    def finish(response: Response) -> Response:
        for name, value in [*ANSWER_HEADERS, STRICT_CSP]:
            response.headers.setdefault(name, value)
        service.metrics.answered(response.status_code)
        return response

    @app.teardown_request
    def clean_up(error: BaseException | None) -> None:
        _upload_request().discard_uploads()

    return app


def take_upload(service: Service) -> Job:
    """The video of a form goes to the disk, and into the queue once all of it is there."""
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
    arrived.clear()
    return job


def take_uri(service: Service) -> Job:
    """A video that the server fetches itself, once its turn comes; where from is checked now and again then."""
    if (request.content_length or 0) > MAX_JSON_BYTES:
        raise Refused(Problem.BAD_REQUEST)
    asked = request.get_json(silent=True)
    if not isinstance(asked, dict) or set(asked) != {"uri"} or not isinstance(asked["uri"], str) or not asked["uri"]:
        raise Refused(Problem.BAD_REQUEST)
    service.policy.check(asked["uri"])
    return service.queue.submit(shown_name(urlsplit(asked["uri"]).path), uri=asked["uri"])


def check_origin(service: Service, headers: Any) -> None:
    """Raise Refused where a browser asks on behalf of another site's page, or the request is for a name that the
    server does not go by (`hosts.py`)."""
    asked = headers.get("Host", "")
    if not is_known_host(asked, service.host, service.allowed_hosts):
        raise Refused(Problem.HOST_NOT_ALLOWED)
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != asked:
        raise Refused(Problem.CROSS_SITE)


def event_stream(queue: JobQueue, job: Job) -> Iterator[bytes]:
    """Server-sent events of a job until it ends. Each job ends: a server that stops fails what is left."""
    while True:
        version, told = job.version, queue.describe(job)
        name = told["stage"] if told["stage"] in ("done", "failed") else "progress"
        yield f"event: {name}\ndata: {json.dumps(told, allow_nan=False)}\n\n".encode()
        if name != "progress":
            return
        queue.wait_for_change(job, version, TICK_S)


def answered(value: Any, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Response:
    content = json.dumps(value, allow_nan=False)
    return Response(content, status=status, mimetype="application/json", headers=headers)


def refusal(reason: Reason) -> Response:
    return answered({"error": problem(reason)}, STATUS[reason], problem_headers(reason))


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
