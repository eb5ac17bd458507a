"""`bakehouse check REF`: what an application means, in words."""

from __future__ import annotations

from typing import Annotated

import typer

from bakehouse.commands.init import PANEL
from bakehouse.commands.offline import ask
from bakehouse.commands.options import Json, Ref
from bakehouse.output import complain, say_json, words_table
from bakehouse_schemas.process.settings import load_settings


def check(
    ref: Ref,
    rate: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1e9, help="Decisions a second: does the buffer hold them?"),
    ] = None,
    as_json: Json = False,
) -> None:
    """What a page means, in words; exits with 2 if it cannot be used.

    Where it has a world beside it, its rules are tried on some of the simulated players.

    Example:
    [bold]bakehouse check applications/level_difficulty.py[/]
    """
    from bakehouse.describe import describe, network_words, rate_words
    from bakehouse.players.rehearsal import rehearse
    from bakehouse_schemas.loading import load_application

    loaded = load_application(ref)
    application = loaded.application
    described = describe(application)
    if rate is not None:
        described["rate"] = rate_words(application, rate)
    if (rehearsed := rehearse(loaded)) is not None:
        described["players"] = rehearsed.words
    caution = rehearsed and rehearsed.caution
    if application.agent.parameters.get("network") is not None:  # only Keras can tell what it is
        found = ask("bakehouse_learner.agents.check_network", [ref], load_settings())
        described["network"] = network_words(found)
    if as_json:
        say_json(described | ({"caution": caution} if caution else {}))
    else:
        words_table(described)
        if caution:
            complain(caution, style="yellow")


def register(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command(rich_help_panel=PANEL)(check)
