"""The page of the server in a headless browser. No worker runs, so that a video waits until it is cancelled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, find_browser
from tests.unit.server.test_app import service, url  # noqa: F401
from vidclf.server.app import Service
from vidclf.server.refusals import Problem

ERROR = "document.getElementById('error-reason').innerText"


def is_shown(name: str) -> str:
    """The condition, in JavaScript, that the element with the id `name` is visible."""
    return f"document.getElementById({name!r}).offsetParent !== null"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("needs Chromium on the path")
    browser = Browser(executable, tmp_path / "profile")
    yield browser
    browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_waiting_video_is_cancelled_by_the_button_on_the_page(
    service: Service,  # noqa: F811
    url: str,  # noqa: F811
    browser: Browser,
    tmp_path: Path,
    scheme: str,
) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(1000))
    browser.size(390, 844, is_phone=True, scheme=scheme)
    browser.open(url)
    browser.wait_for("!document.getElementById('file').disabled")
    assert not browser.evaluate(is_shown("cancel"))
    browser.choose_file("#file", tmp_path / "film.mp4")
    browser.wait_for(is_shown("cancel"))
    browser.wait_for("document.querySelector('.steps .now').dataset.step === 'queued'")
    assert service.queue.lengths()["waiting"] == 1
    browser.evaluate("document.getElementById('cancel').focus()")
    browser.press("Enter", 13)
    browser.wait_for(f"{ERROR} === 'cancelled'")
    assert browser.evaluate("document.getElementById('error-title').innerText") == "Cancelled"
    assert browser.evaluate("document.activeElement.id") == "file"
    assert not browser.evaluate(is_shown("cancel"))
    assert service.queue.lengths()["waiting"] == 0
    assert service.folder.names() == []
    assert browser.complaints == []


def test_the_button_goes_when_a_video_ends_by_itself(
    service: Service,  # noqa: F811
    url: str,  # noqa: F811
    browser: Browser,
    tmp_path: Path,
) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(1000))
    browser.size(1280, 900, is_phone=False, scheme="light")
    browser.open(url)
    browser.wait_for("!document.getElementById('file').disabled")
    browser.choose_file("#file", tmp_path / "film.mp4")
    browser.wait_for(is_shown("cancel"))
    job = service.queue.take(10)
    assert job is not None
    service.queue.fail(job, Problem.INTERNAL_ERROR)
    browser.wait_for(f"{ERROR} === 'internal_error'")
    assert not browser.evaluate(is_shown("cancel"))
    assert browser.complaints == []


def test_an_upload_is_cancelled_before_it_has_arrived(
    service: Service,  # noqa: F811
    url: str,  # noqa: F811
    browser: Browser,
    tmp_path: Path,
) -> None:
    with open(tmp_path / "film.mp4", "wb") as file:
        os.truncate(file.fileno(), 1_900_000)
    # 20 kB per second: the upload would take over a minute.
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 20_000}
    browser.size(1280, 900, is_phone=False, scheme="dark")
    browser.open(url)
    browser.wait_for("!document.getElementById('file').disabled")
    browser.call("Network.enable")
    browser.call("Network.emulateNetworkConditions", **slow)
    browser.choose_file("#file", tmp_path / "film.mp4")
    browser.wait_for(is_shown("cancel"))
    browser.evaluate("document.getElementById('cancel').click()")
    browser.wait_for(f"{ERROR} === 'cancelled'")
    assert browser.evaluate("document.getElementById('error-text').innerText") == "The upload was cancelled."
    assert service.queue.lengths() == {"waiting": 0, "running": 0}
    assert browser.complaints == []


def test_bars_of_sublabels_with_long_names_are_seen_on_a_phone(
    url: str,  # noqa: F811
    browser: Browser,
) -> None:
    browser.size(390, 844, is_phone=True, scheme="light")
    browser.open(url)
    row = "{top_label: 'A', top_sublabel: name, confidence: 0.8, sublabel_probabilities: [1]}"
    browser.evaluate(
        "const name = 'documentaries about animals '.repeat(9); const result = document.getElementById('result');"
        f"result.hidden = false; result.append(section('Probabilities', null, ...sublabelOdds({{classes: ['A'], "
        f"taxonomy: {{A: [name]}}, prediction: {row}}})))"
    )
    assert browser.evaluate("document.querySelector('#result .odds i').offsetWidth") == 56
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
