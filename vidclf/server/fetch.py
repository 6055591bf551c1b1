"""Fetching of videos by URI, and the rules that decide which URIs the server fetches.

A server that fetches URIs of strangers can be made to send requests to its own machine and network (server-side request
forgery). Therefore:

- Only the schemes and hosts that the operator lists are fetched.
- An address must be public, whatever name resolves to it.
- The connection goes to exactly the address that was checked, not to a later resolution of the name.
- A redirect is checked like a first request.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.server.refusals import Problem, Refused
from vidclf.server.uploads import LimitedFile

PORTS = {"http": 80, "https": 443}
"""Default port of each URI scheme that is fetched over HTTP."""

STORES = ("s3", "gs")
"""URI schemes of object stores."""

MAX_REDIRECTS = 5
"""Largest number of HTTP redirects that are followed for one video."""

MAX_URI = 2048
"""Largest number of characters of a URI."""

CHUNK_BYTES = 1024**2
"""Bytes that are read at a time."""

SOCKET_TIMEOUT_S = 20.0
"""Seconds that the server with the video may stay silent before fetching fails."""

Resolve = Callable[[str, int], Sequence[str]]
"""Function from a host name and a port to the host's addresses; raises OSError if it has none."""

Connect = Callable[[str, int, float], socket.socket]
"""Function that connects to an address and port, with a timeout in seconds, and returns the socket."""


@dataclass(frozen=True, kw_only=True)
class ResolvedUri:
    """URI that may be fetched, in parts, with the network addresses of its host."""

    scheme: str
    host: str
    port: int
    target: str
    """path and query, as the request sends them"""
    addresses: tuple[str, ...]
    """addresses of the host, all public; empty for an object store, whose endpoint the operator has set"""


@dataclass(frozen=True, kw_only=True)
class _Allowed:
    """One entry of the flag --allow-uri: scheme, host and port that videos may be fetched from."""

    scheme: str
    host: str
    """a name, `*.name` for all names below it, or `*`"""
    port: int | None
    """None for the scheme's default port"""

    def covers(self, scheme: str, host: str, port: int | None) -> bool:
        is_host = self.host in ("*", host) or (self.host.startswith("*.") and host.endswith(self.host[1:]))
        return self.scheme == scheme and is_host and (self.port or PORTS.get(scheme)) == port


class UriPolicy:
    """Rules that decide which URIs a server fetches."""

    def __init__(self, allowed: Sequence[str], resolve: Resolve | None = None) -> None:
        """Read the rules from `allowed`, the entries of the flag --allow-uri (`ServeConfig.allow_uri`).

        `resolve` finds the addresses of a host; the default asks the operating system. Raises ConfigError for a
        malformed entry.
        """
        self._allowed = [_entry(text) for text in allowed]
        self._resolve = resolve or _resolve

    @property
    def schemes(self) -> list[str]:
        return sorted({entry.scheme for entry in self._allowed})

    def check(self, uri: str) -> ResolvedUri:
        """Check that the server may fetch `uri`, and return its parts and addresses.

        Raises Refused (uri_not_allowed) if it may not, or if the host has no address.
        """
        try:
            parts = _split(uri)
            scheme, host = parts.scheme.lower(), _ascii(parts.hostname or "")
            port = parts.port or PORTS.get(scheme)
        except ValueError:
            raise Refused(Problem.URI_NOT_ALLOWED) from None
        is_covered = any(entry.covers(scheme, host, port) for entry in self._allowed)
        # Options of an object store (`?endpoint_override=…`) could name another server.
        if not is_covered or parts.username is not None or (scheme in STORES and parts.query):
            raise Refused(Problem.URI_NOT_ALLOWED)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if scheme in STORES:
            return ResolvedUri(scheme=scheme, host=host, port=0, target=target, addresses=())
        assert port is not None
        try:
            addresses = tuple(self._resolve(host, port))
        except (OSError, UnicodeError):
            raise Refused(Problem.URI_NOT_ALLOWED) from None
        if not addresses or not all(is_public(address) for address in addresses):
            raise Refused(Problem.URI_NOT_ALLOWED)
        return ResolvedUri(scheme=scheme, host=host, port=port, target=target, addresses=addresses)


def is_public(address: str) -> bool:
    """Whether an IP address is public: not private, shared, loopback, link-local, multicast or reserved.

    An IPv4-mapped IPv6 address is public if its IPv4 address is. 6to4, Teredo and NAT64 addresses never are, because
    their gateways may lead anywhere.
    """
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour is not None or ip.teredo is not None or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def fetch(uri: str, policy: UriPolicy, file: LimitedFile, timeout_s: float, connect: Connect | None = None) -> None:
    """Write the video at `uri` to `file`, in at most `timeout_s` seconds.

    Raises Refused: uri_not_allowed (also for the target of a redirect), fetch_timeout, too_large, not_found,
    permission_denied, read_error.
    """
    ends_s = time.monotonic() + timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        place = policy.check(uri)
        try:
            if place.scheme in STORES:
                _fetch_store(uri, file, ends_s)
                return
            location = _fetch_http(place, file, ends_s, connect or _connect)
        except (OSError, http.client.HTTPException, ConfigError) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= ends_s:
                raise Refused(Problem.FETCH_TIMEOUT) from None
            raise Refused(_reason(error)) from error
        if location is None:
            return
        uri = urljoin(uri, location)
    raise Refused(RejectReason.READ_ERROR)


def _fetch_http(place: ResolvedUri, file: LimitedFile, ends_s: float, connect: Connect) -> str | None:
    """Request a URI over HTTP and write the content to `file`, until the time `ends_s` of the monotonic clock.

    Returns the target of a redirect as text, or None when the content is in `file`.
    """
    connection = _Pinned(place, connect)
    # A server that sends a byte now and then would keep every single read within its timeout.
    deadline = threading.Timer(max(ends_s - time.monotonic(), 0), connection.abort)
    deadline.start()
    try:
        headers = {"Accept-Encoding": "identity", "User-Agent": "vidclf", "Accept": "video/*, */*;q=0.5"}
        connection.request("GET", place.target, headers=headers)
        response = connection.getresponse()
        if response.status in (301, 302, 303, 307, 308):
            return response.headers.get("Location", "")
        if response.status != 200 or response.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(_http_reason(response.status))
        length = response.headers.get("Content-Length")
        file.check(int(length) if length is not None and length.isdigit() else 0)
        # In pieces as they arrive: a read of full chunks would wait for bytes beyond the limit.
        _copy(response.read1, file, ends_s)
        if response.length:  # bytes that the server has announced and not sent
            raise OSError(f"{response.length} bytes are missing")
        return None
    finally:
        deadline.cancel()
        connection.close()


def _fetch_store(uri: str, file: LimitedFile, ends_s: float) -> None:
    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_stream(path, compression=None) as stream:
        _copy(stream.read, file, ends_s)


def _copy(read: Callable[[int], bytes], file: LimitedFile, ends_s: float) -> None:
    """Write everything that `read` returns to `file`.

    Raises TimeoutError after the time `ends_s` of the monotonic clock. The time is also checked at the end, because an
    aborted connection looks like the end of the content.
    """
    while chunk := read(CHUNK_BYTES):
        file.write(chunk)
        if time.monotonic() >= ends_s:
            break
    if time.monotonic() >= ends_s:
        raise TimeoutError("fetching took too long")


class _Pinned(http.client.HTTPConnection):
    """HTTP connection to an address that was checked before, so that the host name is not resolved again.

    The certificate is still checked against the host name, and the Host header contains it.
    """

    def __init__(self, place: ResolvedUri, connect: Connect) -> None:
        super().__init__(place.host, place.port)
        self._place, self._connect_to = place, connect
        self._opened: socket.socket | None = None

    def connect(self) -> None:
        for index, address in enumerate(self._place.addresses):
            try:
                self._opened = self._connect_to(address, self._place.port, SOCKET_TIMEOUT_S)
                break
            except OSError:
                if index + 1 == len(self._place.addresses):
                    raise
        assert self._opened is not None
        if self._place.scheme == "https":
            context = ssl.create_default_context()
            secured = context.wrap_socket(self._opened, server_hostname=self._place.host, do_handshake_on_connect=False)
            self._opened = secured
            secured.do_handshake()
        self.sock = self._opened

    def abort(self) -> None:
        """End the connection at the deadline, from another thread than the one that reads or writes."""
        if self._opened is not None:
            with suppress(OSError):
                self._opened.shutdown(socket.SHUT_RDWR)


def _http_reason(status: int) -> RejectReason:
    if status in (404, 410):
        return RejectReason.NOT_FOUND
    return RejectReason.PERMISSION_DENIED if status in (401, 403) else RejectReason.READ_ERROR


def _reason(error: Exception) -> RejectReason:
    if isinstance(error, FileNotFoundError):
        return RejectReason.NOT_FOUND
    # pyarrow has no exception class for a denied access to an object store, only the message.
    is_denied = isinstance(error, PermissionError) or "ACCESS_DENIED" in str(error)
    return RejectReason.PERMISSION_DENIED if is_denied else RejectReason.READ_ERROR


def _connect(address: str, port: int, timeout_s: float) -> socket.socket:
    return socket.create_connection((address, port), timeout_s)


def _resolve(host: str, port: int) -> list[str]:
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in entries))


def _split(uri: str) -> SplitResult:
    """Parts of a URI. Raises ValueError if it is too long, or not printable ASCII without spaces and backslashes."""
    if len(uri) > MAX_URI or not uri.isascii() or any(character <= " " or character == "\\" for character in uri):
        raise ValueError(uri)
    return urlsplit(uri)


def _ascii(host: str) -> str:
    """Host name in its canonical spelling: lower case, ASCII (IDNA), no final dot. An empty name stays empty."""
    return host.rstrip(".").lower().encode("idna").decode() if host else ""


def _entry(text: str) -> _Allowed:
    rule = "scheme://host with http, https, s3 or gs, a host or *.domain, and nothing after it"
    malformed = ConfigError(f"--allow-uri must be {rule}, got {text!r}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise malformed from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    is_bare = parts.path in ("", "/") and not parts.query and not parts.fragment and parts.username is None
    if scheme not in (*PORTS, *STORES) or not host or not is_bare or "*" in host.removeprefix("*"):
        raise malformed
    return _Allowed(scheme=scheme, host=host, port=port)
