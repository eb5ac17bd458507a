"""The commands that change which policy answers: each one HTTP call to the running stack."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from bakehouse.commands.options import By, Home, Json, Name, Url, Why
from bakehouse.output import complain, out, say, say_json
from bakehouse.stack_client import change_policy, find_target, get
from bakehouse.stack_status import instant, policy_words
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import load_settings


def promote(
    version: Annotated[
        int, typer.Argument(metavar="VERSION", help="The version that is to answer.", min=0)
    ],
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let a version answer, whatever the gate says, until `release`.

    Example:
    [bold]bakehouse promote 17 --why "event"[/]
    """
    change("promote", home, url, application, why=why, by=by, version=version, as_json=as_json)


def rollback(
    why: Why,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="Default: the one before.", min=0)
    ] = None,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Go back to an earlier version and stay there until `release`; learning goes on."""
    change("rollback", home, url, application, why=why, by=by, version=version, as_json=as_json)


def freeze(
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Keep the version that answers now, until `release`."""
    change("freeze", home, url, application, why=why, by=by, as_json=as_json)


def release(
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Undo `promote`, `rollback` or `freeze`: the newest policy answers again."""
    change("release", home, url, application, why=why, by=by, as_json=as_json)


def kill(
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """The kill switch: every decision is the baseline's from the next request, until `revive`."""
    change("kill", home, url, application, why=why, by=by, as_json=as_json)


def revive(
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Undo `kill`."""
    change("revive", home, url, application, why=why, by=by, as_json=as_json)


def explore(
    share: Annotated[
        str, typer.Argument(metavar="SHARE", help="From 0 to 1; or `default`: as the page says.")
    ],
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Choose this share of decisions uniformly, until `explore default`; the floor stays.

    Examples:
    [bold]bakehouse explore 0.3 --why "a new season"[/]
    [bold]bakehouse explore default --why "enough"[/]
    """
    value: float | None = None
    if share != "default":
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise StackError(
                f"{share!r}: expected a share from 0 to 1, or `default`; nothing was changed"
            )
    change("explore", home, url, application, why=why, by=by, share=value, as_json=as_json)


def retrain(
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Train now, whatever the cadence, also where nothing is new; the gate decides as always."""
    change("retrain", home, url, application, why=why, by=by, as_json=as_json)


def audit(
    application: Name = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Who changed which policy answers, when and why, newest first."""
    target = find_target(load_settings(home=home), url=url, application=application)
    entries: list[dict[str, Any]] = get(target, "audit")["entries"][:limit]
    if as_json:
        say_json({"application": target.application, "entries": entries})
        return
    if not entries:
        say(f"Nobody has changed anything about {target.application} yet.")
        return
    table = Table("when", "what", "by", "why", "changed", box=None, pad_edge=False)
    for entry in entries:
        changed = ", ".join(
            f"{name.replace('_', ' ')}: {before} → {after}"
            for name, (before, after) in entry["changed"].items()
            if not name.endswith("_at_ms")
        )
        words = (instant(entry["at_ms"]), entry["action"], entry["by"], entry["why"], changed)
        table.add_row(*map(escape, words))
    out.print(table)


def change(
    verb: str,
    home: Path | None,
    url: str | None,
    application: str | None,
    *,
    why: str,
    by: str | None,
    version: int | None = None,
    share: float | None = None,
    as_json: bool,
) -> None:
    """Ask for a change of policy, and print what the server made of it."""
    target = find_target(load_settings(home=home), url=url, application=application)
    answer: dict[str, Any] = change_policy(
        target, verb, why=why, by=by, version=version, share=share
    )
    if as_json:
        say_json(answer)
    else:
        say(f"[green]{verb}[/] {target.application}: {escape(policy_words(answer))}")
        if verb == "retrain":
            say("The learner trains at its next turn; `bakehouse policies` has what came of it.")
        if answer.get("not_kept"):
            complain(f"not kept for a restart: {answer['not_kept']}")
        if answer.get("published", "soon") != "soon":
            complain(f"not published: {answer['published']}")


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (promote, rollback, freeze, release, kill, revive, explore, retrain, audit):
        app.command(rich_help_panel="Policies")(command)
