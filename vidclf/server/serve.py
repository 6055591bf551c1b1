"""The inference server: HTTP in front, a queue, one thread that works it off, the model in a Ray actor
behind.

    upload or URI ─▶ private file ─▶ queue ─▶ actor: decode ▶ CNN ▶ ensemble ─▶ result, kept for a while
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from vidclf.config import ServeConfig
from vidclf.schema import RejectReason
from vidclf.server import model_actor, wsgi_server
from vidclf.server.app import ANSWER_HEADERS, LOOPBACK, MAX_STREAMS, STRICT_CSP, Service, create_app
from vidclf.server.fetch import Connect, UriPolicy, fetch
from vidclf.server.job_estimates import JobState
from vidclf.server.job_queue import Job, JobQueue
from vidclf.server.model_actor import ModelActor, ServedModel
from vidclf.server.openapi import document
from vidclf.server.page import served_page
from vidclf.server.prometheus import ServeMetrics
from vidclf.server.refusals import Problem, Reason, Refused
from vidclf.server.uploads import FORM_BYTES, LimitedFile, PrivateFolder
from vidclf.uncertainty.risk_threshold import threshold_text

THREADS = 8 + MAX_STREAMS
"""Requests that are answered at a time, those included that listen to events."""

POLL_S = 0.5

JOIN_S = 1.0
"""Seconds that a server which stops waits for each of its threads."""

RESTART_S = 30.0
"""Seconds beyond --decode-timeout that a video gets where the actor or the decoder has to be started again."""

log = logging.getLogger("vidclf.serve")


def serve(config: ServeConfig) -> None:
    """Serve until SIGINT or SIGTERM; what is in the queue then is lost.

    Raises ConfigError before anything starts where the ensemble does not fit, or the address is taken.
    """
    model = model_actor.served_model(config)
    said = f"{len(model.classes)} classes ({', '.join(model.classes)}), ensemble {model.target.ensemble_id}"
    if config.dry_run:
        UriPolicy(config.allow_uri)
        print(f"would serve {said} at {_url(config.host, config.port)}")
        return
    print(threshold_text(model.threshold, config.abstain_risk), file=sys.stderr)
    if config.host not in LOOPBACK:
        print(f"--host {config.host}: whoever reaches this address may use the server", file=sys.stderr)
    print("loading the model …", file=sys.stderr)
    ended = threading.Event()
    with running(config, model) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        print(f"{server.url}: {said}; stop with Ctrl-C", flush=True)
        while not ended.wait(POLL_S):
            server.check()


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs."""

    url: str
    service: Service
    model: ModelActor
    threads: tuple[threading.Thread, ...]

    def check(self) -> None:
        """RuntimeError where one of its threads has ended, which they never do by themselves."""
        for thread in self.threads:
            if not thread.is_alive():
                raise RuntimeError(f"the server's thread {thread.name} has ended; its error is above")


@contextmanager
def running(
    config: ServeConfig, served: ServedModel, policy: UriPolicy | None = None, connect: Connect | None = None
) -> Iterator[Server]:
    """A server for `config`, which answers `loading` from the first moment and is ready when this yields."""
    policy = policy or UriPolicy(config.allow_uri)
    folder, metrics = PrivateFolder(), ServeMetrics()
    queue = JobQueue(config.queue, config.keep_results, discard=folder.delete)
    service = Service(
        queue=queue,
        folder=folder,
        policy=policy,
        metrics=metrics,
        page=served_page(served.classes, config.max_upload_bytes, policy.schemes),
        openapi=document(served.classes),
        ensemble_id=str(served.target.ensemble_id),
        classes=served.classes,
        max_upload_bytes=config.max_upload_bytes,
        host=config.host,
        allowed_hosts=config.allowed_hosts,
    )
    threads: list[threading.Thread] = []

    def begin(name: str, target: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=target, name=name, daemon=True))
        threads[-1].start()

    try:
        listener = wsgi_server.listen(
            create_app(service),
            host=config.host,
            port=config.port,
            threads=THREADS,
            max_body_bytes=config.max_upload_bytes + FORM_BYTES,
            per_address=config.connections_per_address,
            admit=service.admit,
            headers=[*ANSWER_HEADERS, STRICT_CSP],
            answered=metrics.answered,
        )
        begin("http", listener.run)
        try:
            with model_actor.started(config, served) as model:
                for line in model.wait_until_ready():
                    print(line, file=sys.stderr)
                begin("work", partial(_work, service, model, config, connect))
                service.is_ready = True
                try:
                    url = _url(listener.host, listener.port)
                    yield Server(url=url, service=service, model=model, threads=tuple(threads))
                finally:
                    service.is_ready = False
                    # Before the actor ends, so that the one who waits for it knows why, and listeners hear of it.
                    queue.close()
        finally:
            queue.close()
            listener.stop()
            for thread in threads:
                # One that fetches a video may wait for a silent server; it ends with the process.
                thread.join(JOIN_S)
    finally:
        folder.close()


def _work(service: Service, model: ModelActor, config: ServeConfig, connect: Connect | None) -> None:
    """Take jobs until the queue is closed; each ends with a result or a reason."""
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
            # Whatever it is, the next video is not to suffer from it.
            log.exception("a video could not be classified")
            reason = Problem.INTERNAL_ERROR
        if reason is not None:
            reason = queue.fail(job, reason)
        service.metrics.done(reason, time.monotonic() - started)


def _classified(
    service: Service, model: ModelActor, config: ServeConfig, connect: Connect | None, job: Job
) -> dict[str, Any]:
    """The answer for a job's video. Raises Refused where there is none."""
    queue = service.queue
    if job.uri is not None:
        queue.enter(job, JobState.FETCHING)
        file = LimitedFile(service.folder.new_path(), config.max_upload_bytes, partial(queue.is_wanted, job))
        try:
            queue.is_at(job, file.path)
            fetch(job.uri, service.policy, file, config.fetch_timeout, connect)
        finally:
            file.close()
        if file.size_bytes == 0:
            raise Refused(RejectReason.EMPTY_FILE)
        queue.is_at(job, file.path, file.size_bytes)
    assert job.path is not None
    queue.enter(job, JobState.DECODING)
    # An upload has no location; by its name the same video has the same random numbers again.
    try:
        decoded = model.decode(job.path, job.uri or job.name, config.decode_timeout + RESTART_S)
    except TimeoutError:
        raise Refused(RejectReason.DECODE_TIMEOUT) from None
    queue.enter(job, JobState.CLASSIFYING)
    outcome = model.classify(decoded)
    if "rejected" in outcome:
        raise Refused(RejectReason(outcome["rejected"]))
    answer: dict[str, Any] = outcome["answer"]
    return answer


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
