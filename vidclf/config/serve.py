"""Configuration of `serve`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from vidclf.config.fields import GpuShare, above, at_least, between, parse_size, require
from vidclf.config.options import DecisionOptions, DecodeLimitsOptions, DryRunOptions, EnsembleOptions, PrecisionOptions


@dataclass(frozen=True, kw_only=True)
class ServeConfig(DecisionOptions, EnsembleOptions, PrecisionOptions, DecodeLimitsOptions, DryRunOptions):
    """Classify single videos over HTTP, with a web page for uploads."""

    host: str = "127.0.0.1"
    """Address on which the server listens. With an address other than loopback, everyone who can reach it may use the
    server."""
    port: Annotated[int, between(0, 65535)] = 5000
    """Port on which the server listens. 0 chooses a free port."""
    gpus: GpuShare | None = None
    """Share of a GPU for the model. (default: 0.25 if this machine has a GPU, otherwise 0)"""
    max_upload: str = "500MB"
    """Maximum size of an uploaded video: a number with B, KB, MB, GB, KiB, MiB or GiB."""
    allowed_hosts: tuple[str, ...] = ()
    """Additional host names under which the server may be addressed, comma-separated: videos.example.com,
    *.example.com, or * for any name. (default: IP addresses, localhost, --host, and with --host 0.0.0.0 the name of
    this machine)"""
    connections_per_address: Annotated[int, between(1, 256)] = 64
    """Maximum number of simultaneous connections per client address. Behind a proxy all clients share its address, so
    set a higher number there."""
    allow_uri: tuple[str, ...] = ()
    """Places from which the server may fetch videos by URI, comma-separated, such as https://cdn.example.com,
    https://*.example.com or s3://bucket. Schemes are http, https, s3 and gs. Private addresses are always refused.
    (default: none)"""
    fetch_timeout: Annotated[float, above(0, "seconds")] = 300.0
    """Time limit for fetching a video by URI, in seconds."""
    queue: Annotated[int, at_least(1, "video")] = 8
    """Maximum number of videos that wait while another one is classified. Further videos are refused."""
    keep_results: Annotated[float, above(0, "seconds")] = 3600.0
    """Seconds for which the result of a video can be fetched. At most 64 results and 256 failures are kept. The
    video itself is deleted before its result is available."""
    segments: Annotated[float, above(0, "seconds")] | None = None
    """Length in seconds of the segments of the timeline. (default: derived from the duration, at most 24 segments per
    video)"""
    decode_timeout: Annotated[float, above(0, "seconds")] = 60.0
    """Time limit for decoding one video, in seconds, whatever its duration, because other videos wait for it."""
    dry_run: bool = False
    """Check the ensemble, print what would be served, and stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_upload_bytes >= 1, "max_upload", "at least 1 byte", self.max_upload)
        for name in self.allowed_hosts:
            is_name = bool(re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", name))
            require(is_name, "allowed_hosts", "names without scheme and port, *.name or *", name)

    @property
    def max_upload_bytes(self) -> int:
        """Maximum size of an uploaded video in bytes."""
        return parse_size("max_upload", self.max_upload)
