"""HTTP requests to a server of the tests, over loopback."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests

BOUNDARY = "x-boundary-x"


def form(content: bytes, name: str = "clip.mp4", kind: str = "video/mp4", field: str = "file") -> bytes:
    """A multipart/form-data body with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    head += f"Content-Type: {kind}\r\n\r\n"
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def upload(url: str, content: bytes, **part: str) -> requests.Response:
    """Upload a video; `part` as in `form`."""
    return send(url, form(content, **part))


def send(url: str, body: bytes) -> requests.Response:
    """Post a body that `form` has made."""
    return requests.post(f"{url}/api/classify", data=body, headers=FORM, timeout=300)


def reason(response: requests.Response) -> tuple[int, str]:
    """Status and reason of a refusal, whose format is checked."""
    error = response.json()["error"]
    assert (set(response.json()), set(error)) == ({"error"}, {"reason", "message", "status"})
    assert error["status"] == response.status_code
    return response.status_code, error["reason"]


def events(url: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and data of a job's events until the server ends them."""
    with requests.get(f"{url}{path}", stream=True, timeout=300) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        name = ""
        for line in response.iter_lines(decode_unicode=True):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def outcome(url: str, accepted: requests.Response) -> dict[str, Any]:
    """The job of an accepted video after it has ended."""
    assert accepted.status_code == 202, accepted.text
    *_, (name, job) = events(url, accepted.json()["events"])
    assert name == job["stage"]
    return job


@contextmanager
def raw_connection(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=120) as connection:
        yield connection


def received(connection: socket.socket) -> str:
    """Everything that a server sends until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def header_only(url: str, length: int, **headers: str) -> tuple[int, dict[str, Any]]:
    """The answer to the header of an upload of `length` bytes; the body is never sent."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)
    connection.putrequest("POST", "/api/classify")
    for name, value in {**FORM, "Content-Length": str(length), **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer
