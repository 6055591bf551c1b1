"""The HTTP API over loopback, without a worker, so that the queue can be full."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from waitress.buffers import TempfileBasedBuffer

from tests.support.http import FORM, form, header_only, raw_connection, reason, received, upload
from vidclf.errors import ConfigError
from vidclf.server import wsgi_server
from vidclf.server.app import ANSWER_HEADERS, MAX_STREAMS, STRICT_CSP, Service, create_app
from vidclf.server.fetch import UriPolicy
from vidclf.server.job_queue import JobQueue
from vidclf.server.openapi import document
from vidclf.server.page import served_page
from vidclf.server.prometheus import ServeMetrics
from vidclf.server.uploads import FORM_BYTES, LimitedFile, UploadFolder

CLASSES = ["Animation", "Gaming"]
MAX_BYTES = 2_000_000
QUEUE = 3


@pytest.fixture
def service() -> Iterator[Service]:
    folder = UploadFolder()
    policy = UriPolicy(["https://videos.example"], lambda host, port: ["93.184.216.34"])
    yield Service(
        queue=JobQueue(QUEUE, keep_s=60, discard=folder.delete),
        folder=folder,
        policy=policy,
        metrics=ServeMetrics(),
        page=served_page(CLASSES, MAX_BYTES, policy.schemes),
        openapi=document(CLASSES),
        ensemble_id="0123456789abcdef",
        classes=CLASSES,
        max_upload_bytes=MAX_BYTES,
        host="127.0.0.1",
        is_ready=True,
    )
    folder.close()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    listener = wsgi_server.listen(
        create_app(service),
        host="127.0.0.1",
        port=0,
        per_address=64,
        threads=MAX_STREAMS + 4,
        max_body_bytes=MAX_BYTES + FORM_BYTES,
        admit=service.admit,
        headers=[*ANSWER_HEADERS, STRICT_CSP],
        answered=service.metrics.answered,
    )
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.port}"
    service.queue.close()
    listener.stop()
    thread.join(10)
    assert not thread.is_alive()


def chunked(url: str, length: int, end: bytes = b"") -> tuple[int, str]:
    """Status and reason for a body without a stated length. Both are read before the server closes the connection."""
    with raw_connection(url) as connection:
        head = f"POST /api/classify HTTP/1.1\r\nHost: {url[7:]}\r\nTransfer-Encoding: chunked\r\n"
        connection.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n{length:x}\r\n".encode())
        connection.sendall(bytes(length) + end)
        answer = received(connection)
    return int(answer.split()[1]), json.loads(answer.partition("\r\n\r\n")[2])["error"]["reason"]


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_an_upload_lies_in_a_private_folder_under_a_name_that_tells_nothing(url: str, service: Service) -> None:
    accepted = upload(url, b"content", name="../../etc/My clip.mp4")
    assert accepted.status_code == 202
    assert accepted.headers["Location"] == accepted.json()["url"] == f"/api/jobs/{accepted.json()['id']}"
    job = requests.get(url + accepted.json()["url"], timeout=60).json()
    expected = {"name": "My clip.mp4", "stage": "queued", "percent": 0.0, "eta_s": None, "position": 0}
    assert job == {"id": accepted.json()["id"], **expected}
    (name,) = service.folder.names()
    path = Path(service.folder.new_path()).parent / name
    assert len(name) == 32
    assert path.read_bytes() == b"content"
    assert [stat.S_IMODE(os.stat(place).st_mode) for place in (path, path.parent)] == [0o600, 0o700]


def test_what_is_no_upload_is_refused_with_the_right_status(url: str, service: Service) -> None:
    def post(data: bytes, kind: str) -> tuple[int, str]:
        return reason(requests.post(f"{url}/api/classify", data=data, headers={"Content-Type": kind}, timeout=60))

    assert post(b"hello", "text/plain") == (415, "unsupported_media_type")
    assert post(b"{", "application/json") == (400, "bad_request")
    for wrong in ({}, {"uri": 7}, {"uri": ""}, {"uri": "https://videos.example/", "more": 1}, ["uri"]):
        assert post(json.dumps(wrong).encode(), "application/json") == (400, "bad_request")
    assert post(json.dumps({"uri": "x" * 20_000}).encode(), "application/json") == (400, "bad_request")
    assert post(b"not a form", FORM["Content-Type"]) == (400, "bad_request")
    assert post(b"", "multipart/form-data") == (400, "bad_request")
    assert reason(upload(url, b"content", field="other")) == (400, "bad_request")
    two = form(b"one").replace(b"--\r\n", b"\r\n") + form(b"two").removeprefix(b"--x-boundary-x\r\n")
    assert post(two, FORM["Content-Type"]) == (400, "bad_request")
    assert reason(upload(url, b"")) == (422, "empty_file")
    assert reason(upload(url, b"\x89PNG", kind="image/png")) == (415, "not_a_video")
    assert service.folder.names() == []
    assert service.queue.lengths() == {"waiting": 0, "running": 0}


def test_too_large_is_said_whether_the_header_tells_it_or_not(url: str, service: Service) -> None:
    # A client that announces gigabytes is answered before it sends one byte.
    status, answer = header_only(url, 3 * 10**9)
    assert (status, answer["error"]["reason"]) == (413, "too_large")
    assert header_only(url, MAX_BYTES * 2, Expect="100-continue")[0] == 413
    # A body slightly above the limit is read to its end, so that the client can read the answer.
    assert reason(upload(url, bytes(MAX_BYTES + 1))) == (413, "too_large")
    assert reason(upload(url, bytes(MAX_BYTES + FORM_BYTES + 1))) == (413, "too_large")
    assert chunked(url, MAX_BYTES + FORM_BYTES + 1) == (413, "too_large")
    assert upload(url, bytes(MAX_BYTES)).status_code == 202
    assert len(service.folder.names()) == 1


def test_a_full_queue_turns_away_and_forgets_nothing(url: str, service: Service) -> None:
    for _ in range(QUEUE):
        assert upload(url, b"content").status_code == 202
    refused = upload(url, bytes(1_500_000))
    assert reason(refused) == (429, "queue_full")
    assert refused.headers["Retry-After"] == "5"
    assert header_only(url, 1_500_000, Expect="100-continue")[0] == 429
    answer = requests.post(f"{url}/api/classify", json={"uri": "https://videos.example/a.mp4"}, timeout=60)
    assert reason(answer) == (429, "queue_full")
    assert service.queue.lengths() == {"waiting": QUEUE, "running": 0}
    assert len(service.folder.names()) == QUEUE


def test_while_the_model_loads_everything_is_answered_but_videos(url: str, service: Service) -> None:
    service.is_ready = False
    for response in (requests.get(f"{url}/healthz", timeout=60), upload(url, b"content")):
        assert reason(response) == (503, "loading")
    assert "<h1>Classify a video</h1>" in requests.get(url, timeout=60).text
    service.is_ready = True
    assert requests.get(f"{url}/healthz", timeout=60).json() == {
        "status": "ok",
        "ensemble_id": "0123456789abcdef",
        "classes": CLASSES,
    }


def test_a_client_that_goes_away_while_sending_leaves_nothing(url: str, service: Service) -> None:
    body = form(bytes(1_000_000))
    with raw_connection(url) as connection:
        head = f"POST /api/classify HTTP/1.1\r\nHost: {url[7:]}\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + body[:400_000])
    assert upload(url, b"content").status_code == 202
    assert service.queue.lengths() == {"waiting": 1, "running": 0}
    assert len(service.folder.names()) == 1


def test_a_listener_that_goes_away_makes_room_for_another(url: str, service: Service) -> None:
    events = url + upload(url, b"content").json()["events"]
    listeners = [requests.get(events, stream=True, timeout=60) for _ in range(MAX_STREAMS)]
    assert [listener.status_code for listener in listeners] == [200] * MAX_STREAMS
    assert reason(requests.get(events, timeout=60)) == (429, "too_many_streams")
    assert requests.get(events.removesuffix("/events"), timeout=60).json()["stage"] == "queued"
    listeners[0].close()

    def is_let_in() -> bool:
        with requests.get(events, stream=True, timeout=60) as response:
            return response.status_code == 200

    assert soon(is_let_in)
    for listener in listeners:
        listener.close()


def test_unknown_addresses_and_methods_are_said_in_json(url: str) -> None:
    assert reason(requests.get(f"{url}/etc/passwd", timeout=60)) == (404, "unknown_path")
    assert reason(requests.get(f"{url}/api/jobs/nope", timeout=60)) == (404, "unknown_job")
    assert reason(requests.get(f"{url}/api/jobs/nope/events", timeout=60)) == (404, "unknown_job")
    deleted = requests.delete(f"{url}/api/classify", timeout=60)
    assert reason(deleted) == (405, "method_not_allowed")
    assert deleted.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "request_text",
    [
        "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: minus\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: minus\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nX: ".ljust(wsgi_server.HEADER_BYTES, "y"),
    ],
)
def test_malformed_requests_are_answered_in_json_too(url: str, request_text: str) -> None:
    with raw_connection(url) as connection:
        connection.sendall(request_text.encode())
        answer = received(connection)
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.")
    assert " 400 Bad Request" in head
    assert json.loads(body)["error"]["reason"] == "bad_request"
    assert "waitress" not in answer.lower()


def test_other_sites_pages_may_not_ask(url: str) -> None:
    def ask(**headers: str) -> tuple[int, str]:
        return reason(requests.get(f"{url}/healthz", headers=headers, timeout=60))

    # A page of another site, and a name whose owner has let it point to this server.
    assert ask(Origin="https://evil.example") == (403, "cross_site_request")
    assert ask(Origin="null") == (403, "cross_site_request")
    assert ask(Host="evil.example:5000") == (403, "host_not_allowed")
    assert requests.get(f"{url}/healthz", headers={"Origin": url}, timeout=60).status_code == 200
    assert requests.get(f"{url}/healthz", headers={"Host": "localhost:5000"}, timeout=60).status_code == 200


def test_a_server_for_others_goes_by_the_names_that_are_allowed(service: Service) -> None:
    client = create_app(replace(service, host="0.0.0.0")).test_client()
    assert client.get("/healthz", headers={"Host": "videos.company.example"}).status_code == 403
    client = create_app(replace(service, host="0.0.0.0", allowed_hosts=("*.company.example",))).test_client()
    assert client.get("/healthz", headers={"Host": "videos.company.example"}).status_code == 200
    origin = {"Host": "videos.company.example", "Origin": "https://evil.example"}
    assert client.get("/healthz", headers=origin).status_code == 403


def test_uris_are_refused_unless_they_are_allowed(url: str) -> None:
    def ask(uri: str) -> requests.Response:
        return requests.post(f"{url}/api/classify", json={"uri": uri}, timeout=60)

    for uri in ("https://other.example/a.mp4", "http://127.0.0.1/", "file:///etc/passwd", "https://videos.example:1/"):
        assert reason(ask(uri)) == (422, "uri_not_allowed")
    accepted = ask("https://videos.example/clips/a.mp4?token=secret")
    assert accepted.status_code == 202
    job = requests.get(url + accepted.json()["url"], timeout=60).json()
    assert (job["name"], job["stage"]) == ("a.mp4", "queued")


def test_every_answer_has_the_headers_that_keep_browsers_in_line(url: str) -> None:
    page, health = requests.get(url, timeout=60), requests.get(f"{url}/healthz", timeout=60)
    refused = requests.post(f"{url}/api/classify", data=b"x", headers={"Content-Length": "9" * 9}, timeout=60)
    for response in (page, health, refused):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "Server" not in response.headers
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 2


def test_the_page_loads_nothing_and_says_what_it_takes(url: str) -> None:
    page = requests.get(url, timeout=60).text
    for outside in ("<script src", '<link rel="stylesheet"', "@import", "url("):
        assert outside not in page
    assert 'data-max-bytes="2000000"' in page
    assert "Into 2 classes: Animation, Gaming." in page
    assert 'id="uri-form"' in page
    assert 'id="uri-form"' not in served_page(CLASSES, MAX_BYTES, []).html


def test_a_class_with_markup_in_its_name_stays_a_name() -> None:
    page = served_page(['<b>"x"</b>', "B"], MAX_BYTES, []).html
    assert '<b>"x"</b>' not in page
    assert "&lt;b&gt;" in page


def test_metrics_count_answers_and_the_queue(url: str) -> None:
    upload(url, b"content")
    requests.get(f"{url}/nowhere", timeout=60)
    header_only(url, 3 * 10**9)
    response = requests.get(f"{url}/metrics", timeout=60)
    assert response.headers["Content-Type"].startswith("text/plain")
    for line in (
        'vidclf_serve_answers_total{status="202"} 1.0',
        'vidclf_serve_answers_total{status="404"} 1.0',
        'vidclf_serve_answers_total{status="413"} 1.0',
        'vidclf_serve_queue{where="waiting"} 1.0',
    ):
        assert line in response.text.splitlines()


def test_a_fault_of_ours_is_one_word_outside_and_a_traceback_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(job_id: str) -> Any:
        raise OSError(f"{service.folder.new_path()}: disk on fire")

    service.queue.find = broken  # type: ignore[method-assign]
    answer = create_app(service).test_client().get("/api/jobs/x", headers={"Host": "localhost"})
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["error"]["reason"] == "internal_error"
    assert "disk on fire" not in answer.text
    assert "disk on fire" in caplog.text


def test_a_job_can_be_cancelled_and_a_result_forgotten(url: str, service: Service) -> None:
    waiting = upload(url, b"content").json()
    with requests.get(url + waiting["events"], stream=True, timeout=60) as listener:
        cancelled = requests.delete(url + waiting["url"], timeout=60)
        assert (cancelled.status_code, cancelled.json()["stage"]) == (200, "failed")
        assert cancelled.json()["error"]["reason"] == "cancelled"
        lines = [line for line in listener.iter_lines(decode_unicode=True) if line.startswith("event: ")]
    assert lines[-1] == "event: failed"
    assert service.folder.names() == []
    assert service.queue.lengths() == {"waiting": 0, "running": 0}
    assert requests.delete(url + waiting["url"], timeout=60).status_code == 200
    assert reason(requests.get(url + waiting["url"], timeout=60)) == (404, "unknown_job")
    assert reason(requests.delete(url + waiting["url"], timeout=60)) == (404, "unknown_job")


def test_listeners_hear_that_the_server_stops(url: str, service: Service) -> None:
    accepted = upload(url, b"content").json()
    with requests.get(url + accepted["events"], stream=True, timeout=60) as listener:
        service.queue.close()
        lines = list(listener.iter_lines(decode_unicode=True))
    assert [line for line in lines if line.startswith("event: ")][-1] == "event: failed"
    description = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
    assert description["error"]["reason"] == "stopping"
    assert service.folder.names() == []
    assert reason(upload(url, b"content")) == (503, "stopping")


def test_a_full_disk_is_said_while_the_form_is_taken_apart(
    url: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = LimitedFile.__init__

    def on_full_disk(self: LimitedFile, path: str, *arguments: Any) -> None:
        opened(self, path, *arguments)
        self._file.close()
        self._file = open("/dev/full", "wb")  # noqa: SIM115 - the upload closes it

    monkeypatch.setattr(LimitedFile, "__init__", on_full_disk)
    for size in (10, 100_000):  # noticed when the file is closed, and when it is written
        answer = upload(url, bytes(size))
        assert reason(answer) == (507, "insufficient_storage")
        assert answer.headers["Retry-After"] == "5"
    assert service.folder.names() == []


def test_a_disk_without_room_for_another_file_is_said(
    url: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def without_room(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).startswith(service.folder.new_path().rsplit("/", 1)[0]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", without_room)
    answer = upload(url, bytes(10))
    monkeypatch.undo()
    assert reason(answer) == (507, "insufficient_storage")
    assert service.folder.names() == []


# waitress drops a temporary file that it could not write, without closing it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_full_disk_is_said_while_the_body_comes_in(
    url: str, monkeypatch: pytest.MonkeyPatch, is_chunked: bool
) -> None:
    def on_full_disk(self: TempfileBasedBuffer) -> Any:
        return open("/dev/full", "w+b")

    monkeypatch.setattr(TempfileBasedBuffer, "newfile", on_full_disk)
    if is_chunked:
        assert chunked(url, MAX_BYTES, b"\r\n0\r\n\r\n") == (507, "insufficient_storage")
    else:
        assert reason(upload(url, bytes(1_500_000))) == (507, "insufficient_storage")
    monkeypatch.undo()
    assert upload(url, bytes(1_500_000)).status_code == 202


def orphan(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "0123456789abcdef").write_bytes(b"video")
    return folder


def test_folders_of_dead_servers_are_swept_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import os, tempfile; from vidclf.server.uploads import UploadFolder\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "folder = UploadFolder(); open(folder.new_path(), 'w').close(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    (dead,) = tmp_path.iterdir()
    assert len(list(dead.iterdir())) == 2
    alive = UploadFolder()
    assert not dead.exists()
    # A folder of another version or just being made; a foreign folder with a lock; a link to another folder.
    unlocked, other = orphan(tmp_path, "vidclf-serve-unlocked"), orphan(tmp_path, "videos")
    (other / "lock").touch()
    (tmp_path / "vidclf-serve-link").symlink_to(other)
    second = UploadFolder()
    assert len(list(unlocked.iterdir())) == 1
    assert len(list(other.iterdir())) == 2
    assert alive.names() == []
    assert Path(alive.new_path()).parent.exists()
    alive.close()
    second.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "vidclf-serve-link",
        "vidclf-serve-unlocked",
        "videos",
    ]


def test_a_directory_for_uploads_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"the directory for uploads must be writable, '.*none' is not"):
        UploadFolder()


def test_the_application_loads_neither_torch_nor_ray_nor_scipy() -> None:
    script = (
        "import sys, vidclf.server.app; "
        "print([name for name in ('torch', 'ray', 'scipy', 'sklearn') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert output.stdout == "[]\n"
