"""Quick check, before Ray is imported, that the Ray cluster of a job answers.

Without this check, Ray would try for 15 minutes to reach a cluster that does not answer. Ray takes the address of the
cluster from the environment variable RAY_ADDRESS, or else from a file that `ray start --head` wrote; without either it
starts on this machine.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from vidclf.errors import ConfigError

CONNECT_TIMEOUT_S = 5.0
"""Maximum time in seconds for the cluster to accept a connection, in each try."""

NUM_TRIES = 2
"""Number of tries to connect to the cluster."""

PAUSE_S = 1.0
"""Seconds between two tries to connect."""

MAX_SOCKET_BYTES = 107
"""Maximum length of the path of a UNIX socket on Linux, in bytes; see unix(7)."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster to which a job would connect, with texts for error messages."""

    address: str
    """address of the cluster: host:port, or a URI that begins with ray://"""
    origin: str
    """name of the variable or file that contains the address, for messages"""
    remedy: str
    """advice for the user if the cluster does not answer, for messages"""


def check_ray(environ: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError if the Ray cluster that the environment names does not answer.

    If it names none, Ray starts on this machine; raises ConfigError if its temporary directory makes that impossible.
    """
    cluster = named_cluster(environ)
    if cluster is None:
        _check_sockets(environ)
    else:
        _check_answer(cluster)


def named_cluster(environ: Mapping[str, str]) -> Cluster | None:
    """Ray cluster that the environment variables `environ`, or the file of `ray start`, name; None if there is none, so
    that Ray starts on this machine."""
    address = environ.get("RAY_ADDRESS", "")
    if address == "local":
        return None
    if address not in ("", "auto"):
        return Cluster(
            address=address,
            origin="the variable RAY_ADDRESS",
            remedy="start that cluster, name a running one, or unset RAY_ADDRESS to use this machine alone",
        )
    path = os.path.join(_ray_directory(environ), "ray_current_cluster")
    try:
        with open(path, encoding="utf-8") as file:
            address = file.read().strip()
    except OSError:
        return None
    if not address:
        return None
    return Cluster(
        address=address,
        origin=f"the file {path}, which `ray start` wrote",
        remedy="start that cluster again, or remove the file to use this machine alone",
    )


def _ray_directory(environ: Mapping[str, str]) -> str:
    """Path of the directory in which Ray keeps its sockets, logs and spilled objects."""
    return os.path.join(environ.get("RAY_TMPDIR") or environ.get("TMPDIR") or "/tmp", "ray")


def _check_answer(cluster: Cluster) -> None:
    """Raise ConfigError if the address of `cluster` is malformed, or if nothing accepts a connection there."""
    try:
        parts = urlsplit(cluster.address if "://" in cluster.address else f"//{cluster.address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or (port is None and parts.scheme != "ray"):
        raise ConfigError(
            f"Ray address {cluster.address!r}, from {cluster.origin}: must be host:port; {cluster.remedy}"
        )
    error: OSError | None = None
    for attempt in range(NUM_TRIES):
        time.sleep(PAUSE_S if attempt else 0)
        try:
            socket.create_connection((host, port or 10001), CONNECT_TIMEOUT_S).close()
            return
        except OSError as failure:
            error = failure
    reason = (error.strerror if error is not None else None) or str(error)
    raise ConfigError(
        f"Ray address {cluster.address}, from {cluster.origin}: no cluster answers ({reason}); {cluster.remedy}"
    )


def _check_sockets(environ: Mapping[str, str]) -> None:
    """Raise ConfigError if the path of the temporary directory is so long that Ray cannot create its sockets there."""
    folder = _ray_directory(environ)
    session = f"session_2000-01-01_00-00-00_000000_{os.getpid()}"
    num_bytes = len(os.fsencode(f"{folder}/{session}/sockets/plasma_store"))
    if num_bytes > MAX_SOCKET_BYTES:
        raise ConfigError(
            f"temporary directory {os.path.dirname(folder)}: is {num_bytes - MAX_SOCKET_BYTES} bytes too long for "
            f"Ray's sockets, whose paths may have at most {MAX_SOCKET_BYTES} bytes; "
            "set RAY_TMPDIR to a shorter one, such as /tmp"
        )
