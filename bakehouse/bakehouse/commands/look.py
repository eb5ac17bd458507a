"""The commands that look at this machine and at a stack: doctor, status, policies, logs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bakehouse.commands.options import Home, Json, Name, Port, Url
from bakehouse.output import out, say, say_json, words_table
from bakehouse_schemas.process.settings import load_settings

PANEL = "Look"


def doctor(home: Home = None, port: Port = None, as_json: Json = False) -> None:
    """What this machine has and lacks, and what to do; exits with 1 if something blocks."""
    from bakehouse.doctor import conclusion, examine, report

    findings = examine(load_settings(home=home, port=port))
    result = report(findings)
    if as_json:
        say_json(result)
    else:
        colours = {"ok": "green", "note": "yellow", "blocks": "red"}
        table = Table(box=None, show_header=False, pad_edge=False)
        for f in findings:
            do = f"\n[bold]→ {escape(f.do)}[/]" if f.do else ""
            table.add_row(
                f"[{colours[f.verdict]}]{f.verdict}[/]", escape(f.what), escape(f.found) + do
            )
        out.print(table)
        say(f"\n{conclusion(findings)}")
    raise typer.Exit(0 if result["ok"] else 1)


def status(
    home: Home = None, url: Url = None, application: Name = None, as_json: Json = False
) -> None:
    """What runs, what is still starting, and how each application does."""
    from bakehouse.stack_status import stack_status, status_words

    result = stack_status(load_settings(home=home), url=url, application=application)
    if as_json:
        say_json(result)
    else:
        words_table(status_words(result))


def policies(
    home: Home = None,
    url: Url = None,
    application: Name = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """The policies that were published, newest first, and which one answers."""
    from bakehouse.stack_status import published_policies

    settings = load_settings(home=home)
    result = published_policies(settings, url=url, application=application, limit=limit)
    if as_json:
        say_json(result)
        return
    for name, one in result["applications"].items():
        say(f"[bold]{name}[/]: {escape(one['answering'])}")
        for row in one["policies"]:
            line = f"{row['version']:>6}  {row['agent']}, {row['created']}"
            line += f", of {row['experiences']:,} experiences, after {row['replaces']}"
            say(f"{escape(line)}, anchor {row['anchor']}")
            say(f"        [dim]{escape(row['gate'])}[/]")
        if not one["policies"]:
            say("  none was published yet")


def logs(
    part: Annotated[
        str | None,
        typer.Argument(metavar="PART", help="broker, serving, stream, learner or supervisor."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option(help="The last so many of each.", min=0)] = 40,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What the parts have written.

    Example:
    [bold]bakehouse logs learner --follow[/]
    """
    from bakehouse.stack_status import follow_logs
    from bakehouse_schemas.process.logs import readable

    folder = load_settings(home=home).home / "logs"
    try:
        for name, line in follow_logs(folder, part, lines=lines, follow=follow):
            if as_json:
                say_json({"part": name, "line": line})
            else:
                for said in readable(line).splitlines() or [""]:
                    print(said if part else f"{name:>10}  {said}", flush=True)
    except KeyboardInterrupt:
        pass


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (doctor, status, policies, logs):
        app.command(rich_help_panel=PANEL)(command)
