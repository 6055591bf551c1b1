"""The server as a whole: HTTP in front, a queue, one thread that works on the queue, and the model in a Ray actor.

upload or URI ─▶ private file ─▶ queue ─▶ actor: decode ▶ CNN ▶ ensemble ─▶ result, kept for a while
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from vidclf.classification.single_video import VideoModel
from vidclf.config import ServeConfig
from vidclf.schema import RejectReason
from vidclf.server import model_actor, wsgi_server
from vidclf.server.app import ANSWER_HEADERS, LOOPBACK, MAX_STREAMS, STRICT_CSP, Service, create_app
from vidclf.server.fetch import Connect, UriPolicy, fetch
from vidclf.server.job import Job, JobState
from vidclf.server.job_queue import JobQueue
from vidclf.server.model_actor import ModelActor
from vidclf.server.openapi import document
from vidclf.server.page import served_page
from vidclf.server.prometheus import ServeMetrics
from vidclf.server.refusals import Problem, Reason, Refused
from vidclf.server.uploads import FORM_BYTES, LimitedFile, UploadFolder
from vidclf.uncertainty.risk_threshold import threshold_text

THREADS = 8 + MAX_STREAMS
"""Number of requests that are answered at the same time, including clients that receive events."""

POLL_S = 0.5
"""Seconds between two checks that the server's threads are alive, and between two looks at an empty queue."""

JOIN_S = 0.5
"""Seconds that a stopping server waits for each of its threads."""

NUM_THREADS = 2
"""Number of threads that a stopping server waits for: one for HTTP, one for the videos."""

MAX_STOP_S = 2 * wsgi_server.STOP_S + NUM_THREADS * JOIN_S
"""Most seconds that a stopping server waits in all, whatever its clients, its model and its threads do. That leaves 2 s
of 5 s for the end of Ray, which waits at most 1 s for each process that it has started before it kills it."""

RESTART_S = 30.0
"""Seconds that a video has beyond --decode-timeout, in case the actor or the decoder must be started again."""

log = logging.getLogger("vidclf.serve")


def serve(config: ServeConfig) -> None:
    """Run a server until SIGINT or SIGTERM. Videos in the queue are lost then.

    Raises ConfigError before anything starts if the ensemble does not fit this machine. An address that is taken raises
    it too, before the model is loaded.
    """
    model = model_actor.served_model(config)
    summary = f"{len(model.classes)} classes ({', '.join(model.classes)}), ensemble {model.target.ensemble_id}"
    if config.dry_run:
        UriPolicy(config.allow_uri)
        print(f"would serve {summary} at {_url(config.host, config.port)}")
        return
    print(threshold_text(model.threshold, config.abstain_risk, model.caveat), file=sys.stderr)
    if config.host not in LOOPBACK:
        print(f"--host {config.host}: anyone who reaches this address may use the server", file=sys.stderr)
    print("loading the model …", file=sys.stderr)
    ended = threading.Event()
    with running(config, model) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        print(f"{server.url}: {summary}; stop with Ctrl-C", flush=True)
        while not ended.wait(POLL_S):
            server.check()


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server with its threads and its model."""

    url: str
    service: Service
    model: ModelActor
    threads: tuple[threading.Thread, ...]

    def check(self) -> None:
        """Raise RuntimeError if one of the server's threads has ended. They never end by themselves."""
        for thread in self.threads:
            if not thread.is_alive():
                raise RuntimeError(f"the server's thread {thread.name} has ended; its error is above")


@contextmanager
def running(
    config: ServeConfig, served: VideoModel, policy: UriPolicy | None = None, connect: Connect | None = None
) -> Iterator[Server]:
    """Context with a running server for `config`.

    The server answers `loading` until the model is loaded, and the context then begins. At the end everything is
    stopped in the reverse order of its start.
    """
    with ExitStack() as stack:
        service = _service(config, served, policy or UriPolicy(config.allow_uri))
        queue = service.queue
        stack.callback(service.folder.close)
        listener = wsgi_server.listen(
            create_app(service),
            host=config.host,
            port=config.port,
            threads=THREADS,
            max_body_bytes=config.max_upload_bytes + FORM_BYTES,
            per_address=config.connections_per_address,
            admit=service.admit,
            headers=[*ANSWER_HEADERS, STRICT_CSP],
            answered=service.metrics.answered,
        )
        threads: list[threading.Thread] = []
        stack.callback(_join, threads)
        stack.callback(listener.stop)
        stack.callback(queue.close)
        threads.append(_started("http", listener.run))
        model = stack.enter_context(model_actor.started(config, served))
        for line in model.wait_until_ready():
            print(line, file=sys.stderr)
        # Before the actor ends, so that the waiting worker knows the reason and listeners receive it.
        stack.callback(_turn_away, service)
        threads.append(_started("work", partial(_work, service, model, config, connect)))
        service.is_ready = True
        url = _url(listener.host, listener.port)
        yield Server(url=url, service=service, model=model, threads=tuple(threads))


def _service(config: ServeConfig, served: VideoModel, policy: UriPolicy) -> Service:
    folder = UploadFolder()
    return Service(
        queue=JobQueue(config.queue, config.keep_results, discard=folder.delete),
        folder=folder,
        policy=policy,
        metrics=ServeMetrics(),
        page=served_page(served.classes, config.max_upload_bytes, policy.schemes),
        openapi=document(served.classes),
        ensemble_id=str(served.target.ensemble_id),
        classes=served.classes,
        max_upload_bytes=config.max_upload_bytes,
        host=config.host,
        allowed_hosts=config.allowed_hosts,
    )


def _started(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        # A thread that fetches a video may wait for a silent server. It ends with the process.
        thread.join(JOIN_S)


def _turn_away(service: Service) -> None:
    """Take no more videos, and fail the remaining jobs with the reason `stopping`."""
    service.is_ready = False
    service.queue.close()


def _work(service: Service, model: ModelActor, config: ServeConfig, connect: Connect | None) -> None:
    """Take jobs from the queue and classify their videos, until the queue is closed. Runs in a thread of its own.

    Each job ends with a result or a reason.
    """
    queue = service.queue
    while not queue.is_closed:
        job = queue.take(POLL_S)
        if job is None:
            continue
        started = time.monotonic()
        reason: Reason | None = None
        try:
            queue.finish(job, _classified(service, model, config, connect, job))
        except Refused as refused:
            reason = refused.reason
        except Exception:
            if queue.is_closed:
                return
            # The next video must not suffer from any error of this one.
            log.exception("a video could not be classified")
            reason = Problem.INTERNAL_ERROR
        if reason is not None:
            reason = queue.fail(job, reason)
        service.metrics.done(reason, time.monotonic() - started)


def _classified(
    service: Service, model: ModelActor, config: ServeConfig, connect: Connect | None, job: Job
) -> dict[str, Any]:
    """Fetch, decode and classify the video of a job; returns the answer for the client.

    Raises Refused if the video cannot be fetched or is rejected, or if the job was cancelled.
    """
    queue = service.queue
    if job.uri is not None:
        _fetch(service, config, connect, job, job.uri)
    assert job.path is not None
    queue.enter(job, JobState.DECODING)
    # An upload has no location. Its name gives the same video the same random numbers again.
    identity = job.uri or job.name
    try:
        decoded = model.decode(job.path, identity, config.decode_timeout + RESTART_S)
    except TimeoutError:
        raise Refused(RejectReason.DECODE_TIMEOUT) from None
    queue.enter(job, JobState.CLASSIFYING)
    outcome = model.classify(decoded)
    if "rejected" in outcome:
        raise Refused(RejectReason(outcome["rejected"]))
    answer: dict[str, Any] = outcome["answer"]
    return answer


def _fetch(service: Service, config: ServeConfig, connect: Connect | None, job: Job, uri: str) -> None:
    """Fetch the video of a job from `uri` into the private folder. Raises Refused if that fails."""
    queue = service.queue
    queue.enter(job, JobState.FETCHING)
    file = LimitedFile(service.folder.new_path(), config.max_upload_bytes, partial(queue.is_wanted, job))
    try:
        queue.is_at(job, file.path)
        fetch(uri, service.policy, file, config.fetch_timeout, connect)
    finally:
        file.close()
    if file.size_bytes == 0:
        raise Refused(RejectReason.EMPTY_FILE)
    queue.is_at(job, file.path, file.size_bytes)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
