"""`bakehouse explain`: why one decision came out as it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

import typer

from bakehouse.commands.look import PANEL
from bakehouse.commands.offline import ask
from bakehouse.commands.options import Home, Json, Url
from bakehouse.local.home import is_held, read_run
from bakehouse.output import say_json
from bakehouse.reports.explain import show_explanation
from bakehouse.stack_client import Refused, Target, find_target, get
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings, load_settings

TIMEOUT_S = 20.0  # serving gives up before
AGAIN_AFTER_S = 1.0


def explain(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="The `decision_id`.")],
    application: Annotated[
        str | None,
        typer.Option(
            "--application",
            "-a",
            help="Its name, or its file, which is needed where no stack runs.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for one that is still on its way.", min=0)
    ] = 0.0,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Why one decision came out as it did, what came of it, and who learned from it.

    Asks the running stack; where none runs, reads the home's own tables and policies.

    Examples:
    [bold]bakehouse explain 0199a0f2-…[/]
    [bold]bakehouse explain 0199a0f2-… --home .bakehouse/demo-… --application game.py[/]
    """
    settings = load_settings(home=home)
    if url is None and not is_held(settings.home):
        told = _from_tables(settings, decision_id, application)
    else:
        told = _once_it_is_there(
            lambda: _from_serving(settings, decision_id, application, url), wait_s=wait
        )
    if as_json:
        say_json(told)
    else:
        show_explanation(told)


def _once_it_is_there(
    ask_serving: Callable[[], dict[str, Any]], *, wait_s: float
) -> dict[str, Any]:
    """Asked again while the tables lag behind: they do for a second or two, and longer when the
    machine is busy."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return ask_serving()
        except Refused as error:
            if error.status != 404 or time.monotonic() >= deadline:
                raise
        time.sleep(AGAIN_AFTER_S)


def _from_serving(
    settings: Settings, decision_id: str, application: str | None, url: str | None
) -> dict[str, Any]:
    if application is not None and _is_ref(application):
        application = load_application(application).application.name
    if url is not None or application is not None:
        targets = [find_target(settings, url=url, application=application)]
    else:
        run = read_run(settings.home)
        targets = [Target(run.url, name, settings) for name in run.names]
    for at, target in enumerate(targets):
        try:
            return get(target, f"decisions/{quote(decision_id, safe='')}", timeout_s=TIMEOUT_S)
        except Refused as error:  # of several applications, it is one of another
            if error.status != 404 or at == len(targets) - 1:
                raise
    raise StackError(f"the stack in {settings.home} serves nothing")


def _from_tables(settings: Settings, decision_id: str, application: str | None) -> dict[str, Any]:
    if application is None or not _is_ref(application):
        named = "" if application is None else f" ({application!r} is a name, not a file)"
        raise StackError(
            f"no stack runs in {settings.home}; to read its tables, name the application's file"
            f"{named}: --application game.py"
        )
    return ask("bakehouse_serving.explain", [application, f"--decision={decision_id}"], settings)


def _is_ref(application: str) -> bool:
    return application.endswith(".py") or "/" in application or ":" in application


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel=PANEL)(explain)
