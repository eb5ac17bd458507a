"""`bakehouse decide`: decisions for a whole population, logged like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bakehouse.commands.offline import ask
from bakehouse.commands.options import Home, Json, Ref
from bakehouse.commands.stack import PANEL
from bakehouse.local.home import read_run
from bakehouse.local.spark_environment import spark_environment
from bakehouse.output import say, say_json, words_table
from bakehouse.stack_client import find_target, get
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings, load_settings


def decide(
    ref: Ref,
    to: Annotated[Path, typer.Option("--to", help="Folder of Parquet for the decisions.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Parquet of people, one row each.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="A version, champion (what answers now) or baseline.")
    ] = "champion",
    resend: Annotated[
        bool, typer.Option("--resend", help="Log what --to already holds once more.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Decide for everyone in a file, through Spark; outcomes train on it as on any decision.

    A column `subject_id`; every other column is a field of the context (or one column `context`
    with JSON; `items`, `eligible_actions` as JSON where there are any). Holdout, canary and
    exploration are those of serving.

    Examples:
    [bold]bakehouse decide game.py --from people.parquet --to decisions[/]
    [bold]bakehouse decide game.py --to decisions --resend[/]
    """
    if source is None and not resend:
        raise StackError("who is to be decided for? Name a Parquet file: --from people.parquet")
    if source is not None and not source.exists():
        raise StackError(f"{source}: there is no such file (looked from {Path.cwd()})")
    settings = load_settings(home=home)
    if settings.kafka_bootstrap is None:
        bootstrap = read_run(settings.home).kafka_bootstrap
        settings = settings.model_copy(update={"kafka_bootstrap": bootstrap})
    arguments = [ref, "--to", str(to)]
    if resend:
        arguments.append("--resend")
    else:
        arguments += ["--from", str(source), *_policy(settings, ref, policy)]
    result = ask("bakehouse_stream.decide", arguments, settings, environment=spark_environment())
    if as_json:
        say_json(result)
        return
    words_table(result)
    say(f"\n{result['logged']:,} decisions are in {to} and on their way to the replay table.")


def _policy(settings: Settings, ref: str, named: str) -> list[str]:
    """Arguments that say which policy decides."""
    application = load_application(ref).application
    killed = pinned = False
    share: float | None = None
    if named == "champion":
        target = find_target(settings, url=None, application=application.name)
        answering = get(target, "policy")
        version, killed = int(answering["policy_version"]), bool(answering["killed"])
        pinned = answering["control"]["pinned_version"] is not None
        share = answering["control"]["explore_share"]
    elif named == "baseline":
        version = 0
    elif named.isdigit():
        version = int(named)
    else:
        raise StackError(f"--policy {named}: expected a version, champion or baseline")
    if killed:
        return ["--killed"]
    explore = [] if share is None else ["--explore-share", str(share)]
    if version == 0:
        return explore
    folder = settings.policies / application.name / str(version)
    if not folder.is_dir():
        raise StackError(f"{folder}: version {version} is not there; see `bakehouse policies`")
    return ["--policy", str(folder.resolve()), *(["--pinned"] if pinned else []), *explore]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel=PANEL)(decide)
