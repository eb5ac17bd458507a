"""The `bakehouse` command: every command in one, and how an error of Bakehouse's ends it."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from bakehouse.commands import (
    check,
    decide,
    explain,
    init,
    look,
    offline,
    parts,
    policy,
    requeue,
    stack,
)
from bakehouse.output import complain, say, say_json
from bakehouse_schemas.errors import BakehouseError

app = typer.Typer(
    name="bakehouse",
    help="Reinforcement learning for live games: learns while the game is being played.\n\n"
    "Begin with `bakehouse demo`: a whole stack on this machine, with simulated players.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def say_version(wanted: bool) -> None:
    """Print which release this is, and end."""
    if wanted:
        try:
            say(f"bakehouse {importlib.metadata.version('bakehouse')}")
        except importlib.metadata.PackageNotFoundError:
            say("bakehouse, not installed as a package: its release cannot be told")
        raise typer.Exit


@app.callback()
def command(
    _version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Which release.")
    ] = False,
) -> None:
    """What is asked of the command itself."""


class Command(TyperCommand):
    """A command whose usage names its arguments as its help does: `REF…`, not `{REF}...`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the command's name in its usage."""
        pieces = super().collect_usage_pieces(ctx)
        return [re.sub(r"[{}]", "", piece).replace("...", "…") for piece in pieces]


# in the order of the help
for commands in (init, check, stack, parts, look, policy, offline, decide, explain, requeue):
    commands.register(app)
for registered in app.registered_commands:
    registered.cls = Command


def main() -> None:
    """The console entry. What Bakehouse refuses is one message and exit status 2."""
    try:
        app()
    except BakehouseError as error:
        if "--json" in sys.argv:
            say_json({"error": type(error).__name__, "message": str(error)})
        complain(str(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
