"""The commands that run a whole stack on this machine, play against it, and clear its home."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from bakehouse.commands.interrupts import termination_interrupts
from bakehouse.commands.options import Home, Json, Port, Rate, Refs
from bakehouse.output import say, say_json
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import load_settings

PANEL = "Run a stack"


def demo(
    minutes: Annotated[float, typer.Option(help="How long the players play.", min=0.1)] = 3.0,
    application: Annotated[
        str, typer.Option(help="What they play; its file has a world beside the application.")
    ] = "bakehouse.examples.level_difficulty",
    stay: Annotated[
        bool | None,
        typer.Option(
            "--stay/--no-stay",
            help="Keep the dashboard up after that, until Ctrl-C (default: on a terminal).",
            show_default=False,
        ),
    ] = None,
    rate: Rate = None,
    home: Home = None,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """The whole loop on this machine, with simulated players.

    Examples:
    [bold]bakehouse demo[/]
    [bold]bakehouse demo --minutes 2 --application applications/quest_chain.py --json[/]
    """
    from bakehouse.demo.demo import run_demo

    settings = load_settings(home=home, port=port)
    with termination_interrupts():
        code = run_demo(
            application=application,
            minutes=minutes,
            as_json=as_json,
            settings=settings,
            rate=rate,
            stay=sys.stdout.isatty() and not as_json if stay is None else stay,
        )
    raise typer.Exit(code)


def up(refs: Refs, home: Home = None, port: Port = None, as_json: Json = False) -> None:
    """A stack for real traffic: broker, stream, learner and serving under one supervisor.

    Answers within seconds, with the baseline, while the rest is loading. Ctrl-C stops all of
    it; the next start goes on from there.

    Examples:
    [bold]bakehouse up game.py[/]
    [bold]bakehouse up game.py other.py --home /data/bakehouse --port 80[/]
    """
    from bakehouse.local.events import StackEvent
    from bakehouse.local.supervisor import Stack

    def show(event: StackEvent) -> None:
        if as_json:
            say_json(asdict(event))
        else:
            style = {"ready": "green", "died": "red", "given up": "red", "failed": "red"}
            words = event.detail if event.what == "phase" else f"{event.what} {event.detail}"
            colour = style.get(event.what, "dim")
            say(f"[{colour}]{event.part:>8}  {escape(words.strip())}[/]")

    settings = load_settings(home=home, port=port)
    try:
        with termination_interrupts(), Stack(refs, settings, on_event=show) as stack:
            if as_json:
                say_json({"url": stack.url, "kafka_bootstrap": stack.kafka_bootstrap})
            else:
                say(f"\nDecisions are answered at [bold]{stack.url}[/] (docs: {stack.url}/docs)")
                say("The rest is starting; Ctrl-C stops everything.\n")
            if (failure := stack.wait_for_failure()) is not None:
                raise failure
    except KeyboardInterrupt:
        if not as_json:
            say("Stopped. The next start goes on from here.")


def simulate(
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="An application whose file has a world beside it.")
    ],
    url: Annotated[str, typer.Option(help="Where serving answers.")],
    decisions: Annotated[int, typer.Option(help="How many decisions to ask for.", min=1)],
    rate: Rate = None,
    as_json: Json = False,
) -> None:
    """Simulated players against a stack that runs already.

    Example:
    [bold]bakehouse simulate game.py --url http://127.0.0.1:8080 --decisions 10000[/]
    """
    from bakehouse.players.simulate import run_simulate

    with termination_interrupts():
        code = run_simulate(ref=ref, url=url, decisions=decisions, as_json=as_json, rate=rate)
    raise typer.Exit(code)


def reset(
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Throw away all that a stack has learned and recorded in its home. It must not run."""
    from bakehouse.local.home import CONTENTS, hold

    folder = load_settings(home=home).home
    there = [folder / name for name in CONTENTS if (folder / name).exists()]
    if there and not yes:
        if as_json or not sys.stdin.isatty():
            raise StackError(
                f"{folder} holds {', '.join(path.name for path in there)}; nothing was removed. "
                "Say --yes to remove them"
            )
        typer.confirm(f"Remove {', '.join(p.name for p in there)} from {folder}?", abort=True)
    if there:
        with hold(folder):
            for path in there:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    removed = [str(path) for path in there]
    if as_json:
        say_json({"removed": removed})
    else:
        say(f"Removed {len(removed)} things from {folder}." if removed else "Nothing to remove.")


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (demo, up, simulate, reset):
        app.command(rich_help_panel=PANEL)(command)
