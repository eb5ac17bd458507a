"""The `bakehouse` command: what can be asked for, and how it is said."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bakehouse.commands import decide as decide_command
from bakehouse.commands import explain as explain_command
from bakehouse.commands import init as init_command
from bakehouse.commands import offline as offline_commands
from bakehouse.commands import policy as policy_commands
from bakehouse.commands.options import Home, Json, Name, Port, Rate, Ref, Refs, Url
from bakehouse.local.part import module_of
from bakehouse.output import complain, out, say, say_json, words_table
from bakehouse_schemas.errors import BakehouseError, StackError
from bakehouse_schemas.process.settings import load_settings

app = typer.Typer(
    name="bakehouse",
    help="Reinforcement learning for live games: learns while the game is being played.\n\n"
    "Begin with `bakehouse demo`: a whole stack on this machine, with simulated players.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

RUN, PARTS, LOOK = "Run a stack", "Run one part", "Look"
init_command.register(app)  # where a page is written comes first


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


@app.command(rich_help_panel=RUN)
def demo(
    minutes: Annotated[float, typer.Option(help="How long the players play.", min=0.1)] = 3.0,
    application: Annotated[
        str, typer.Option(help="What they play; its file has a world beside the application.")
    ] = "applications/level_difficulty.py",
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


@app.command(rich_help_panel=RUN)
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


@app.command(rich_help_panel=RUN)
def simulate(
    ref: Annotated[str, typer.Argument(help="An application whose file has a world beside it.")],
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


@app.command(rich_help_panel=PARTS)
def stream(refs: Refs, as_json: Json = False) -> None:
    """Kafka to Delta: joins decisions and outcomes. For production; `up` starts it for you.

    Settings are read from the environment, such as `BAKEHOUSE_KAFKA_BOOTSTRAP=kafka:9092`.

    Example:
    [bold]bakehouse stream game.py[/]
    """
    from bakehouse.local.spark_environment import spark_environment
    from bakehouse.local.topics import ensure_topics

    environment = spark_environment()
    ensure_topics(load_settings())
    become("stream", refs, environment, as_json)


@app.command(rich_help_panel=PARTS)
def learn(refs: Refs, as_json: Json = False) -> None:
    """Delta to policies: trains, evaluates, publishes. For production; `up` starts it for you.

    Settings are read from the environment, such as `BAKEHOUSE_TABLES_URI=/data/tables`.

    Example:
    [bold]bakehouse learn game.py[/]
    """
    become("learner", refs, dict(os.environ), as_json)


@app.command(rich_help_panel=PARTS)
def serve(refs: Refs, as_json: Json = False) -> None:
    """Policies to decisions: answers the game. For production; `up` starts it for you.

    Settings are read from the environment, such as `BAKEHOUSE_HOST=0.0.0.0`.

    Example:
    [bold]bakehouse serve game.py[/]
    """
    become("serving", refs, dict(os.environ), as_json)


@app.command(rich_help_panel=init_command.PANEL)
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
        found = offline_commands.ask(
            "bakehouse_learner.agents.check_network", [ref], load_settings()
        )
        described["network"] = network_words(found)
    if as_json:
        say_json(described | ({"caution": caution} if caution else {}))
    else:
        words_table(described)
        if caution:
            complain(caution, style="yellow")


@app.command(rich_help_panel=LOOK)
def doctor(home: Home = None, port: Port = None, as_json: Json = False) -> None:
    """What this machine has and lacks, and what to do; exits with 1 if something blocks."""
    from bakehouse.doctor import examine, report

    findings = examine(load_settings(home=home, port=port))
    result = report(findings)
    if as_json:
        say_json(result)
    else:
        colours = {"ok": "green", "note": "yellow", "blocks": "red"}
        table = Table(box=None, show_header=False, pad_edge=False)
        for f in findings:
            do = f"\n[bold]→ {escape(f.do)}[/]" if f.do else ""
            table.add_row(f"[{colours[f.verdict]}]{f.verdict}[/]", f.what, escape(f.found) + do)
        out.print(table)
        say("\nAll that is needed is here." if result["ok"] else "\n[red]Something blocks.[/]")
    raise typer.Exit(0 if result["ok"] else 1)


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
def logs(
    part: Annotated[
        str | None, typer.Argument(help="broker, serving, stream, learner or supervisor.")
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


@app.command(rich_help_panel=RUN)
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


policy_commands.register(app)
offline_commands.register(app)
decide_command.register(app)
explain_command.register(app)


def become(part: str, refs: list[str], environment: dict[str, str], as_json: bool) -> None:
    """Replace this process by a part; signals and the exit status are then the part's."""
    command = [sys.executable, "-m", module_of(part), *refs]
    if as_json:
        say_json({"part": part, "pid": os.getpid(), "command": command})
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 (no shell is wanted)


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """SIGTERM, and a closed terminal, are Ctrl-C inside: what runs is stopped in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else somebody said nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    # a shell starts background jobs with SIGINT ignored; without a terminal it is still ours
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
