"""`bakehouse stream`, `learn` and `serve`: one part alone, in place of this process."""

from __future__ import annotations

import os
import sys

import typer

from bakehouse.commands.options import Json, Refs
from bakehouse.local.extras import require_extras
from bakehouse.local.part import module_of
from bakehouse.output import say_json
from bakehouse_schemas.process.settings import load_settings

PANEL = "Run one part"


def stream(refs: Refs, as_json: Json = False) -> None:
    """Kafka to Delta: joins decisions and outcomes. For production; `up` starts it for you.

    Settings are read from the environment, such as `BAKEHOUSE_KAFKA_BOOTSTRAP=kafka:9092`.

    Example:
    [bold]bakehouse stream game.py[/]
    """
    from bakehouse.local.spark_environment import spark_environment
    from bakehouse.local.topics import ensure_topics

    require_extras(["stream"])
    environment = spark_environment()
    ensure_topics(load_settings())
    become("stream", refs, environment, as_json)


def learn(refs: Refs, as_json: Json = False) -> None:
    """Delta to policies: trains, evaluates, publishes. For production; `up` starts it for you.

    Settings are read from the environment, such as `BAKEHOUSE_TABLES_URI=/data/tables`.

    Example:
    [bold]bakehouse learn game.py[/]
    """
    require_extras(["learner"])
    become("learner", refs, dict(os.environ), as_json)


def serve(refs: Refs, as_json: Json = False) -> None:
    """Policies to decisions: answers the game. For production; `up` starts it for you.

    Settings are read from the environment, such as `BAKEHOUSE_HOST=0.0.0.0`.

    Example:
    [bold]bakehouse serve game.py[/]
    """
    become("serving", refs, dict(os.environ), as_json)


def become(part: str, refs: list[str], environment: dict[str, str], as_json: bool) -> None:
    """Replace this process by a part; signals and the exit status are then the part's."""
    command = [sys.executable, "-m", module_of(part), *refs]
    if as_json:
        say_json({"part": part, "pid": os.getpid(), "command": command})
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 (no shell is wanted)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (stream, learn, serve):
        app.command(rich_help_panel=PANEL)(command)
