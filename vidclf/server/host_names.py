"""The names that a server answers to.

The owner of a domain may point it to any address (DNS rebinding): pages of that domain then reach a server in the
visitor's own network, as pages of the server's own site. Such a request bears the domain in its Host header. An IP
address in that header cannot come from a name, so it is always accepted.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

_LOCATION = re.compile(r"[A-Za-z0-9._~:\[\]%-]+")


def is_known_host(host_header: str, bound: str, allowed: Sequence[str]) -> bool:
    """Whether a request with this Host header is for the server that listens on `bound`.

    `allowed` are further names; `*.name` stands for all below it, and `*` for any.
    """
    name = _name(host_header)
    if name is None:
        return False
    if _is_ip(name):
        return True
    own = {"localhost", bound.rstrip(".").lower()}
    if _is_any_address(bound):
        own.add(socket.gethostname().rstrip(".").lower())
    return name in own or any(_covers(entry.rstrip(".").lower(), name) for entry in allowed)


def _covers(entry: str, name: str) -> bool:
    return entry in ("*", name) or (entry.startswith("*.") and name.endswith(entry[1:]))


def _name(host_header: str) -> str | None:
    """Without its port, in lower case; None where the header holds something else than a host and a port."""
    if not _LOCATION.fullmatch(host_header):
        return None
    try:
        parts = urlsplit(f"//{host_header}")
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name.split("%", 1)[0])
    except ValueError:
        return False
    return True


def _is_any_address(bound: str) -> bool:
    return _is_ip(bound) and ipaddress.ip_address(bound.split("%", 1)[0]).is_unspecified
