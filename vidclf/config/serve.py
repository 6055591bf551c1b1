"""Configuration of the job `serve`, a web server that classifies single videos."""

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
    """Network address on which the server listens. With another address than loopback (127.0.0.1), everyone who can
    reach that address may use the server."""
    port: Annotated[int, between(0, 65535)] = 5000
    """Network port on which the server listens. 0 chooses a free port."""
    gpus: GpuShare | None = None
    """Share of one GPU on which the CNN and the ensemble compute; 0 uses the CPUs. (default: 0.25 if this machine has a
    GPU, otherwise 0)"""
    max_upload: str = "500MB"
    """Maximum size of an uploaded video file: a number with B, KB, MB, GB, KiB, MiB or GiB."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that requests may use to address the server, comma-separated, in addition to those that are always
    allowed; requests with another name are refused. Examples: videos.example.com, *.example.com, or * for any name.
    (default: only those always allowed: IP addresses, localhost, --host, and with --host 0.0.0.0 the name of this
    machine)"""
    connections_per_address: Annotated[int, between(1, 256)] = 64
    """Maximum number of simultaneous connections from one client address. Behind a proxy all clients share the address
    of the proxy, so set a higher number there."""
    allow_uri: tuple[str, ...] = ()
    """Hosts and buckets from which the server may fetch a video when a request gives a URI instead of a file,
    comma-separated, such as https://cdn.example.com, https://*.example.com or s3://bucket. Schemes are http, https, s3
    and gs. Private network addresses are always refused. (default: none, only uploads)"""
    fetch_timeout: Annotated[float, above(0, "seconds")] = 300.0
    """Maximum time for fetching a video whose URI a request gave, in seconds."""
    queue: Annotated[int, at_least(1, "video")] = 8
    """Maximum number of videos that wait while another video is classified. Further videos are refused until one is
    done."""
    keep_results: Annotated[float, above(0, "seconds")] = 3600.0
    """Seconds for which the server keeps the result of a video, so that clients can fetch it. At most 64 results and
    256 failures are kept. The video file itself is deleted before its result is available."""
    segments: Annotated[float, above(0, "seconds")] | None = None
    """Length in seconds of the parts of a video that are also classified by themselves, for the timeline of classes in
    the result. (default: derived from the duration, at most 24 parts per video)"""
    decode_timeout: Annotated[float, above(0, "seconds")] = 60.0
    """Maximum time for decoding one video, in seconds. Unlike in other jobs, the duration of the video adds nothing,
    because other videos wait meanwhile."""
    dry_run: bool = False
    """Check that the ensemble can be loaded, print the settings of the server, and stop without serving."""

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
