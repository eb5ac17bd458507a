"""The OpenAPI description: every answer that a route gives, errors included.

Written down here rather than derived, because the hot routes are no functions of FastAPI; the
tests hold it against what is really answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from bakehouse_schemas.events.events import DecisionRequest, OutcomeRequest
from bakehouse_schemas.ids import ID_RULE
from bakehouse_serving.api_keys import OPEN_PAGES
from bakehouse_serving.problems import MEDIA_TYPE

DESCRIPTION = """Decisions for live games, from policies that learn while the game is played.

Where API keys are set, send one with every request: `Authorization: Bearer KEY`. Times are
integer milliseconds, UTC. Every error is an RFC 9457 problem that says what came, what was
expected and what remains true. A request whose line and fields have more than 32 KiB, or that has
more than 100 fields, is answered 431, and its connection is closed."""

KEY_SCHEME = "api_key"
WHY = {
    401: "No API key came, or one that is not known",
    403: "The key that came lacks the scope; or, where no key is set, a web page from elsewhere "
    "sent this",
    404: "No such application is served here",
    409: "This cannot be done now; nothing was changed",
    413: "The body is larger than `max_body_bytes`",
    422: "The body is not what its schema, or the application, says",
    503: "The spool is full: nothing was recorded, send it again after `Retry-After` seconds",
}
# the same of one decision
DECIDED_WHY = WHY | {
    409: "The decision_id was asked for with another subject_id before: it is answered again for "
    "the subject alone that had the answer",
}
# the same of the explanation of a decision
EXPLAINED_WHY = WHY | {
    404: "No such application is served here, or no table holds such a decision (yet)",
    422: f"That is no decision id: expected {ID_RULE}",
    501: "The tables' libraries are not installed: the extra `explain` has them",
    429: "Others are asking: ask again after `Retry-After` seconds",
    503: "The tables cannot be read: ask again after `Retry-After` seconds",
    504: "The explanation took too long; ask again",
}
READY_WHY = WHY | {503: "Something that runs beside the answers has ended: start serving again"}

_WHY = {"decisions": DECIDED_WHY, "{decision_id}": EXPLAINED_WHY, "readyz": READY_WHY}
_JSON = "application/json"
_TEXT: dict[str, Any] = {"type": "string"}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
    }


def _listed(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    return _object({name: {"type": "array", "items": entry}})


PROBLEM = _object(
    {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT | {"description": "What came, and what was expected"},
        "remains": _TEXT | {"description": "What remains true"},
    }
)
_A_PROBLEM = {"$ref": "#/components/schemas/Problem"}
DECISION = _object(
    {
        "decision_id": _TEXT,
        "action": {
            "description": "A label; a list of numbers; an object of parts; or, of a ranking, "
            "the ids of items, best first",
            "type": ["string", "array", "object"],
        },
        "propensity": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Of labels and rankings a probability; a density where there are "
            "numbers, which may be above 1",
        },
        "policy_version": {"type": "integer", "minimum": 0},
        "mode": {"enum": ["online", "apprentice", "logging_only"]},
        "cohort": {"enum": ["policy", "holdout", "canary", "fallback"]},
        "explored": {"type": "boolean"},
        "logged": {"type": "boolean"},
    },
    token=_TEXT | {"description": "Where `outcome_tokens` are required: echo it in outcomes"},
)
# of a batch, where one entry was refused: 422, or 409 as of a single decision
REFUSED = _object({"problem": _A_PROBLEM})
REJECTED = _object({"index": {"type": "integer"}, "problem": _A_PROBLEM})
NOTE = _object(
    {
        "kind": _TEXT,
        "name": {"type": ["string", "null"]},
        "count": {"type": "integer", "description": "Of this request's outcomes"},
        "problem": _TEXT,
    },
    meant={"type": ["string", "null"], "description": "The name that may have been meant"},
)
OUTCOMES_TOLD: dict[str, Any] = {
    "accepted": {"type": "integer"},
    "rejected": {"type": "array", "items": REJECTED},
    "notes": {
        "type": "array",
        "items": NOTE,
        "description": "Accepted and kept, and counted by nothing: a misspelt name, most likely",
    },
}
CONTROL = _object(
    {
        "control": {"type": "object"},
        "policy_version": {"type": "integer", "minimum": 0},
        "killed": {"type": "boolean"},
        "frozen": {"type": "boolean"},
        "published": _TEXT | {"description": "`soon`, or why other processes do not hear of it"},
        "kept": {"type": "boolean", "description": "Whether it survives a restart"},
        "not_kept": {"type": ["string", "null"], "description": "Why not"},
    }
)
ORDERED = _object(
    {
        "order": {"type": "object"},
        "asked_at_ms": {
            "type": "integer",
            "description": "Stream's status says `requeue.asked_at_ms` when it has come to it",
        },
        "published": _TEXT | {"description": "`soon`"},
    }
)
_ANY = {"type": "object"}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": _TEXT,
    "description": "Does what ids in the body do, where there are none: it is the `decision_id`; "
    "of the entries of a batch, and of outcomes without an `outcome_id`, `<key>:<n>` is. The same "
    "request sent again gets the same answer, and counts once. Any text; one that is too long is "
    "hashed",
}

# success of a route by the end of its path: status, media type, schema
_SUCCESS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "decisions": (200, _JSON, DECISION),
    "decisions:batch": (
        200,
        _JSON,
        _listed("decisions", {"anyOf": [DECISION, REFUSED]}),
    ),
    "outcomes": (202, _JSON, _object(OUTCOMES_TOLD)),
    "stream:requeue": (200, _JSON, ORDERED),
    "livez": (200, "text/plain", _TEXT),
    "metrics": (200, "text/plain", _TEXT),
    "readyz": (
        200,
        _JSON,
        _object(
            {
                "ready": {"type": "boolean", "description": "As `answers`"},
                "answers": {"type": "boolean", "description": "Decisions are answered"},
                "learns": {
                    "type": "boolean",
                    "description": "Of every application decisions are learned from",
                },
            },
            not_learning=_ANY | {"description": "Application → which stage, and what to do"},
            kafka=_ANY,
            applications={"type": "array", "items": _TEXT},
        ),
    ),
    "applications": (200, _JSON, _listed("applications", _ANY)),
}
_BODIES: dict[str, dict[str, Any]] = {
    "decisions": DecisionRequest.model_json_schema(),
    "decisions:batch": _listed("decisions", DecisionRequest.model_json_schema()),
    "outcomes": _listed("outcomes", OutcomeRequest.model_json_schema()),
}


def describe(app: FastAPI, *, applications: Sequence[str], requires_key: bool) -> dict[str, Any]:
    """The document behind `/openapi.json`.

    Args:
        applications: names that are served.
        requires_key: keys are set.
    """
    document = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe_one(path, method, operation, applications, requires_key)
    components: dict[str, Any] = {"schemas": {"Problem": PROBLEM}}
    if requires_key:
        components["securitySchemes"] = {KEY_SCHEME: {"type": "http", "scheme": "bearer"}}
    return document | {"components": components}


def _describe_one(
    path: str,
    method: str,
    operation: dict[str, Any],
    applications: Sequence[str],
    requires_key: bool,
) -> None:
    end = path.rpartition("/")[2]
    for parameter in operation.get("parameters", ()):
        names = {"enum": list(applications)} if parameter["name"] == "application" else {}
        parameter["schema"] = _TEXT | names
    if end in _BODIES:
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
        operation["requestBody"] = {
            "required": True,
            "content": {_JSON: {"schema": _BODIES[end]}},
        }
    schema_of_rest = CONTROL if method == "post" else _ANY
    status, media_type, schema = _SUCCESS.get(end, (200, _JSON, schema_of_rest))
    answers: dict[str, Any] = {
        str(status): {"description": "Done", "content": {media_type: {"schema": schema}}}
    }
    for failure in _failures(path, method, end):
        answers[str(failure)] = {
            "description": _WHY.get(end, WHY)[failure],
            "content": {MEDIA_TYPE: {"schema": _A_PROBLEM}},
        }
    if end == "outcomes":
        some = {"schema": _object(OUTCOMES_TOLD)}
        answers["207"] = {"description": "Some were rejected", "content": {_JSON: some}}
        all_ = {"schema": {"allOf": [_A_PROBLEM, {"type": "object", "properties": OUTCOMES_TOLD}]}}
        why = f"{WHY[422]}; or all outcomes were rejected, each for its reason"
        answers["422"] = {"description": why, "content": {MEDIA_TYPE: all_}}
    operation["responses"] = answers
    if requires_key and path not in OPEN_PAGES:
        operation["security"] = [{KEY_SCHEME: []}]


def _failures(path: str, method: str, end: str) -> list[int]:
    failures: list[int] = [] if path in OPEN_PAGES else [401]
    if end == "readyz":
        failures.append(503)
    if "{application}" in path:
        failures.append(404)
    if end == "{decision_id}":
        failures += [422, 429, 501, 503, 504]
    if method == "post":
        failures += [403, 413, 422]
        if end.startswith("policy:") or end == "decisions":
            failures.append(409)
        if end == "outcomes" or end.startswith("stream:"):
            failures.append(503)
    return sorted(failures)
