"""Where Ray is to be found, checked before Ray is imported: a cluster that does not answer costs Ray 15 minutes.

Follows Ray's own order: the variable RAY_ADDRESS, then the file that `ray start --head` leaves, else a Ray of the job's
own, on this machine.
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
"""Seconds that a cluster may take to accept a connection; it is tried twice."""

NUM_TRIES = 2

PAUSE_S = 1.0

MAX_SOCKET_BYTES = 107
"""The longest path of a UNIX socket on Linux, unix(7)."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster that Ray would connect to."""

    address: str
    origin: str
    """what names the address"""
    remedy: str


def check_ray(environ: Mapping[str, str] = os.environ) -> None:
    """ConfigError where Ray could not be connected to, or not be started, by what the environment says."""
    cluster = named_cluster(environ)
    if cluster is None:
        _check_sockets(environ)
    else:
        _check_answer(cluster)


def named_cluster(environ: Mapping[str, str]) -> Cluster | None:
    """The cluster that the environment names; None where Ray is to be started on this machine."""
    address = environ.get("RAY_ADDRESS", "")
    if address == "local":
        return None
    if address not in ("", "auto"):
        return Cluster(
            address=address,
            origin="the variable RAY_ADDRESS",
            remedy="start that cluster, name a running one, or unset RAY_ADDRESS to use this machine alone",
        )
    path = os.path.join(_temporary(environ), "ray_current_cluster")
    try:
        with open(path, encoding="utf-8") as file:
            address = file.read().strip()
    except OSError:
        return None
    if not address:
        return None
    return Cluster(
        address=address,
        origin=f"the file {path}, which a `ray start` left",
        remedy="start that cluster again, or remove the file to use this machine alone",
    )


def _temporary(environ: Mapping[str, str]) -> str:
    """Ray's directory for sockets, logs and spilled objects."""
    return os.path.join(environ.get("RAY_TMPDIR") or environ.get("TMPDIR") or "/tmp", "ray")


def _check_answer(cluster: Cluster) -> None:
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
        except OSError as found:
            error = found
    why = (error.strerror if error is not None else None) or str(error)
    raise ConfigError(
        f"Ray address {cluster.address}, from {cluster.origin}: no cluster answers ({why}); {cluster.remedy}"
    )


def _check_sockets(environ: Mapping[str, str]) -> None:
    folder = _temporary(environ)
    session = f"session_2000-01-01_00-00-00_000000_{os.getpid()}"
    num_bytes = len(os.fsencode(f"{folder}/{session}/sockets/plasma_store"))
    if num_bytes > MAX_SOCKET_BYTES:
        raise ConfigError(
            f"temporary directory {os.path.dirname(folder)}: is {num_bytes - MAX_SOCKET_BYTES} bytes too long for "
            f"Ray's sockets, whose paths may have {MAX_SOCKET_BYTES}; set RAY_TMPDIR to a shorter one, such as /tmp"
        )
