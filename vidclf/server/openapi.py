"""The server's OpenAPI document: what may be asked, and what is answered. `/api/openapi.json`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vidclf import schema
from vidclf.server.fetch import MAX_URI
from vidclf.server.job_estimates import JobState
from vidclf.server.job_queue import MAX_FAILED, MAX_FINISHED
from vidclf.server.refusals import STATUS, Problem, Reason
from vidclf.server.response import NOT_ANSWERED

JOB_ID = r"^[A-Za-z0-9_-]{22}$"

Schema = dict[str, Any]


def document(classes: list[str]) -> Schema:
    """OpenAPI 3.1, for an ensemble of these classes."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "vidclf", "version": "1", "description": "Classifies videos, one at a time."},
        "paths": {
            "/api/classify": {"post": _classify()},
            "/api/jobs/{id}": {
                "parameters": [_job_id()],
                "get": _operation(
                    "job",
                    "How far a video is, and its result or what was wrong with it. For a time that the server sets "
                    f"the last {MAX_FINISHED} results are kept, and the last {MAX_FAILED} failures.",
                    {"200": _json("the job", _ref("Job"))},
                    [Problem.UNKNOWN_JOB],
                ),
                "delete": _operation(
                    "cancel",
                    "Cancel a video that waits or is being classified, which then fails as `cancelled`, and forget one "
                    "that is done.",
                    {"200": _json("the job as it is now", _ref("Job"))},
                    [Problem.UNKNOWN_JOB],
                ),
            },
            "/api/jobs/{id}/events": {
                "parameters": [_job_id()],
                "get": _operation(
                    "events",
                    "The same as server-sent events, `progress` each second and at each change, until `done` or "
                    "`failed`; the data of each is a Job.",
                    {"200": _text("the events", "text/event-stream")},
                    [Problem.UNKNOWN_JOB, Problem.TOO_MANY_STREAMS],
                ),
            },
            "/api/openapi.json": {
                "get": _operation("openapi", "This document.", {"200": _json("the document", {"type": "object"})})
            },
            "/healthz": {
                "get": _operation(
                    "healthz",
                    "Whether the model is loaded.",
                    {"200": _json("it is", _ref("Health"))},
                    [Problem.LOADING],
                )
            },
            "/metrics": {"get": _operation("metrics", "For Prometheus.", {"200": _text("metrics", "text/plain")})},
            "/": {"get": _operation("page", "The page.", {"200": _text("the page", "text/html")})},
        },
        "components": {"schemas": _schemas(classes)},
    }


def _classify() -> Schema:
    form = _object({"file": {"type": "string", "contentMediaType": "application/octet-stream"}})
    uri = _object({"uri": {"type": "string", "minLength": 1, "maxLength": MAX_URI}})
    accepted = _json("the video waits", _ref("Accepted"))
    accepted["headers"] = {"Location": {"required": True, "schema": {"type": "string"}}}
    reasons = [reason for reason in STATUS if STATUS[reason] in (400, 408, 413, 415, 422, 429, 503, 507)]
    operation = _operation(
        "classify",
        "Classify a video: an upload, or one at a URI that this server may fetch.",
        {"202": accepted},
        reasons,
    )
    return {
        **operation,
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}, "application/json": {"schema": uri}},
        },
    }


def _operation(name: str, summary: str, answers: Schema, reasons: list[Reason] | None = None) -> Schema:
    """Every request may also be malformed, of another site, or meet a fault of the server."""
    always: list[Reason] = [
        Problem.BAD_REQUEST,
        Problem.CROSS_SITE,
        Problem.HOST_NOT_ALLOWED,
        Problem.REQUEST_TIMEOUT,
        Problem.TOO_MANY_CONNECTIONS,
        Problem.INTERNAL_ERROR,
    ]
    by_status: dict[int, list[str]] = {}
    for reason in dict.fromkeys([*(reasons or []), *always]):
        by_status.setdefault(STATUS[reason], []).append(reason.value)
    refused = {str(status): _json(", ".join(names), _ref("Refused")) for status, names in sorted(by_status.items())}
    return {"operationId": name, "summary": summary, "responses": {**answers, **refused}}


def _schemas(classes: list[str]) -> Schema:
    row = [field for field in schema.predictions(len(classes)) if field.name not in NOT_ANSWERED]
    segment = list(schema.segments_field(len(classes)).type.value_type)
    reasons = [reason.value for reason in STATUS]
    share: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    number: Schema = {"type": "number"}
    part = _object({"name": _TEXT, "value": number, "typical": _or_null(number), "effect": number})
    frame = _object({"index": _COUNT, "pts_s": number, "weight": share, "image": _TEXT})
    trust = _object(
        {
            "score": share,
            "threshold": number,
            "is_out_of_distribution": {"type": "boolean"},
            "parts": {"type": "array", "items": part},
        }
    )
    timeline = _object({"segment_length_s": number, "segments": {"type": "array", "items": _struct(segment)}})
    problem = _object({"reason": {"enum": reasons}, "message": _TEXT, "status": {"type": "integer"}})
    job = _object(
        {
            "id": {"type": "string", "pattern": JOB_ID},
            "name": _TEXT,
            "stage": {"enum": [stage.value for stage in JobState]},
            "percent": {"type": "number", "minimum": 0, "maximum": 100},
            "eta_s": _or_null({"type": "number", "minimum": 0}),
            "position": _COUNT,
            "result": _ref("Result"),
            "error": _ref("Problem"),
        },
        optional=("position", "result", "error"),
    )
    return {
        "Accepted": _object({"id": {"type": "string", "pattern": JOB_ID}, "url": _TEXT, "events": _TEXT}),
        "Health": _object({"status": {"const": "ok"}, "ensemble_id": _TEXT, "classes": {"const": classes}}),
        "Job": job,
        "Result": _object(
            {
                "prediction": _struct(row),
                "classes": {"const": classes},
                "trust": trust,
                "timeline": timeline,
                "attended_frames": {"type": "array", "items": frame},
                "quality": {
                    "type": "array",
                    "items": {"enum": ["all_black", "some_black", "blurry", "mostly_repeated"]},
                },
            }
        ),
        "Problem": problem,
        "Refused": _object({"error": _ref("Problem")}),
    }


_TEXT: Schema = {"type": "string"}

_COUNT: Schema = {"type": "integer", "minimum": 0}


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _struct(fields: list[pa.Field]) -> Schema:
    return _object({f.name: _or_null(_of_arrow(f.type)) if f.nullable else _of_arrow(f.type) for f in fields})


def _of_arrow(kind: pa.DataType) -> Schema:
    """What JSON makes of a column's value."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        length = {"minItems": kind.list_size, "maxItems": kind.list_size} if pa.types.is_fixed_size_list(kind) else {}
        return {"type": "array", "items": _of_arrow(kind.value_type), **length}
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    return {"type": "number"} if pa.types.is_floating(kind) else {"type": "string"}


def _or_null(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, content: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": content}}}


def _text(description: str, kind: str) -> Schema:
    return {"description": description, "content": {kind: {"schema": {"type": "string"}}}}


def _job_id() -> Schema:
    return {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": JOB_ID}}
