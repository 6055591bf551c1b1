"""Limits on slow clients and on the number of connections. Functions get the time as an argument and read no clock."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

HEADER_TIMEOUT_S = 10.0
"""Most seconds from the connection, or from the first byte of a later request, to the end of the request's header."""

BODY_WINDOW_S = 10.0
"""Length in seconds of the periods over which the speed of a request's body is measured."""

LEAST_BODY_RATE = 4096
"""Bytes of a body that must arrive per second, on average over each period of `BODY_WINDOW_S` seconds."""

MAX_CONNECTIONS = 256
"""Largest number of simultaneous connections, of all addresses together."""


@dataclass
class ClientPace:
    """Speed of the client of one connection; only time in which the server waits for the client counts."""

    began_s: float
    """begin of the connection or of the current request, in seconds of a monotonic clock"""
    in_body: bool = False
    """whether the client is sending the body of a request, and not its header"""
    _window_began_s: float = 0.0
    _window_bytes: int = 0

    def begin(self, now_s: float) -> None:
        """Start to measure: the first byte of a request has arrived, or it is the client's turn to send again."""
        self.began_s, self.in_body = now_s, False

    def received(self, num_bytes: int, now_s: float) -> None:
        """Count `num_bytes` that have arrived of a request's body."""
        if not self.in_body:
            self.in_body, self._window_began_s, self._window_bytes = True, now_s, 0
        self._window_bytes += num_bytes

    def is_too_slow(self, now_s: float) -> bool:
        """Whether the client is too slow to keep its connection. `now_s` is the current time.

        Must be called at least once per `BODY_WINDOW_S` seconds.
        """
        if not self.in_body:
            return now_s - self.began_s > HEADER_TIMEOUT_S
        if now_s - self._window_began_s < BODY_WINDOW_S:
            return False
        is_slow = self._window_bytes < LEAST_BODY_RATE * BODY_WINDOW_S
        self._window_began_s, self._window_bytes = now_s, 0
        return is_slow


def client_of(address: str) -> str:
    """Text that identifies the client at an address: the IPv4 address itself, or the /64 network of an IPv6 address.

    A single IPv6 client usually has a whole /64 network.
    """
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
