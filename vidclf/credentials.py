"""Masking of passwords, signatures and tokens in locations, for logs, reports and written configurations.

User information (`scheme://user:password@host`) and the values of query parameters that grant access are replaced
by `***`. Scheme, host, path and all other parameters stay, so that a masked location can still be recognised.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

HIDDEN = "***"
"""Replacement for a secret."""

_SECRET_NAMES = (
    *("sig", "sas", "auth", "authorization", "key", "apikey", "accesskey", "accesskeyid", "awsaccesskeyid"),
    *("googleaccessid", "policy", "keypairid", "pwd", "passwd", "passphrase", "jwt", "hdnea", "hdnts", "hdntl"),
)
"""Names of query parameters that grant access to common object stores and content delivery networks, in lower case and
with letters only."""

_SECRET_PARTS = ("signature", "token", "secret", "password", "credential")
"""Words in the names of query parameters that grant access, as in X-Amz-Signature, X-Amz-Security-Token, secret_key."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")
"""A URI in running text, including punctuation that follows it."""

_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")

_PARAMETER = re.compile(r"([?&;])([^=&;#?]+)=([^&;#\s]*)")


def masked(location: str) -> str:
    """A path or URI with its credentials masked; `location` itself if it has none."""
    if "://" not in location:
        return location
    shown = _USER.sub(lambda match: f"{match[1]}{HIDDEN}@", location)
    if "?" not in shown:
        return shown
    path, mark, query = shown.partition("?")
    return path + _PARAMETER.sub(_masked_parameter, mark + query)


def masked_text(text: str) -> str:
    """Running text with the credentials of every URI masked."""
    return _URI.sub(_masked_in_text, text) if "://" in text else text


def _masked_in_text(match: re.Match[str]) -> str:
    """A URI with its credentials masked, followed by its punctuation as it was."""
    location = match[0].rstrip(".,:;!)]}")
    return masked(location) + match[0][len(location) :]


def has_credentials(location: str) -> bool:
    """Whether a location contains a password, a signature or a token."""
    return masked(location) != location


def hidden_digest(location: str) -> str:
    """Digest of the values that `masked` hides in the query; empty if it hides none.

    It tells apart locations that are equal when masked, such as `/clip?key=1` and `/clip?key=2`. The user and password
    are left out: they do not name another video, and a password could be guessed from its digest.
    """
    values = [match[3] for match in _PARAMETER.finditer(_query(location)) if _masked_parameter(match) != match[0]]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32] if values else ""


def _query(location: str) -> str:
    """The query of a URI with its question mark; empty for a path and without a query."""
    without_user = _USER.sub(lambda match: match[1], location)
    return "".join(without_user.partition("?")[1:]) if "://" in location else ""


def is_masked(location: str) -> bool:
    """Whether the credentials of a location were masked, so that it cannot be opened."""
    return "://" in location and HIDDEN in location


def common_base(locations: Sequence[str]) -> str:
    """The deepest directory that contains all `locations`, without a slash at its end; empty if there is none."""
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
    """A location for a shared report: credentials are masked, and `base` is removed if the location is below it."""
    shown, prefix = masked(location), masked(base).rstrip("/") + "/"
    return shown[len(prefix) :] if base and shown.startswith(prefix) else shown


def relative_text(text: str, base: str) -> str:
    """Running text for a shared report: every location in it is treated like in `relative`."""
    return masked_text(text).replace(masked(base).rstrip("/") + "/", "") if base else masked_text(text)


def _masked_parameter(match: re.Match[str]) -> str:
    """A query parameter, with its value replaced if the parameter grants access."""
    mark, name, value = match.groups()
    letters = re.sub(r"[^a-z]", "", name.lower())
    is_secret = letters in _SECRET_NAMES or any(part in letters for part in _SECRET_PARTS)
    return f"{mark}{name}={HIDDEN}" if is_secret and value else match[0]
