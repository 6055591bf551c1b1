"""The OpenAPI document (description of the HTTP API), which the server sends at `/api/openapi.json`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vidclf import schema
from vidclf.ensemble.held_out import USED
from vidclf.server.fetch import MAX_URI
from vidclf.server.finished_jobs import MAX_FAILED, MAX_FINISHED
from vidclf.server.job import JobState
from vidclf.server.refusals import STATUS, Problem, Reason
from vidclf.server.response import NOT_ANSWERED
from vidclf.uncertainty.risk_threshold import BASES

JOB_ID = r"^[A-Za-z0-9_-]{22}$"
"""Regular expression for the id of a job."""

Schema = dict[str, Any]
"""Part of the OpenAPI document, as JSON."""


def document(classes: list[str]) -> Schema:
    """OpenAPI 3.1 document as a dict, for a server whose ensemble has these classes."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "vidclf", "version": "1", "description": "Classifies videos, one at a time."},
        "paths": {
            "/api/classify": {"post": _classify()},
            "/api/jobs/{id}": {
                "parameters": [_job_id()],
                "get": _operation(
                    "job",
                    "Progress of a video, and its result or the reason of its failure. The server keeps the last "
                    f"{MAX_FINISHED} results and the last {MAX_FAILED} failures for a limited time.",
                    {"200": _json("the job", _ref("Job"))},
                    [Problem.UNKNOWN_JOB],
                ),
                "delete": _operation(
                    "cancel",
                    "Cancel a video that waits or is being classified: it fails as `cancelled`. Forget a finished one.",
                    {"200": _json("the job after the cancellation", _ref("Job"))},
                    [Problem.UNKNOWN_JOB],
                ),
            },
            "/api/jobs/{id}/events": {
                "parameters": [_job_id()],
                "get": _operation(
                    "events",
                    "The same as server-sent events: `progress` every second and at every change, until `done` or "
                    "`failed`. The data of each event is a Job.",
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
                    {"200": _json("the model is loaded", _ref("Health"))},
                    [Problem.LOADING],
                )
            },
            "/metrics": {
                "get": _operation("metrics", "Metrics for Prometheus.", {"200": _text("metrics", "text/plain")})
            },
            "/": {"get": _operation("page", "The page.", {"200": _text("the page", "text/html")})},
        },
        "components": {"schemas": _schemas(classes)},
    }


def _classify() -> Schema:
    form = _object({"file": {"type": "string", "contentMediaType": "application/octet-stream"}})
    uri = _object({"uri": {"type": "string", "minLength": 1, "maxLength": MAX_URI}})
    accepted = _json("the video is in the queue", _ref("Accepted"))
    accepted["headers"] = {"Location": {"required": True, "schema": {"type": "string"}}}
    reasons = [reason for reason in STATUS if STATUS[reason] in (400, 408, 413, 415, 422, 429, 503, 507)]
    operation = _operation(
        "classify",
        "Classify an uploaded video, or a video at a URI that this server may fetch.",
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
    """OpenAPI operation (one method of one path) with its possible answers and refusals.

    `reasons` are the refusals of this operation alone; those in `always` apply to every operation.
    """
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


def _trust(share: Schema, number: Schema) -> Schema:
    """The trust score of an answer with its parts, its threshold and the basis of the threshold."""
    part = _object({"name": _TEXT, "value": number, "typical": _or_null(number), "effect": number})
    return _object(
        {
            "score": share,
            "threshold": number,
            "basis": {
                "enum": list(BASES),
                "description": "Support of the threshold by the held-out videos: a certificate, only an estimate, or "
                "none.",
            },
            "is_out_of_distribution": {"type": "boolean"},
            "parts": {"type": "array", "items": part},
        }
    )


def _schemas(classes: list[str]) -> Schema:
    row = [field for field in schema.predictions(len(classes)) if field.name not in NOT_ANSWERED]
    segment = list(schema.segments_field(len(classes)).type.value_type)
    reasons = [reason.value for reason in STATUS]
    share: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    number: Schema = {"type": "number"}
    frame = _object({"index": _COUNT, "pts_s": number, "weight": share, "image": _TEXT})
    trust = _trust(share, number)
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
                "taxonomy": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": _TEXT},
                    "description": "Sublabels (finer classes) by class, in the order of `sublabel_probabilities`.",
                },
                "trust": trust,
                "timeline": timeline,
                "attended_frames": {"type": "array", "items": frame},
                "quality": {
                    "type": "array",
                    "items": {"enum": ["all_black", "some_black", "blurry", "mostly_repeated"]},
                },
                "used_in": {
                    "enum": [*USED, None],
                    "description": "Split of the same content in the ensemble's own record, if training or validation "
                    "used it; otherwise null. A video with null need not be held out: sources and near duplicates are "
                    "not compared.",
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
    """JSON schema for the values of a table column with the arrow type `kind`."""
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
