"""Can the newest stored decisions be encoded for an application? A program for `bakehouse check`.

It prints one line of JSON: how many were tried, how many cannot be, and why the first cannot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.errors import BakehouseError, InvalidContext
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import load_settings
from bakehouse_serving.explain.tables import Tables

TRIED = 2_000


def problem_with(application: Application, decision: Mapping[str, Any]) -> str | None:
    """Why a stored decision is none of the application's; None where it can be one.

    Args:
        decision: `context`, `action` and `items` of a record of `decisions.v1`.
    """
    items = decision.get("items")
    try:
        application.encoder.encode(decision["context"])
        if isinstance(application.actions, Ranking):
            application.actions.encode_items(items or ())
    except InvalidContext as error:
        return str(error)
    problem = application.actions.problem_with(decision["action"], items)
    return None if problem is None else f"action {decision['action']!r:.60}: {problem}"


def try_rows(application: Application, decisions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What came of trying them: `tried`, `failed`, and the first `reason`."""
    tried = failed = 0
    reason: str | None = None
    for decision in decisions:
        tried += 1
        problem = problem_with(application, decision)
        if problem is not None:
            failed += 1
            reason = reason or problem
    return {"tried": tried, "failed": failed, "reason": reason}


def main(arguments: list[str]) -> int:
    """Try the rows of a home; returns the exit status."""
    try:
        application = load_application(arguments[0]).application
        newest = Tables(load_settings().tables).newest(application.name, TRIED)
        said: dict[str, Any] = try_rows(application, newest)
        status = 0
    except BakehouseError as error:
        said, status = {"error": type(error).__name__, "message": str(error)}, 2
    sys.stdout.buffer.write(orjson.dumps(said) + b"\n")
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    status = main(sys.argv[1:])
    os._exit(status)  # threads of the tables' library may be about: nothing there is waited for
