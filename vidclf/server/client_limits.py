"""How slow a client of the server may be, and how many connections it may hold. Pure: time is an argument."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

HEADER_TIMEOUT_S = 10.0
"""Seconds from a connection, or from a later request's first byte, to the end of that request's header."""

BODY_WINDOW_S = 10.0

LEAST_BODY_RATE = 4096
"""Bytes a second that must arrive of a body, in each window of `BODY_WINDOW_S` seconds."""

MAX_CONNECTIONS = 256
"""At a time, of all addresses."""


@dataclass
class ClientPace:
    """The clock of one connection. Only the time that the client is waited for counts."""

    began_s: float
    """when the connection or the current request began; seconds of a monotonic clock"""
    in_body: bool = False
    _window_began_s: float = 0.0
    _window_bytes: int = 0

    def begin(self, now_s: float) -> None:
        """A request's first byte has come, or the client's turn begins again."""
        self.began_s, self.in_body = now_s, False

    def received(self, num_bytes: int, now_s: float) -> None:
        """So many bytes of a body have come."""
        if not self.in_body:
            self.in_body, self._window_began_s, self._window_bytes = True, now_s, 0
        self._window_bytes += num_bytes

    def is_too_slow(self, now_s: float) -> bool:
        """Whether the client has had its time; call it at least once in a window."""
        if not self.in_body:
            return now_s - self.began_s > HEADER_TIMEOUT_S
        if now_s - self._window_began_s < BODY_WINDOW_S:
            return False
        is_slow = self._window_bytes < LEAST_BODY_RATE * BODY_WINDOW_S
        self._window_began_s, self._window_bytes = now_s, 0
        return is_slow


def client_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network that an IPv6 address is one of many in."""
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
