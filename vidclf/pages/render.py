"""Rendering of the HTML templates, and their filters: functions that turn numbers and times into text."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import jinja2

from vidclf.pages import svg

MAX_EMBEDDED_BYTES = 1024**2
"""Largest size of a CSV file that a page embeds for download, in bytes. As text it takes a third more, and a report has
two of them."""


def render(template: str, **values: Any) -> str:
    """Text of the template file `template` of this package, filled with `values`; everything but Markup is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vidclf.pages", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, clock=clock, points=points, risk_words=risk_words)
    environment.globals.update(interval=svg.interval)
    return environment.get_template(template).render(**values)


def download(content: bytes, kind: str = "text/csv") -> str | None:
    """Data URI with `content` inside, for a download link on a page; None if it is larger than `MAX_EMBEDDED_BYTES`."""
    if len(content) > MAX_EMBEDDED_BYTES:
        return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def percent(value: float | None, digits: int = 1) -> str:
    """Text of a share (0 to 1) in percent, such as `93.5 %`; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def points(value: float) -> str:
    """Text of a difference of two shares in percentage points with its sign, such as `+1.2`; `+0.0` for one that
    rounds to 0."""
    rounded = round(100 * value, 1) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:+.1f}".replace("-", "−")


def clock(seconds: float) -> str:
    """Text of a time in a video, such as 7.3 s, 2:05 or 1:02:05."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def risk_words(risk: Mapping[str, Any]) -> str:
    """Sentence about how many accepted videos may be wrong, from the dict that `risk_threshold.risk_statement` makes.

    It tells whether validation certifies the target error rate, estimates it, or does not support it, and for which
    videos it does not hold.
    """
    # Imported here: the server's page needs no scipy, which this import loads.
    from vidclf.uncertainty.risk_threshold import ABSTAIN_ON_ALL

    caveat = risk.get("caveat") if risk["threshold"] < ABSTAIN_ON_ALL else None  # earlier versions have none
    return f"{_basis_words(risk)}{f'; {caveat}' if caveat else ''}"


def _basis_words(risk: Mapping[str, Any]) -> str:
    """The sentence of `risk_words` without a caveat."""
    # Imported here: the server's page needs no scipy, which this import loads.
    from vidclf.uncertainty.risk_threshold import ABSTAIN_ON_ALL, CERTIFIED, ESTIMATED

    target = f"{100 * risk['abstain_risk']:g} %"
    counts = (
        f"{risk['num_errors']} of {risk['num_accepted']} accepted held-out videos wrong, in "
        f"{risk['num_wrong_sources']} of their {risk['num_sources']} sources"
    )
    if risk["basis"] == CERTIFIED:
        return (
            f"certified: at most {target} of accepted videos wrong on sources like those of validation, confidence "
            f"{risk['confidence_level']:g}; {counts}"
        )
    if risk["basis"] == ESTIMATED:
        return (
            f"estimated: {percent(risk['estimate'])} of accepted videos wrong, target {target}, not certified; {counts}"
        )
    if risk["threshold"] >= ABSTAIN_ON_ALL:
        return f"none: validation does not support {target}, so every video is abstained on"
    return f"none: validation does not support {target}, but videos are accepted anyway; {counts}"
