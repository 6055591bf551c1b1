"""Configuration of `serve`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidclf.config.fields import ONE_GPU, PRECISIONS, parse_size, require


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Classify single videos over HTTP, with a page to drop them on."""

    ensemble: str
    """ensemble directory, as `jobs/train.py` writes it"""
    host: str = "127.0.0.1"
    """address to listen on; other than loopback, whoever reaches it may use the server"""
    port: int = 5000
    """port to listen on; 0 takes a free one"""
    gpus: float | None = None
    """share of a GPU for the model (default: 0.25 where this machine has a GPU, else 0)"""
    max_upload: str = "500MB"
    """size of a video above which it is refused: a number with B, KB, MB, GB, KiB, MiB or GiB"""
    allowed_hosts: tuple[str, ...] = ()
    """further names that requests may be for, comma-separated, as videos.example.com or *.example.com, or * for any
    name (default: IP addresses, localhost, --host, and with --host 0.0.0.0 this machine's name)"""
    connections_per_address: int = 64
    """connections that one address may hold at a time; behind a proxy, whose address all clients have, set more"""
    allow_uri: tuple[str, ...] = ()
    """where videos may be fetched from by URI, comma-separated, as https://cdn.example.com, https://*.example.com
    or s3://bucket; http, https, s3 and gs; never a private address (default: nowhere)"""
    fetch_timeout: float = 300.0
    """seconds that fetching a video by URI may take"""
    queue: int = 8
    """videos that may wait while another one is classified; more are turned away"""
    keep_results: float = 3600.0
    """seconds that a result can be asked for, at most: the last 64 results are kept, and apart from them the last 256
    failures; the video itself is deleted before its result can be asked for"""
    tta: bool = False
    """test-time augmentation, as in a classification"""
    abstain_risk: float = 0.05
    """share of wrong labels among the accepted videos that is not to be exceeded, as in a classification"""
    accept_uncertified: bool = False
    """accept videos although validation does not support --abstain-risk, as in a classification"""
    segments: float | None = None
    """length in seconds of the timeline's segments (default: by the video's duration, 24 of them or fewer)"""
    sharpen_blurry: bool = False
    """classify the sharpened frames of blurry videos as well, and keep what is trusted more"""
    backbone: tuple[str, ...] = ()
    """refuse to run unless the ensemble was fitted on this backbone, or these, comma-separated (default: take
    the ensemble's)"""
    weights: tuple[str, ...] = ()
    """where the backbone's weights are on this machine, for several one each, comma-separated, in the order of
    the ensemble (default: where they were at extraction); other weights are refused"""
    precision: str = "auto"
    """what the CNN computes in: fp32, bf16 or auto, as in a classification"""
    decode_timeout: float = 60.0
    """seconds that decoding one video may take in all, whatever its duration: others wait for it"""
    decode_memory_gib: float = 2.0
    """memory that decoding one video may take, in GiB"""
    dry_run: bool = False
    """check the ensemble, say what would be served and stop"""

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65535, "port", "between 0 and 65535", self.port)
        require(self.gpus is None or 0 <= self.gpus <= 1, "gpus", ONE_GPU, self.gpus)
        require(self.max_upload_bytes >= 1, "max_upload", "at least 1 byte", self.max_upload)
        require(self.fetch_timeout > 0, "fetch_timeout", "above 0 seconds", self.fetch_timeout)
        require(self.queue >= 1, "queue", "at least 1 video", self.queue)
        most = self.connections_per_address
        require(1 <= most <= 256, "connections_per_address", "between 1 and 256", most)
        for name in self.allowed_hosts:
            is_name = bool(re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", name))
            require(is_name, "allowed_hosts", "names without scheme and port, *.name or *", name)
        require(self.keep_results > 0, "keep_results", "above 0 seconds", self.keep_results)
        require(0 < self.abstain_risk < 1, "abstain_risk", "in (0, 1)", self.abstain_risk)
        segments = self.segments
        require(segments is None or segments > 0, "segments", "above 0 seconds", segments)
        require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        require(self.decode_timeout > 0, "decode_timeout", "above 0 seconds", self.decode_timeout)
        require(self.decode_memory_gib > 0, "decode_memory_gib", "above 0 GiB", self.decode_memory_gib)

    @property
    def max_upload_bytes(self) -> int:
        return parse_size("max_upload", self.max_upload)
