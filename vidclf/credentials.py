"""Masking of passwords, signatures and tokens in paths and URIs, for logs, reports and written configurations.

User information (`scheme://user:password@host`) and the values of query parameters that grant access are replaced
by `***`. Scheme, host, path and all other parameters stay, so that a masked location can still be recognised.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from vidclf.json_text import json_text

HIDDEN = "***"
"""Text that replaces a password, a signature or a token."""

_SECRET_NAMES = (
    *("sig", "sas", "auth", "authorization", "key", "apikey", "accesskey", "accesskeyid", "awsaccesskeyid"),
    *("googleaccessid", "policy", "keypairid", "pwd", "passwd", "passphrase", "jwt", "hdnea", "hdnts", "hdntl"),
)
"""Names of query parameters that grant access to common object stores and content delivery networks, in lower case and
with letters only."""

_SECRET_PARTS = ("signature", "token", "secret", "password", "credential")
"""Words in the names of query parameters that grant access, as in X-Amz-Signature, X-Amz-Security-Token, secret_key."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+|/[^\s'\"<>`?]*\?[^\s'\"<>`]+")
"""Pattern of a URI in running text, or of the path and query of one, as HTTP libraries name a request that failed. A
match includes punctuation that directly follows the URI."""

_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
"""Pattern of the scheme and the user information (`user:password@`) at the start of a URI."""

_PARAMETER = re.compile(r"([?&;])([^=&;#?]+)=([^&;#\s]*)")
"""Pattern of a query parameter: its separator, its name and its value."""


def masked(location: str) -> str:
    """`location`, a path or URI, with passwords, signatures and tokens replaced by `***`; unchanged if it has none."""
    return _masked_query(_without_user(location)) if "://" in location else location


def _without_user(location: str) -> str:
    """`location` with its user information replaced by `***`."""
    return _USER.sub(lambda match: f"{match[1]}{HIDDEN}@", location)


def _masked_query(location: str) -> str:
    """`location` with the secrets in its query replaced by `***`."""
    path, mark, query = location.partition("?")
    return path + _PARAMETER.sub(_masked_parameter, mark + query)


def masked_text(text: str) -> str:
    """`text` with the passwords, signatures and tokens in all of its URIs replaced by `***`."""
    return _URI.sub(_masked_in_text, text) if "://" in text or "?" in text else text


def _masked_in_text(match: re.Match[str]) -> str:
    """Replacement for a match of `_URI`: the URI with credentials masked, then the punctuation that followed it."""
    location = match[0].rstrip(".,:;!)]}")
    return _masked_query(_without_user(location)) + match[0][len(location) :]


def has_credentials(location: str) -> bool:
    """Whether `location`, a path or URI, contains a password, a signature or a token."""
    return masked(location) != location


def hidden_digest(location: str) -> str:
    """Digest of the values that `masked` hides in the query; empty if it hides none.

    It tells apart locations that are equal when masked, such as `/clip?key=1` and `/clip?key=2`. The user and password
    are left out: they do not name another video, and a password could be guessed from its digest.
    """
    values = [match[3] for match in _PARAMETER.finditer(_query(location)) if _masked_parameter(match) != match[0]]
    return hashlib.sha256(json_text(values).encode()).hexdigest()[:32] if values else ""


def _query(location: str) -> str:
    """The query of a URI with its question mark; empty for a path and without a query."""
    without_user = _USER.sub(lambda match: match[1], location)
    return "".join(without_user.partition("?")[1:]) if "://" in location else ""


def is_masked(location: str) -> bool:
    """Whether `location` is a URI whose credentials have been replaced by `***`; such a URI cannot be opened."""
    return "://" in location and HIDDEN in location


def common_base(locations: Sequence[str]) -> str:
    """Deepest directory that contains all `locations`, with credentials masked and without a slash at its end.

    The text is empty if the locations share no directory.
    """
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
    """Text of `location` for a report that others read: relative to the directory `base` if it is below it, with
    credentials masked."""
    shown, prefix = masked(location), masked(base).rstrip("/") + "/"
    return shown[len(prefix) :] if base and shown.startswith(prefix) else shown


def relative_text(text: str, base: str) -> str:
    """`text` for a report that others read: its paths and URIs are relative to the directory `base`, with credentials
    masked."""
    return masked_text(text).replace(masked(base).rstrip("/") + "/", "") if base else masked_text(text)


def _masked_parameter(match: re.Match[str]) -> str:
    """Replacement for a match of `_PARAMETER`: the same query parameter, its value masked if its name is that of a
    secret."""
    mark, name, value = match.groups()
    letters = re.sub(r"[^a-z]", "", name.lower())
    is_secret = letters in _SECRET_NAMES or any(part in letters for part in _SECRET_PARTS)
    return f"{mark}{name}={HIDDEN}" if is_secret and value else match[0]
