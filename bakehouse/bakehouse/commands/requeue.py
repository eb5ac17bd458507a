"""`bakehouse requeue`: what stream did not know when it came is read again."""

from __future__ import annotations

import getpass
import time
from typing import Annotated, Any

import typer

from bakehouse.commands.offline import ask
from bakehouse.commands.options import By, Home, Json, Url
from bakehouse.commands.stack import PANEL
from bakehouse.local.home import hold, is_held
from bakehouse.output import say, say_json
from bakehouse.stack_client import order_stream, stack_url, stream_statuses
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import Settings, load_settings

PATIENCE_S = 120.0
LOOK_EVERY_S = 0.5


def requeue(
    refs: Annotated[
        list[str] | None,
        typer.Argument(help="Applications, where the stack stands still.", metavar="REF…"),
    ] = None,
    application: Annotated[
        str | None, typer.Option("--application", "-a", help="Records that name it alone.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what does not wait for anything.")
    ] = False,
    why: Annotated[str, typer.Option(help="The reason, kept with the order.")] = "",
    by: By = None,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Read quarantine again: records whose application, label or schema stream knows by now.

    Stream does so by itself where it starts with other applications. Of a stack that stands
    still, name the applications.

    Examples:
    [bold]bakehouse requeue[/]
    [bold]bakehouse requeue game.py --all --home /data/bakehouse[/]
    """
    settings = load_settings(home=home)
    if url is not None or is_held(settings.home):
        found = _of_running(settings, url, application, everything, why, by)
    elif refs:
        arguments = [*refs, *(["--all"] if everything else [])]
        arguments += ["--application", application] if application is not None else []
        with hold(settings.home):
            found = ask("bakehouse_stream.requeue", arguments, settings)
    else:
        raise StackError(
            f"no stack is running in {settings.home}; name its applications, and quarantine is "
            "read again while it stands still: `bakehouse requeue REF`"
        )
    if as_json:
        say_json(found)
        return
    say(f"{found['read']:,} records were read again: {found['requeued']:,} are in the tables now.")
    if found["still"]:
        say(
            f"{found['still']:,} still wait for an application, a label or a release that stream "
            "does not know; the table `quarantine` has the reasons."
        )


def _of_running(
    settings: Settings,
    url: str | None,
    application: str | None,
    everything: bool,
    why: str,
    by: str | None,
) -> dict[str, Any]:
    """Ask the stream that runs, and wait for it."""
    address = stack_url(settings, url)
    body = {"everything": everything, "why": why, "by": by or getpass.getuser()}
    if application is not None:
        body["application"] = application
    asked_at_ms = int(order_stream(address, settings, "requeue", body)["asked_at_ms"])
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        for status in stream_statuses(address, settings):
            done: dict[str, Any] = status.get("requeue") or {}
            if done.get("asked_at_ms", 0) >= asked_at_ms:
                return done
        time.sleep(LOOK_EVERY_S)
    raise StackError(
        f"stream was asked, and has not said within {PATIENCE_S:g} s that it is done; it does it "
        "when it runs: see `bakehouse status`"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel=PANEL)(requeue)
