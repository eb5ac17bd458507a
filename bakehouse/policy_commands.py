"""The commands that change which policy answers: each one HTTP call to the running stack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bakehouse.control import change_policy, find_target
from bakehouse.look import policy_words
from bakehouse.options import By, Home, Json, Name, Url, Why
from bakehouse.output import complain, say, say_json
from schemas.settings import load_settings


def promote(
    version: Annotated[int, typer.Argument(help="The version that is to answer.", min=0)],
    why: Why,
    application: Name = None,
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let a version answer, whatever the gate says. Example: [bold]promote 17 --why "event"[/]"""
    change("promote", home, url, application, why=why, by=by, version=version, as_json=as_json)


def rollback(
    why: Why,
    version: Annotated[int | None, typer.Argument(help="Default: the one before.", min=0)] = None,
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


def change(
    verb: str,
    home: Path | None,
    url: str | None,
    application: str | None,
    *,
    why: str,
    by: str | None,
    version: int | None = None,
    as_json: bool,
) -> None:
    """Ask for a change of policy, and print what the server made of it."""
    target = find_target(load_settings(home=home), url=url, application=application)
    answer: dict[str, Any] = change_policy(target, verb, why=why, by=by, version=version)
    if as_json:
        say_json(answer)
    else:
        say(f"[green]{verb}[/] {target.application}: {escape(policy_words(answer))}")
        if answer.get("not_kept"):
            complain(f"not kept for a restart: {answer['not_kept']}")
        if answer.get("published", "soon") != "soon":
            complain(f"not published: {answer['published']}")


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (promote, rollback, freeze, release, kill, revive):
        app.command(rich_help_panel="Policies")(command)
