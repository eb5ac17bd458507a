"""Whatever comes over HTTP gets an answer that is documented; what is refused changes nothing.

First the description: schemathesis makes requests from it, right ones and wrong ones, and holds
the answers against it. Then what no description leads to, by hand, against a real process.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core import NotSet

from schemas.ids import uuid7
from schemas.settings import Settings
from serving.app import make_app
from serving.description import describe
from serving.server import Process, build
from tests.unit.test_serving_decide import make_application

KEY = "one-key-for-everything"
KEYS = f"decide+outcome+admin:{KEY}"
MOST_BODY = 100_000

load_all_checks()
HELD = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
        "allow_header_conformance",
    ]
)
NEGATIVE = CHECKS.get_one("negative_data_rejection")
KEYS_HELD = [*HELD, CHECKS.get_one("ignored_auth")]


# --- from the description


def document(*, locked: bool) -> dict[str, Any]:
    """What `/openapi.json` will say, known before anything is built: tests are made from it."""
    app = make_app({}, report=None, spool=None, most_body_bytes=0)  # type: ignore[arg-type]
    return describe(app, applications=["levels"], locked=locked)


class Front:
    """Stands for a process that is built once the tests run."""

    def __init__(self) -> None:
        self.behind: Any = None

    async def __call__(self, *asgi: Any) -> None:
        await self.behind(*asgi)


def described(front: Front, *, locked: bool) -> Any:
    schema = schemathesis.openapi.from_dict(document(locked=locked))
    schema.app = front
    return schema


FRONT, FRONT_LOCKED = Front(), Front()
schema = described(FRONT, locked=False)
schema_locked = described(FRONT_LOCKED, locked=True)


def composed(front: Front, home: Path, **more: Any) -> Iterator[Process]:
    """All of serving but the socket: what `python -m serving` builds, in this process."""
    thresholds = gc.get_threshold()
    process = build(Settings(home=home, max_body_bytes=MOST_BODY, **more), [make_application()])
    front.behind = process.hot
    yield process
    for memory in process.memories:
        memory.close()
    process.spool.close()
    process.claim.release()
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    yield from composed(FRONT, tmp_path_factory.mktemp("unlocked"))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home = tmp_path_factory.mktemp("locked")
    yield from composed(FRONT_LOCKED, home, api_keys=KEYS, outcome_tokens="required")


def state(process: Process) -> tuple[Any, ...]:
    """What a refused request must leave as it was."""
    served = process.report._served["levels"]
    kept = process.settings.home / "serving" / "levels.json"
    return (
        process.spool.appended,
        process.spool.bytes_on_disk,
        served.slot,
        served.control,
        tuple(served.history),
        [len(memory) for memory in process.memories],
        kept.read_bytes() if kept.exists() else None,
    )


def hold(process: Process, case: schemathesis.Case, held: list[Any], **call: Any) -> None:
    """As it was made, and where it has a context, with one that fits as well."""
    for body in bodies(case.body):
        case.body = body
        before = state(process)
        response = case.call(**call)
        if response.status_code >= 400:
            assert state(process) == before
        left_out = [] if refuses_whole(case) else [NEGATIVE]
        case.validate_response(
            response, checks=held, excluded_checks=left_out, transport_kwargs=call
        )


def refuses_whole(case: schemathesis.Case) -> bool:
    """Whether a request that violates the schema must be a 4xx.

    The lists answer entry by entry, and a control without a body is one without a reason.
    """
    in_entries = case.path.endswith(("/decisions:batch", "/outcomes"))
    return not in_entries and not isinstance(case.body, NotSet)


def bodies(body: Any) -> Iterator[Any]:
    yield body
    if isinstance(body, dict) and isinstance(body.get("context"), dict):
        yield body | {"context": {"skill": 0.5}}
        yield body | {"context": {"skill": 0.5}, "decision_id": uuid7()}


LIMITS = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@schema.parametrize()
@LIMITS
def test_every_answer_is_documented_and_a_refused_request_changes_nothing(
    case: schemathesis.Case, unlocked: Process
) -> None:
    hold(unlocked, case, HELD)


@schema_locked.parametrize()
@LIMITS
def test_so_it_is_where_keys_and_tokens_are_required(
    case: schemathesis.Case, locked: Process
) -> None:
    hold(locked, case, KEYS_HELD, headers={"Authorization": f"Bearer {KEY}"})


def test_the_requests_were_made_from_what_is_served(unlocked: Process, locked: Process) -> None:
    for process in (unlocked, locked):
        served = schemathesis.openapi.from_asgi("/openapi.json", process.hot)
        assert served.raw_schema == document(locked=process is locked)


def test_the_requests_were_not_all_refused(unlocked: Process) -> None:
    """Runs last of these: what is made from the description gets past the doors, too."""
    assert unlocked.spool.appended > 0
