"""Talks to a running stack over HTTP: what the control commands of `bakehouse` need."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Any

from bakehouse.local.home import read_run
from bakehouse_schemas.errors import BakehouseError, StackError
from bakehouse_schemas.process.keys import Scope
from bakehouse_schemas.process.settings import Settings

TIMEOUT_S = 10.0


class Refused(BakehouseError):
    """The server understood the request and said no, with this status of HTTP."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Target:
    """One application of one running stack."""

    url: str
    application: str
    settings: Settings  # whose keys are sent


def find_target(settings: Settings, *, url: str | None, application: str | None) -> Target:
    """The stack at `url`, else the one that runs in the home, and the application that is meant.

    Raises:
        StackError: no stack runs there, or which application is meant cannot be told.
    """
    _check_url(url)
    names: list[str] | None = None
    if url is None:
        run = read_run(settings.home)
        url, names = run.url, run.names
    url = url.rstrip("/")
    if application is None:
        if names is None:
            served = _ask("GET", f"{url}/v1/applications", settings)["applications"]
            names = [str(one["name"]) for one in served]
        if len(names) != 1:
            raise StackError(
                f"which application is meant? {url} serves {', '.join(names)}; name one with "
                "--application"
            )
        application = names[0]
    return Target(url, application, settings)


def stack_url(settings: Settings, url: str | None) -> str:
    """Where serving answers: at `url`, else where the stack that runs in the home does.

    Raises:
        StackError: no stack runs there.
    """
    _check_url(url)
    return (read_run(settings.home).url if url is None else url).rstrip("/")


def _check_url(url: str | None) -> None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise StackError(f"--url {url}: expected an address such as http://127.0.0.1:8080")


def order_stream(url: str, settings: Settings, order: str, body: dict[str, Any]) -> dict[str, Any]:
    """`POST /v1/stream:{order}`.

    Raises:
        StackError: nothing answers there.
        Refused: it answers with a problem.
    """
    return _ask("POST", f"{url}/v1/stream:{order}", settings, body)


def stream_statuses(url: str, settings: Settings) -> list[dict[str, Any]]:
    """The newest status of each stream process that serving has heard of.

    Raises:
        StackError: nothing answers there.
    """
    served = _ask("GET", f"{url}/v1/applications", settings)["applications"]
    target = Target(url, str(served[0]["name"]), settings)
    parts = get(target, "status")["parts"].values()
    return [part for part in parts if part["part"] == "stream"]


def get(target: Target, what: str, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """`GET /v1/applications/{application}/{what}`.

    Raises:
        StackError: nothing answers there.
        Refused: it answers with a problem.
    """
    return _ask("GET", _address(target, what), target.settings, timeout_s=timeout_s)


def change_policy(
    target: Target,
    verb: str,
    *,
    why: str,
    by: str | None = None,
    version: int | None = None,
    share: float | None = None,
) -> dict[str, Any]:
    """`POST …/policy:{verb}`: promote, rollback, freeze, release, kill, revive, explore, retrain.

    Args:
        why: kept with the change, for whoever asks later.
        by: the person; the login name where None.

    Raises:
        StackError: nothing answers there.
        Refused: it answers with a problem; the policy is as it was.
    """
    body: dict[str, Any] = {"why": why, "by": by or getpass.getuser()}
    if version is not None:
        body["version"] = version
    if share is not None:
        body["share"] = share
    return _ask("POST", _address(target, f"policy:{verb}"), target.settings, body)


def key_words(scope: Scope | None) -> str:
    """What to do about a 401 or 403."""
    which = "one of its keys" if scope is None else f"its key with the scope {scope!r}"
    return f"Set BAKEHOUSE_API_KEY to {which}, or BAKEHOUSE_API_KEYS as serving has it"


def _address(target: Target, what: str) -> str:
    return f"{target.url}/v1/applications/{target.application}/{what}"


def _ask(
    method: str,
    address: str,
    settings: Settings,
    body: dict[str, Any] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    import httpx  # slow to import, and most commands do without

    scope: Scope | None = "admin" if method == "POST" else None
    key = settings.key_to_send(scope)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        # trust_env: a proxy that is set for the internet is not for a stack on this machine
        with httpx.Client(timeout=timeout_s, trust_env=False) as client:
            response = client.request(method, address, json=body, headers=headers)
    except httpx.HTTPError as error:
        raise StackError(
            f"{address} cannot be reached: {error}. Is the stack running? `bakehouse status`"
        ) from error
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.is_error:
        said = answer.get("detail") or answer.get("title") if isinstance(answer, dict) else None
        said = said or response.text[:200]
        refusal = f"{address.partition('/v1/')[0]} said {response.status_code}: {said}"
        if response.status_code in (401, 403):
            refusal += f". {key_words(scope)}"
        raise Refused(refusal, response.status_code)
    if not isinstance(answer, dict):
        raise StackError(f"{address} answered {response.text[:80]!r}, expected a JSON object")
    return answer
