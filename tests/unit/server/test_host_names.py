"""Host names that the server answers to."""

from __future__ import annotations

import socket

import pytest

from vidclf.config import ServeConfig
from vidclf.errors import ConfigError
from vidclf.server.host_names import is_known_host


@pytest.mark.parametrize(
    "header", ["127.0.0.1", "127.0.0.2:5000", "[::1]:5000", "localhost", "LOCALHOST:80", "localhost.", "192.0.2.7:5000"]
)
def test_addresses_and_this_machine_are_known(header: str) -> None:
    assert is_known_host(header, "127.0.0.1", ())


@pytest.mark.parametrize(
    "header",
    [
        *("evil.example", "evil.example:5000", "", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("x@127.0.0.1", "a/b", "localhost:port", "[::1", "localhost#", "127.0.0.1\\"),
    ],
)
def test_others_are_not(header: str) -> None:
    assert not is_known_host(header, "127.0.0.1", ())


def test_the_bound_name_is_known_and_with_any_address_the_machine_s() -> None:
    assert is_known_host("Videos.example:5000", "videos.example", ())
    assert is_known_host(f"{socket.gethostname()}:5000", "0.0.0.0", ())
    assert is_known_host(socket.gethostname(), "::", ())
    assert not is_known_host("videos.example", "0.0.0.0", ())


def test_allowed_names_are_exact_or_below_a_domain_or_any() -> None:
    assert is_known_host("videos.example", "127.0.0.1", ("videos.example",))
    assert is_known_host("a.videos.example", "127.0.0.1", ("*.videos.example",))
    assert not is_known_host("videos.example", "127.0.0.1", ("*.videos.example",))
    assert not is_known_host("evilvideos.example", "127.0.0.1", ("*.videos.example", "videos.example"))
    assert is_known_host("evil.example", "127.0.0.1", ("*",))


@pytest.mark.parametrize("name", ["http://videos.example", "videos.example:80", "", "a.*"])
def test_a_name_with_something_around_it_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed_hosts|--allowed-hosts"):
        ServeConfig(ensemble="e", allowed_hosts=(name,))
