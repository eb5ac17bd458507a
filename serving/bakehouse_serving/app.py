"""What operators and tools read: control, policy, status, health, metrics, docs, dashboard."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio
import orjson
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException

from bakehouse_schemas.errors import InvalidEvent, UnknownApplication
from bakehouse_schemas.ids import ID_RULE, is_decision_id
from bakehouse_serving import control_routes, stream_orders
from bakehouse_serving.api_keys import Authenticator
from bakehouse_serving.background import Background
from bakehouse_serving.dashboard import live as live_pages
from bakehouse_serving.dashboard.live import Live
from bakehouse_serving.dashboard.metrics import Metrics
from bakehouse_serving.dashboard.static_files import add_static_files
from bakehouse_serving.dashboard.status import StatusReport
from bakehouse_serving.explain.client import ExplainerClient
from bakehouse_serving.hot.route import Log
from bakehouse_serving.openapi import describe
from bakehouse_serving.policies.served import Conflict, Served
from bakehouse_serving.problems import MEDIA_TYPE, problem

log = logging.getLogger(__name__)
API_VERSION = "1"
MOST_ENTRIES = 200
RETRY_AFTER_S = "1"  # where others are asking
SERVING_GOES_ON = "the policies in place go on serving"


def make_app(
    served: Mapping[str, Served],
    report: StatusReport,
    *,
    live: Live,
    spool: Log,
    most_body_bytes: int,
    authenticator: Authenticator | None = None,
    explainer: ExplainerClient | None = None,
    background: Background | None = None,
) -> FastAPI:
    """The FastAPI application behind the hot routes, and behind their authenticator.

    Args:
        live: what the dashboard gets each second.
        authenticator: where keys are set, the open pages say no more than they must to who shows
            none; None: none are set.
        explainer: says why decisions came out as they did; None: nobody does.
        background: what runs beside the answers; None: nothing does.
    """
    requires_key = authenticator is not None and authenticator.requires_key
    app = FastAPI(title="Bakehouse", version=API_VERSION, docs_url=None, redoc_url=None)
    # A thread of their own, so that no reader of anything else holds up who watches over us; and
    # what takes no time (alive, ready) is answered on the event loop.
    scrapes = anyio.CapacityLimiter(1)
    registry = CollectorRegistry()
    registry.register(Metrics(report, served, live))
    _problems(app)

    def find(application: str) -> Served:
        found = served.get(application)
        if found is None:
            raise UnknownApplication(
                f"application: {application!r:.80} is not served here; there are {sorted(served)}"
            )
        return found

    add_static_files(app)

    @app.get("/livez", tags=["health"])
    async def livez() -> PlainTextResponse:
        """The process answers."""
        return PlainTextResponse("alive\n")

    @app.get("/readyz", tags=["health"])
    async def readyz(request: Request) -> dict[str, Any]:
        """Decisions are being answered, with Kafka or without, and all that runs beside lives; and
        whether they are learned from.

        `learns` is for people, and takes no server out of a balance.
        """
        stranger = (
            authenticator is not None
            and authenticator.requires_key
            and authenticator.refuse(request.scope["headers"], None) is not None
        )
        if ended := background.ended if background is not None else []:
            who = "what runs beside the answers" if stranger else " and ".join(ended)
            raise HTTPException(503, f"{who} has ended; serving's log says why: start it again")
        state = {"ready": True, "answers": True}
        if stranger:
            return {**state, "learns": live.learns()}
        why = live.not_learning()
        return {
            **state,
            "learns": not why,
            "not_learning": why,
            "kafka": report.status()["kafka"],
            "applications": sorted(served),
            "failing": background.failing if background is not None else [],
        }

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """Figures for Prometheus."""
        figures = await to_thread.run_sync(generate_latest, registry, limiter=scrapes)
        return Response(figures, media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/applications", tags=["read"])
    def applications() -> dict[str, Any]:
        """What is served here."""
        return {"applications": [_described(one) for one in served.values()]}

    @app.get("/v1/applications/{application}/policy", tags=["read"])
    def policy(application: str) -> JSONResponse:
        """The policy in place, the control over it, and the last hundred swaps."""
        return _json(_policy(find(application)))

    @app.get("/v1/applications/{application}/audit", tags=["read"])
    def audit(application: str) -> JSONResponse:
        """Who changed what, when and why: the last two hundred controls, newest first."""
        return _json({"entries": find(application).audit_log.newest(MOST_ENTRIES)})

    @app.get("/v1/applications/{application}/status", tags=["read"])
    def status(application: str) -> JSONResponse:
        """Figures of this process, and the latest of stream, learner and others."""
        seen = live.view(find(application).application.name)
        insight = report.insight(application)
        return _json(
            {
                "application": application,
                **report.application(application),
                "uncounted_names": find(application).uncounted.most(),
                "verdict": seen["verdict"],
                "pipe": seen["pipe"],
                "serving": report.status(),
                "parts": report.others(),
                "insight": insight and insight["insight"],
            }
        )

    @app.get("/v1/status", tags=["read"])
    def all_statuses() -> JSONResponse:
        """The same for all applications at once."""
        return _json({"serving": report.status(), "parts": report.others()})

    live_pages.add_routes(app, find, live)

    @app.get("/v1/applications/{application}/decisions/{decision_id:path}", tags=["read"])
    async def decision(application: str, decision_id: str) -> Response:
        """Why one decision came out as it did: context, scores, mask, draw, outcomes, reward, and
        the policies that were trained on it."""
        find(application)
        if not is_decision_id(decision_id):
            raise InvalidEvent(
                f"decision_id: expected {ID_RULE}, as an answer's is, got {decision_id!r:.80}"
            )
        if explainer is None:
            raise HTTPException(501, "decisions are not explained here")
        answered = await explainer.answer(application, decision_id)
        if answered.status == 200:
            return _json(answered.body)
        refusal = problem(answered.status, answered.body["detail"], remains=SERVING_GOES_ON)
        headers = {"Retry-After": RETRY_AFTER_S} if answered.status in (429, 503) else None
        return _Orjson(refusal, status_code=answered.status, media_type=MEDIA_TYPE, headers=headers)

    control_routes.add_routes(app, find, spool=spool, most_body_bytes=most_body_bytes)
    stream_orders.add_routes(app, spool=spool, most_body_bytes=most_body_bytes)
    _document_hot_routes(app, find)
    document = describe(app, applications=sorted(served), requires_key=requires_key)
    app.openapi = lambda: document  # type: ignore[method-assign]  # as FastAPI's docs say
    return app


def _described(served: Served) -> dict[str, Any]:
    application = served.application
    return {
        "name": application.name,
        "contract": application.contract,
        "mode": application.mode,
        "actions": list(application.actions.choices),
        "policy_version": served.slot.version,
    }


def _policy(served: Served) -> dict[str, Any]:
    slot = served.slot
    manifest: dict[str, Any] | None = None
    if slot.policy is not None:
        manifest = slot.policy.manifest.model_dump(
            by_alias=True, exclude={"operations", "new_outcomes_received_at_ms"}
        )
        received = slot.policy.manifest.new_outcomes_received_at_ms
        manifest["new_outcomes"] = len(received)
    return {
        **_described(served),
        **served.state(),
        "exploration": slot.exploration.logged(),
        "manifest": manifest,
        "control": served.control.model_dump(),
        "history": list(served.history),
    }


def _document_hot_routes(app: FastAPI, find: Any) -> None:
    """The hot routes as the docs show them; only unknown applications ever get here."""
    for suffix, summary in (
        ("decisions", "Ask for a decision"),
        ("decisions:batch", "Ask for several decisions"),
        ("outcomes", "Tell what came of decisions"),
    ):

        def unknown(application: str) -> None:
            find(application)

        app.post(
            f"/v1/applications/{{application}}/{suffix}",
            summary=summary,
            operation_id=suffix.replace(":", "_"),
            tags=["play"],
        )(unknown)


def _json(value: Any) -> JSONResponse:
    return _Orjson(value)


class _Orjson(JSONResponse):
    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _problems(app: FastAPI) -> None:
    """Every error is a problem, those of the framework too."""

    def respond(status: int, detail: str, *, headers: Any = None) -> Response:
        return _Orjson(
            problem(status, detail, remains=SERVING_GOES_ON),
            status_code=status,
            media_type=MEDIA_TYPE,
            headers=headers,
        )

    @app.exception_handler(UnknownApplication)
    async def unknown(_: Request, error: Exception) -> Response:
        return respond(404, str(error))

    @app.exception_handler(InvalidEvent)
    async def invalid(_: Request, error: Exception) -> Response:
        return respond(422, str(error))

    @app.exception_handler(Conflict)
    async def conflict(_: Request, error: Exception) -> Response:
        return respond(409, str(error))

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: Exception) -> Response:
        return respond(422, str(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = f"{request.method} {request.url.path:.200}: {error.detail}; see /docs"
        return respond(error.status_code, detail, headers=error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        route = getattr(request.scope.get("route"), "path", "a path that is not known")
        log.exception("%s %s failed", request.method, route, exc_info=error)
        return respond(500, f"{type(error).__name__}: {error}"[:500])
