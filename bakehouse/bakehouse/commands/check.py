"""`bakehouse check REF`: what an application means, in words."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bakehouse.commands.init import PANEL
from bakehouse.commands.offline import ask
from bakehouse.commands.options import Json, Ref
from bakehouse.output import complain, say_json, words_table
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import load_settings

if TYPE_CHECKING:
    from bakehouse.against import Against
    from bakehouse_schemas.application.application import Application


def check(
    ref: Ref,
    rate: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1e9, help="Decisions a second: does the buffer hold them?"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="HOME", help="What becomes of this home if it goes on with the page?"),
    ] = None,
    as_json: Json = False,
) -> None:
    """What a page means, in words; exits with 2 if it cannot be used.

    Where it has a world beside it, its rules are tried on some of the simulated players. With
    --against, before anybody restarts: what changes for that home, whether its stored decisions
    and the policy that answers go on; exits with 1 where one of them does not.

    Examples:
    [bold]bakehouse check applications/level_difficulty.py[/]
    [bold]bakehouse check my_game.py --against .bakehouse[/]
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
    found_against = None if against is None else _against(ref, application, against)
    if found_against is not None:
        described["against"] = found_against.as_dict() if as_json else found_against.lines()
    if as_json:
        say_json(described | ({"caution": caution} if caution else {}))
    else:
        words_table(described)
        if caution:
            complain(caution, style="yellow")
    if found_against is not None and not found_against.fits:
        raise typer.Exit(1)


def _against(ref: str, application: Application, home: Path) -> Against:
    from bakehouse.against import Rows, has_tables
    from bakehouse.against import against as against_home

    if not home.is_dir():
        raise StackError(f"{home}: there is no such folder; name the home of a stack")
    settings = load_settings(home=home)
    sample = None
    if has_tables(settings.tables) and find_spec("deltalake") is not None:
        sample = Rows(**ask("bakehouse_serving.explain.try_rows", [ref], settings))
    return against_home(application, settings.home, sample)


def register(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command(rich_help_panel=PANEL)(check)
