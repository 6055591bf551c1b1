"""The server's web page: one HTML file that contains its style and script.

A content security policy allows the browser to use exactly this style and this script.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from markupsafe import Markup

from vidclf.pages import render


@dataclass(frozen=True, kw_only=True)
class Page:
    """The server's web page and its content security policy."""

    html: str
    csp: str
    """Content-Security-Policy header: allows style and script by their digests, images as data URIs, and requests to
    this server"""


def served_page(classes: list[str], max_upload_bytes: int, schemes: list[str]) -> Page:
    """Make the server's web page, for an ensemble with these classes.

    `schemes` are the URI schemes that the server fetches; without any, the page has no field for a URI.
    """
    style = render.render("style.css") + render.render("serve.css")
    script = render.render("serve.js")
    html = render.render(
        "serve.html.j2",
        style=Markup(style),
        script=Markup(script),
        classes=classes,
        max_upload_bytes=max_upload_bytes,
        schemes=schemes,
    )
    csp = "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Page(html=html, csp=csp)


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
