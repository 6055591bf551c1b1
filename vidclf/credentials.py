"""Locations as they may be shown and shared: without passwords, signatures and tokens.

User information (`scheme://user:password@host`) and the values of query parameters that grant access are replaced
by `***`. What is shown stays recognizable: scheme, host, path and every other parameter are as they were.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"

_SECRET_NAMES = (
    *("sig", "sas", "auth", "authorization", "key", "apikey", "accesskey", "accesskeyid", "awsaccesskeyid"),
    *("googleaccessid", "policy", "keypairid", "pwd", "passwd", "passphrase", "jwt", "hdnea", "hdnts", "hdntl"),
)
"""Parameters that grant access, of the usual object stores and networks that deliver content, without hyphens."""

_SECRET_PARTS = ("signature", "token", "secret", "password", "credential")
"""A parameter whose name holds one of these grants access: X-Amz-Signature, X-Amz-Security-Token, secret_key, …"""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")
"""A URI in running text, and the punctuation that follows it there."""

_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")

_PARAMETER = re.compile(r"([?&;])([^=&;#?]+)=([^&;#\s]*)")


def masked(location: str) -> str:
    """A path or URI without credentials; `location` itself where it has none."""
    if "://" not in location:
        return location
    shown = _USER.sub(lambda found: f"{found[1]}{HIDDEN}@", location)
    if "?" not in shown:
        return shown
    path, mark, query = shown.partition("?")
    return path + _PARAMETER.sub(_hidden, mark + query)


def masked_text(text: str) -> str:
    """Running text with every URI in it masked."""
    return _URI.sub(_masked_in_text, text) if "://" in text else text


def _masked_in_text(found: re.Match[str]) -> str:
    location = found[0].rstrip(".,:;!)]}")
    return masked(location) + found[0][len(location) :]


def has_credentials(location: str) -> bool:
    return masked(location) != location


def is_masked(location: str) -> bool:
    """Whether credentials were taken out of a location, so that it cannot be opened."""
    return "://" in location and HIDDEN in location


def common_base(locations: Sequence[str]) -> str:
    """The directory that all `locations` are in, without a slash at its end; empty where they share none."""
    shared: list[str] | None = None
    for location in locations:
        parts = masked(location).partition("?")[0].split("/")[:-1]
        if shared is None:
            shared = parts
        while shared != parts[: len(shared)]:
            shared.pop()
        if not shared:
            break
    base = "/".join(shared or [])
    return "" if base.rstrip("/").endswith(":") else base


def relative(location: str, base: str) -> str:
    """A location for a report that is shared: without credentials, and without `base` where it is below that."""
    shown, above = masked(location), masked(base).rstrip("/") + "/"
    return shown[len(above) :] if base and shown.startswith(above) else shown


def relative_text(text: str, base: str) -> str:
    """Running text for a report that is shared: as `relative` for every location in it."""
    return masked_text(text).replace(masked(base).rstrip("/") + "/", "") if base else masked_text(text)


def _hidden(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    plain = re.sub(r"[^a-z]", "", name.lower())
    is_secret = plain in _SECRET_NAMES or any(part in plain for part in _SECRET_PARTS)
    return f"{mark}{name}={HIDDEN}" if is_secret and value else found[0]
