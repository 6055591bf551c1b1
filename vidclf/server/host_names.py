"""Check of the Host header: which host names the server accepts as its own.

The owner of a domain can let it point to any address (DNS rebinding). Pages of that domain can then reach a server in
the visitor's network, as if they were the server's own pages. Such a request has the domain in its Host header. A
header with an IP address cannot come from a name, so it is always accepted.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

_LOCATION = re.compile(r"[A-Za-z0-9._~:\[\]%-]+")


def is_known_host(host_header: str, bound: str, allowed: Sequence[str]) -> bool:
    """Whether a request with this Host header is accepted by the server that listens on the address or name `bound`.

    `allowed` lists further names. `*.name` covers all names below it, and `*` covers every name.
    """
    name = _name(host_header)
    if name is None:
        return False
    if _is_ip(name):
        return True
    server_names = {"localhost", bound.rstrip(".").lower()}
    if _is_any_address(bound):
        server_names.add(socket.gethostname().rstrip(".").lower())
    return name in server_names or any(_covers(entry.rstrip(".").lower(), name) for entry in allowed)


def _covers(entry: str, name: str) -> bool:
    return entry in ("*", name) or (entry.startswith("*.") and name.endswith(entry[1:]))


def _name(host_header: str) -> str | None:
    """Host name in a Host header, in lower case and without its port; None for a malformed header."""
    if not _LOCATION.fullmatch(host_header):
        return None
    try:
        parts = urlsplit(f"//{host_header}")
        parts.port  # noqa: B018 - raises ValueError for a malformed port
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
