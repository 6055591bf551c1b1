"""The whole server over loopback with a small ensemble: HTTP, queue, and the model in its actor."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
import ray
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from tests.support.browser import Browser, find_browser
from tests.support.ensembles import write_small_ensemble
from tests.support.http import events, form, outcome, reason, send, upload
from tests.support.jobs import succeed
from tests.support.videos import write_video
from vidclf.config import ServeConfig
from vidclf.errors import ConfigError
from vidclf.server import serve
from vidclf.server.fetch import UriPolicy
from vidclf.server.model_actor import decode_limits, served_model
from vidclf.server.openapi import document
from vidclf.server.serve import Server

# A server with a model in a process of its own, and a browser.
pytestmark = pytest.mark.system

CLASSES = ["Animation", "Gaming", "Natural_Content"]
NUM_FRAMES = 6
MAX_BYTES = 2_000_000
PUBLIC = "93.184.216.34"
NAMES = {"videos.example": PUBLIC, "inside.videos.example": "127.0.0.1", "other.example": PUBLIC}


@dataclass(frozen=True, kw_only=True)
class Running:
    """A running server, its ensemble and its videos."""

    url: str
    server: Server
    ensemble: str
    videos: Path
    content: bytes
    """bytes of a valid video"""


class OtherSite(BaseHTTPRequestHandler):
    """A site with videos and with forbidden redirects."""

    content = b""
    requested: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.requested.append((str(self.headers["Host"]), self.path))
        redirects = {
            "/moved.mp4": "/clip.mp4",
            "/inside.mp4": "http://127.0.0.1:22/",
            "/by-name.mp4": "http://inside.videos.example/clip.mp4",
            "/unlisted.mp4": "http://other.example/clip.mp4",
            "/file.mp4": "file:///etc/passwd",
            "/loop.mp4": "/loop.mp4",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
            self.end_headers()
            return
        statuses = {"/clip.mp4": 200, "/large.mp4": 200, "/cut.mp4": 200, "/secret.mp4": 403}
        self.send_response(statuses.get(self.path, 404))
        body = bytes(MAX_BYTES + 1) if self.path == "/large.mp4" else self.content
        self.send_header("Content-Length", str(len(body) + (100 if self.path == "/cut.mp4" else 0)))
        self.end_headers()
        if self.path in ("/clip.mp4", "/large.mp4", "/cut.mp4"):
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def running(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    videos = tmp_path_factory.mktemp("videos")
    content = write_video(videos / "clip.mp4", num_frames=12).read_bytes()
    ensemble = write_small_ensemble(tmp_path_factory.mktemp("ensemble"), CLASSES, NUM_FRAMES)
    other_site = HTTPServer(("127.0.0.1", 0), type("_OtherSite", (OtherSite,), {"content": content}))
    threading.Thread(target=other_site.serve_forever, daemon=True).start()
    config = ServeConfig(
        ensemble=ensemble, port=0, max_upload="2MB", segments=0.5, allow_uri=("http://*.videos.example",)
    )
    allowed = ["http://videos.example", "http://inside.videos.example"]
    policy = UriPolicy(allowed, lambda host, port: [NAMES[host]])

    def connect(address: str, port: int, timeout_s: float) -> socket.socket:
        """The internet of these tests: one public address, served by `OtherSite`."""
        assert (address, port) == (PUBLIC, 80)
        return socket.create_connection(other_site.server_address, timeout_s)  # type: ignore[arg-type]

    with serve.running(config, served_model(config), policy, connect) as server:
        yield Running(url=server.url, server=server, ensemble=ensemble, videos=videos, content=content)
    other_site.shutdown()
    other_site.server_close()


def folder_is_empty(running: Running) -> bool:
    return running.server.service.folder.names() == []


def test_a_good_video_is_classified_and_deleted(running: Running) -> None:
    accepted = upload(running.url, running.content, name="My clip.mp4")
    received = list(events(running.url, accepted.json()["events"]))
    assert [name for name, _ in received[:-1]] == ["progress"] * (len(received) - 1)
    stages = [job["stage"] for _, job in received]
    assert stages == sorted(stages, key=["queued", "decoding", "classifying", "done"].index)
    assert [job["percent"] for _, job in received] == sorted(job["percent"] for _, job in received)
    name, job = received[-1]
    assert (name, job["name"], job["percent"]) == ("done", "My clip.mp4", 100.0)
    assert job == requests.get(running.url + accepted.json()["url"], timeout=60).json()
    api_document = requests.get(f"{running.url}/api/openapi.json", timeout=60).json()
    assert api_document == document(CLASSES)
    jsonschema.validate(job, {"$ref": "#/components/schemas/Job", "components": api_document["components"]})
    result, row = job["result"], job["result"]["prediction"]
    assert result["classes"] == CLASSES
    assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert CLASSES[row["probabilities"].index(max(row["probabilities"]))] == row["top_label"]
    assert (row["width"], row["height"], row["num_frames"], row["video_codec"]) == (64, 64, NUM_FRAMES, "h264")
    # 12 frames at 10 a second, in segments of half a second.
    spans = [(segment["start_s"], segment["end_s"]) for segment in result["timeline"]["segments"]]
    assert spans == [(0.0, 0.5), (0.5, 1.0), (1.0, pytest.approx(1.2))]
    assert [part["name"] for part in result["trust"]["parts"]] == ["confidence", "margin"] or [
        part["name"] for part in result["trust"]["parts"]
    ] == ["margin", "confidence"]
    assert [frame["index"] for frame in result["attended_frames"]] == list(range(NUM_FRAMES))
    assert all(frame["image"].startswith("data:image/jpeg;base64,") for frame in result["attended_frames"])
    assert "/" + "tmp" not in json.dumps(job)
    assert folder_is_empty(running)


def test_the_server_and_the_batch_job_give_the_same_probabilities(running: Running, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    write_video(tmp_path / "archive/other.mp4", num_frames=20, size=(96, 64), noise=True)
    content = (tmp_path / "archive/other.mp4").read_bytes()
    served = outcome(running.url, upload(running.url, content))["result"]["prediction"]
    where = ("--input", tmp_path / "archive", "--ensemble", running.ensemble, "--output", tmp_path / "predictions")
    succeed("classify", *where, "--decode-workers", "1", "--cnn-workers", "1")
    (part,) = (tmp_path / "predictions").glob("part-*.parquet")
    (row,) = pq.read_table(part).to_pylist()
    same = ("probabilities", "member_probabilities", "confidence", "trust_score", "ood_score", "attention", "pts_s")
    for name in (*same, "verdict", "label", "top_label", "content_digest", "sharpness", "ensemble_id"):
        assert served[name] == row[name], name


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"not a video\n" * 100, ("not_a_video", 415)),
        (b"\x1aE\xdf\xa3" + bytes(range(256)) * 40, ("decode_error", 422)),
        (None, ("truncated", 422)),
    ],
)
def test_a_broken_video_fails_with_its_reason(
    running: Running, content: bytes | None, expected: tuple[str, int]
) -> None:
    job = outcome(running.url, upload(running.url, content or running.content[: len(running.content) // 2]))
    assert job["stage"] == "failed"
    assert (job["error"]["reason"], job["error"]["status"]) == expected
    # No path, no library, no version.
    for word in ("/", "Error", "ffmpeg", "libav", "0x"):
        assert word not in job["error"]["message"]
    assert folder_is_empty(running)


def test_fifty_uploads_at_once_are_all_answered(running: Running) -> None:
    # A box that players skip turns the small video into a large file.
    filling = MAX_BYTES - len(running.content) - 8
    content = running.content + (filling + 8).to_bytes(4, "big") + b"free" + bytes(filling)
    body = form(content)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda _: send(running.url, body), range(50)))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = Counter(reason(answer) for answer in answers if answer.status_code != 202)
    assert 8 <= len(accepted) < 50
    assert refused == {(429, "queue_full"): 50 - len(accepted)}
    jobs = [outcome(running.url, answer) for answer in accepted]
    assert [job["stage"] for job in jobs] == ["done"] * len(accepted)
    assert len({tuple(job["result"]["prediction"]["probabilities"]) for job in jobs}) == 1
    assert running.server.service.queue.lengths() == {"waiting": 0, "running": 0}
    assert folder_is_empty(running)
    # 100 MB arrive at once. At most half a MB of each upload is in memory.
    assert grown_kib < 60_000


def test_a_video_at_an_allowed_uri_is_fetched_and_classified(running: Running) -> None:
    OtherSite.requested.clear()
    accepted = requests.post(f"{running.url}/api/classify", json={"uri": "http://videos.example/moved.mp4"}, timeout=60)
    job = outcome(running.url, accepted)
    assert (job["stage"], job["name"]) == ("done", "moved.mp4")
    assert OtherSite.requested == [("videos.example", "/moved.mp4"), ("videos.example", "/clip.mp4")]
    uploaded = outcome(running.url, upload(running.url, running.content))
    assert job["result"]["prediction"] == uploaded["result"]["prediction"]
    assert folder_is_empty(running)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inside", "uri_not_allowed"),
        ("by-name", "uri_not_allowed"),
        ("unlisted", "uri_not_allowed"),
        ("file", "uri_not_allowed"),
        ("loop", "read_error"),
        ("missing", "not_found"),
        ("secret", "permission_denied"),
        ("large", "too_large"),
        ("cut", "read_error"),
    ],
)
def test_what_a_site_leads_to_is_checked_like_a_first_request(running: Running, name: str, expected: str) -> None:
    accepted = requests.post(
        f"{running.url}/api/classify", json={"uri": f"http://videos.example/{name}.mp4"}, timeout=60
    )
    job = outcome(running.url, accepted)
    assert (job["stage"], job["error"]["reason"]) == ("failed", expected)
    assert folder_is_empty(running)


def test_a_listed_name_that_leads_inside_is_refused_at_once(running: Running) -> None:
    uri = {"uri": "http://inside.videos.example/clip.mp4"}
    assert reason(requests.post(f"{running.url}/api/classify", json=uri, timeout=60)) == (422, "uri_not_allowed")


def test_a_client_that_goes_away_does_not_stop_its_video(running: Running) -> None:
    accepted = upload(running.url, running.content)
    listener = requests.get(running.url + accepted.json()["events"], stream=True, timeout=60)
    listener.close()
    assert outcome(running.url, accepted)["stage"] == "done"
    assert folder_is_empty(running)


def decoder_pid(running: Running) -> int:
    """Process id of the server's decoder."""
    handle = running.server.model.handle
    return int(ray.get(handle.__ray_call__.remote(lambda actor: actor._stages[0]._decoder.child_pid)))


def test_a_video_that_holds_the_worker_can_be_cancelled(running: Running) -> None:
    assert outcome(running.url, upload(running.url, running.content))["stage"] == "done"
    os.kill(decoder_pid(running), signal.SIGSTOP)  # a decoder that hangs
    accepted, behind = (upload(running.url, running.content) for _ in range(2))
    stages = (job["stage"] for _, job in events(running.url, accepted.json()["events"]))
    assert next(stage for stage in stages if stage != "queued") == "decoding"
    cancelled = requests.delete(running.url + accepted.json()["url"], timeout=60)
    assert cancelled.json()["error"]["reason"] == "cancelled"
    assert list(stages)[-1] == "failed"
    # A new decoder process decodes the next video.
    assert outcome(running.url, behind)["stage"] == "done"
    assert folder_is_empty(running)


def test_decoding_has_one_deadline_whatever_a_video_says_of_its_duration() -> None:
    limits = decode_limits(ServeConfig(ensemble="e", decode_timeout=7.0))
    assert (limits.timeout_s, limits.timeout_per_video_s, limits.stops_when_deleted) == (7.0, 0.0, True)


described = schemathesis.openapi.from_dict(document(CLASSES))


@described.parametrize()
@settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_document_says(case: schemathesis.Case, running: Running) -> None:
    # A well-formed request may still be refused: its URI is not allowed, or the queue is full.
    excluded = [positive_data_acceptance]
    if case.media_type == "multipart/form-data":
        # A form is sent as text, so that a value of the wrong type cannot be told from a file: `true` is four bytes.
        excluded.append(negative_data_rejection)
    case.call_and_validate(base_url=running.url, excluded_checks=excluded, timeout=60)


def test_a_model_that_dies_is_started_again_and_its_video_is_not_lost(running: Running) -> None:
    accepted = [upload(running.url, running.content) for _ in range(3)]
    assert next(events(running.url, accepted[0].json()["events"]))[0] == "progress"
    ray.kill(running.server.model.handle, no_restart=False)
    assert [outcome(running.url, answer)["stage"] for answer in accepted] == ["done"] * 3
    assert folder_is_empty(running)


def test_wrong_arguments_are_said_before_any_work(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**options: Any) -> str:
        with pytest.raises(ConfigError) as error:
            serve.serve(ServeConfig(**{"ensemble": running.ensemble, **options}))
        return str(error.value)

    assert "must be a directory that jobs/train.py finished" in refused(ensemble=str(tmp_path))
    assert "--backbone must be efficientnet_lite0" in refused(backbone=("resnet50",))
    assert "--allow-uri must be scheme://host" in refused(allow_uri=("file://x",), dry_run=True)
    port = int(running.url.rsplit(":", 1)[1])
    assert f"must be a free address of this machine, got 127.0.0.1:{port}" in refused(port=port)
    assert "--max-upload must be a number with one of B, KB" in refused(max_upload="much")
    capsys.readouterr()
    serve.serve(ServeConfig(ensemble=running.ensemble, port=5001, dry_run=True))
    output = capsys.readouterr().out
    assert output.startswith("would serve 3 classes (Animation, Gaming, Natural_Content), ensemble ")
    assert output.endswith(" at http://127.0.0.1:5001\n")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium or Chrome on the path")
    browser = Browser(executable, tmp_path / "profile")
    yield browser
    browser.close()


def text(browser: Browser, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector({selector!r}).innerText"))


def is_shown(selector: str) -> str:
    return f"document.querySelector({selector!r})?.checkVisibility() === true"


def test_the_page_takes_a_video_shows_its_progress_and_its_result(running: Running, browser: Browser) -> None:
    browser.size(1280, 900, is_phone=False, scheme="light")
    browser.open(running.url)
    browser.wait_for(is_shown(".state.ready"))
    # The step of the progress section at each of its changes.
    browser.evaluate(
        "window.stages = []; new MutationObserver(() => stages.push(document.querySelector('.steps .now')?.innerText))"
        ".observe(document.getElementById('steps'), {subtree: true, attributes: true})"
    )
    # Other videos before it, so that its progress is visible.
    for _ in range(3):
        assert upload(running.url, running.content).status_code == 202
    browser.choose_file("#file", running.videos / "clip.mp4")
    browser.wait_for(is_shown("#verdict"))
    steps = list(dict.fromkeys(browser.evaluate("stages")))
    assert steps[:2] == ["sending", "waiting"]
    assert set(steps[2:]) <= {"decoding", "classifying"}
    assert text(browser, "#verdict b") in CLASSES
    assert browser.evaluate("document.querySelectorAll('.odds.big i').length") == len(CLASSES)
    assert browser.evaluate("document.querySelectorAll('.strip img').length") == NUM_FRAMES
    assert browser.evaluate("Array.from(document.querySelectorAll('.strip img')).every(i => i.naturalWidth === 224)")
    assert browser.evaluate("document.querySelectorAll('.line i').length") == 3
    assert "h264" in text(browser, "#result dl")
    assert not browser.evaluate(is_shown("#progress"))
    # The list of recent videos contains it and opens it.
    assert "clip.mp4" in text(browser, "#recent-list")
    browser.open(running.url)
    browser.evaluate("document.querySelector('#recent-list button').click()")
    browser.wait_for(is_shown("#verdict"))
    assert browser.complaints == []


def test_the_page_says_what_is_wrong_and_works_by_keyboard_on_a_phone(
    running: Running, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "<b>cut<b>.mp4").write_bytes(running.content[: len(running.content) // 2])
    (tmp_path / "huge.mp4").write_bytes(bytes(MAX_BYTES + 1))
    browser.size(390, 844, is_phone=True, scheme="dark")
    browser.open(running.url)
    browser.wait_for(is_shown(".state.ready"))
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 24)"
    focused = []
    for _ in range(5):
        browser.press("Tab", 9)
        focused.append(browser.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert focused == ["vidclf", "Classify", "Recent", "file", "uri"]
    browser.choose_file("#file", tmp_path / "<b>cut<b>.mp4")
    browser.wait_for(is_shown("#error"))
    assert text(browser, "#error-reason") == "truncated"
    assert text(browser, "#error-name") == "<b>cut<b>.mp4"
    browser.choose_file("#file", tmp_path / "huge.mp4")
    browser.wait_for("document.getElementById('error-reason').innerText === 'too_large'")
    browser.evaluate(
        "document.getElementById('uri').focus(); document.getElementById('uri').value = 'http://127.0.0.1/x'"
    )
    browser.press("Enter", 13)
    browser.wait_for("document.getElementById('error-reason').innerText === 'uri_not_allowed'")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    # The console complains only about the refused request itself.
    assert [complaint for complaint in browser.complaints if "422" not in complaint] == []
