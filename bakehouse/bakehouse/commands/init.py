"""`bakehouse init NAME`: a working page, a world of players, and a test, to be changed."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from bakehouse.commands.options import Json
from bakehouse.output import say, say_json
from bakehouse_schemas.errors import StackError

PANEL = "Write a page"
TEMPLATES = Path(__file__).parents[1] / "templates"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as my_game.")],
    actions: Annotated[
        Literal["labels", "numbers"], typer.Option(help="What is decided: one label, or numbers.")
    ] = "labels",
    as_json: Json = False,
) -> None:
    """Write a page of your own, with simulated players and a test, into this folder.

    Examples:
    [bold]bakehouse init my_game[/]
    [bold]bakehouse init quest_pay --actions numbers[/]
    """
    page, test = write(name, actions, Path.cwd())
    if as_json:
        say_json({"page": str(page), "test": str(test)})
        return
    say(f"Wrote [bold]{page.name}[/] and [bold]{test.name}[/]. Change the page to your game; then")
    for command, what in (
        (f"bakehouse check {page.name}", "says in words what it means"),
        (f"pytest {test.name}", "holds its world against it"),
        (f"bakehouse demo --application {page.name} --minutes 2", "lets it learn, while you watch"),
        (f"bakehouse up {page.name}", "answers your game, at http://127.0.0.1:8080"),
    ):
        say(f"  {command:<52} [dim]{what}[/]")
    say("Both show a page of their own in the browser, at the address that they print.")


def write(name: str, actions: str, folder: Path) -> tuple[Path, Path]:
    """The page and its test, written.

    Raises:
        StackError: the name cannot be one, or something of this name is there; nothing was
            written.
    """
    module = _module(name)
    page, test = folder / f"{module}.py", folder / f"test_{module}.py"
    there = [path.name for path in (page, test) if path.exists()]
    if there:
        raise StackError(
            f"{' and '.join(there)} in {folder}: there already; nothing was written. Choose "
            "another name, or move it away"
        )
    if find_spec(module) is not None:
        raise StackError(
            f"{name!r} is the name of a Python module that is installed, which {page.name} would "
            "hide; choose another name"
        )
    page.write_text(_named("my_game", module, (TEMPLATES / f"{actions}.py").read_text()))
    test.write_text(_named("my_game", module, (TEMPLATES / "page_test.txt").read_text()))
    return page, test


def _named(old: str, new: str, text: str) -> str:
    """The template with its names, as a module's and as an application's, replaced."""
    text = text.replace(f"from {old} import", f"from {new} import")
    return text.replace(f'name="{_application(old)}"', f'name="{_application(new)}"')


def _application(module: str) -> str:
    return module.replace("_", "-")


def _module(name: str) -> str:
    if not _NAME.fullmatch(name) or name[-1] in "-_" or keyword.iskeyword(name):
        raise StackError(
            f"NAME {name!r:.80}: expected 1 to 63 of a-z, 0-9, '_' and '-', beginning with a "
            "letter, such as my_game"
        )
    return name.replace("-", "_")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel=PANEL)(init)
