"""Rendering of the HTML templates shared by reports and the server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import jinja2

from vidclf.pages import svg

MAX_EMBEDDED_BYTES = 2 * 1024**2
"""Size of a CSV up to which the page holds it for download."""


def render(template: str, **values: Any) -> str:
    """A template of this package with its values, everything that is not Markup escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vidclf.pages", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, clock=clock, points=points, risk_words=risk_words)
    environment.globals.update(interval=svg.interval, attention=svg.attention)
    return environment.get_template(template).render(**values)


def download(content: bytes, kind: str = "text/csv") -> str | None:
    """The content as a data URI, so that it is in the page; None where it is too long for that."""
    if len(content) > MAX_EMBEDDED_BYTES:
        return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def points(value: float) -> str:
    """A difference of shares, in percentage points with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def clock(seconds: float) -> str:
    """A time in a video: 7.3 s, 2:05, 1:02:05."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def risk_words(risk: Mapping[str, Any]) -> str:
    """What a run states of its risk, in words."""
    # Imported here: scipy, which this brings, is not needed by the server's page.
    from vidclf.uncertainty.risk_threshold import ABSTAIN_ON_ALL, CERTIFIED, ESTIMATED

    wanted = f"{100 * risk['abstain_risk']:g} %"
    counts = (
        f"{risk['num_errors']} of {risk['num_accepted']} accepted validation videos wrong, {risk['num_wrong_sources']} "
        f"of their {risk['num_sources']} sources with a wrong one"
    )
    if risk["basis"] == CERTIFIED:
        return (
            f"certified: at most {wanted} of accepted videos wrong, confidence {risk['confidence_level']:g}; {counts}"
        )
    if risk["basis"] == ESTIMATED:
        return f"estimated: {percent(risk['estimate'])} of accepted videos wrong, {wanted} wanted, no promise; {counts}"
    if risk["threshold"] >= ABSTAIN_ON_ALL:
        return f"none: validation does not support {wanted}, every video is abstained on"
    return f"none: validation does not support {wanted}, videos are accepted all the same; {counts}"
