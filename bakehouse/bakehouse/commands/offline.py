"""The commands that look at history: each asks a program of the learner, run as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from bakehouse.commands import waiting
from bakehouse.commands.options import Home, Json, Ref, VirtualRate
from bakehouse.output import err, say_json
from bakehouse.reports.advise import show_advice
from bakehouse.reports.compare import show_comparison
from bakehouse.reports.evaluate import show_evaluation
from bakehouse.reports.fit_world import show_fitted_world
from bakehouse.reports.train import show_training
from bakehouse.reports.tune import show_tuning
from bakehouse.stack_client import find_target, get
from bakehouse_schemas import errors
from bakehouse_schemas.errors import BakehouseError, MissingDependency, StackError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings, load_settings

PANEL = "Look back"


def evaluate(
    ref: Ref,
    policy: Annotated[
        str, typer.Option(help="What is judged: a version, champion, baseline or random.")
    ] = "champion",
    against: Annotated[
        str, typer.Option(help="What it is compared with, separated by commas.")
    ] = "baseline,champion,random",
    source: Annotated[
        str | None,
        typer.Option(
            "--from", help="Another home, a Delta table, .parquet or .csv (default: this home)."
        ),
    ] = None,
    segment: Annotated[
        str | None, typer.Option(help="Also by this field of the context (numbers: quartiles).")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of every interval.")] = 0.95,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Policies without their exploration.")
    ] = False,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Only decisions that the policy has not learned from.")
    ] = False,
    bootstrap: Annotated[
        int,
        typer.Option(
            help="Percentile intervals of so many resamples, for one look; 0: intervals that "
            "hold at every look.",
            min=0,
        ),
    ] = 0,
    limit: Annotated[int, typer.Option(help="The newest so many decisions.", min=100)] = 200_000,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What a policy would have earned, estimated from what is logged; warnings first.

    Examples:
    [bold]bakehouse evaluate game.py[/]
    [bold]bakehouse evaluate game.py --policy 17 --against baseline --segment country[/]
    """
    settings = load_settings(home=home)
    arguments = [ref, "--policy", policy, "--against", against, "--confidence", str(confidence)]
    arguments += ["--bootstrap", str(bootstrap), "--limit", str(limit)]
    arguments += [*_given("--from", source), *_given("--segment", segment)]
    arguments += [flag for flag, on in (("--greedy", greedy), ("--unseen", unseen)) if on]
    if "champion" in (policy, *against.split(",")):
        arguments += _given("--champion", _answering(settings, ref))
    result = ask("bakehouse_learner.offline.evaluate", arguments, settings)
    if as_json:
        say_json(result)
    else:
        show_evaluation(result)


def train(
    ref: Ref,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="`replay` (what the home has recorded), another home, or a .parquet, .csv or "
            "Delta table of your own; docs/offline-workbench.md has the columns.",
        ),
    ] = "replay",
    steps: Annotated[
        int | None, typer.Option(help="Minibatches (default: 20 passes over the history).", min=1)
    ] = None,
    held_out: Annotated[
        float, typer.Option(help="Share of decisions, the newest, kept to judge the policy by.")
    ] = 0.2,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Where the bundle goes; then no home is touched unless named."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Learn from history, under the reward as it is now; the next `up` begins with it.

    Players get what was learned once the gate lets it through, on their own decisions.

    Examples:
    [bold]bakehouse train game.py --from replay[/]
    [bold]bakehouse train game.py --from logs.parquet --out policy[/]
    """
    arguments = [ref, "--from", source, "--held-out", str(held_out)]
    arguments += [*_given("--steps", steps), *_given("--out", folder)]
    arguments += ["--home"] if home is not None else []
    result = ask("bakehouse_learner.offline.train", arguments, load_settings(home=home))
    if as_json:
        say_json(result)
    else:
        show_training(result)


def compare(
    ref: Ref,
    agents: Annotated[
        str, typer.Option(help="Which, separated by commas (default: all that fit).")
    ] = "",
    decisions: Annotated[int, typer.Option(help="How many each may make.", min=100)] = 10_000,
    seeds: Annotated[int, typer.Option(help="How often each begins.", min=1)] = 3,
    rate: VirtualRate = 100.0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw learning curves into this file (.png, .svg, .pdf).")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="By a history instead of the world; see `train`."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Which agent learns this best: in the application's world, or else from its history.

    Examples:
    [bold]bakehouse compare applications/level_difficulty.py --plot curves.png[/]
    [bold]bakehouse compare game.py --agents neural_greedy,lin_ucb --from replay[/]
    """
    arguments = [ref, "--agents", agents, "--decisions", str(decisions), "--seeds", str(seeds)]
    arguments += ["--rate", str(rate), *_given("--plot", plot), *_given("--from", source)]
    result = ask("bakehouse_learner.offline.compare", arguments, load_settings(home=home))
    if as_json:
        say_json(result)
    else:
        show_comparison(result)


def tune(
    ref: Ref,
    trials: Annotated[int, typer.Option(help="How many settings are tried.", min=1)] = 20,
    agents: Annotated[
        str, typer.Option(help="Other agents to try, separated by commas, beside the page's own.")
    ] = "",
    source: Annotated[
        str | None,
        typer.Option("--from", help="By a history instead of the world; see `train`."),
    ] = None,
    decisions: Annotated[
        int, typer.Option(help="How many each may make in the world.", min=100)
    ] = 10_000,
    rate: VirtualRate = 100.0,
    seed: Annotated[int, typer.Option(help="Of the search and of every trial.", min=0)] = 0,
    repeats: Annotated[
        int, typer.Option(help="Seeds on which the best is then held against the page.", min=0)
    ] = 4,
    timeout: Annotated[
        float | None, typer.Option(help="Minutes after which no trial begins any more.", min=0)
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Draw pictures of the search into this folder.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Which settings learn this best: searched in the world, or else by history; kept in MLflow.

    Ctrl-C ends the search and keeps what is done.

    Examples:
    [bold]bakehouse tune applications/level_difficulty.py --trials 30 --plots plots[/]
    [bold]bakehouse tune game.py --agents lin_ucb,dqn --from replay[/]
    """
    arguments = [ref, "--trials", str(trials), "--agents", agents, "--decisions", str(decisions)]
    arguments += ["--rate", str(rate), "--seed", str(seed), "--repeats", str(repeats)]
    arguments += [*_given("--from", source), *_given("--timeout", timeout)]
    arguments += _given("--plots", plots)
    result = ask(
        "bakehouse_learner.offline.tune",
        arguments,
        load_settings(home=home),
        keeps_on_interrupt=True,
    )
    if as_json:
        say_json(result)
    else:
        show_tuning(result)


def fit_world(
    ref: Ref,
    source: Annotated[
        str, typer.Option("--from", help="`replay`, or another history; see `train`.")
    ] = "replay",
    world: Annotated[Path, typer.Option("--out", help="The file that the world goes to.")] = Path(
        "world.npz"
    ),
    held_out: Annotated[
        float, typer.Option(help="Share of decisions, the newest, kept to judge the world by.")
    ] = 0.3,
    agents: Annotated[
        str,
        typer.Option(help="Which are trained to judge it by (default: the application's and one)."),
    ] = "",
    steps: Annotated[
        int | None, typer.Option(help="Minibatches of each (default: 20 passes).", min=1)
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """A world of the players that a log knows, and whether what wins in it wins in evaluation.

    Labels and numbers, decisions that stand alone. A page then says
    `world = FittedWorld.load("world.npz")`, and `demo`, `simulate` and `compare` play it.

    Examples:
    [bold]bakehouse fit-world game.py[/]
    [bold]bakehouse fit-world game.py --from logs.parquet --out worlds/may.npz[/]
    """
    settings = load_settings(home=home)
    arguments = [ref, "--from", source, "--out", str(world), "--held-out", str(held_out)]
    arguments += ["--agents", agents, *_given("--steps", steps)]
    arguments += _given("--champion", _answering(settings, ref))
    result = ask("bakehouse_learner.offline.fit_world", arguments, settings)
    if as_json:
        say_json(result)
    else:
        show_fitted_world(result)


def advise(
    ref: Ref,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="`replay`, another home, or a log of your own (default: replay, else the world).",
        ),
    ] = None,
    decisions: Annotated[int, typer.Option(help="How many are looked at.", min=100)] = 20_000,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What the log says about the page itself: is it a bandit, is there anything to learn?

    Examples:
    [bold]bakehouse advise game.py[/]
    [bold]bakehouse advise game.py --from logs.parquet[/]
    """
    arguments = [ref, "--decisions", str(decisions), *_given("--from", source)]
    result = ask("bakehouse_learner.offline.advise", arguments, load_settings(home=home))
    if as_json:
        say_json(result)
    else:
        show_advice(result)


def ask(
    module: str,
    arguments: list[str],
    settings: Settings,
    *,
    environment: Mapping[str, str] = os.environ,
    keeps_on_interrupt: bool = False,
) -> dict[str, Any]:
    """What `python -m module …` answers: the JSON object that it prints as its last line.

    What it says of its progress, on standard error, is shown as it comes; on a terminal in place,
    with the time it has taken.

    Args:
        keeps_on_interrupt: at Ctrl-C, which reaches it too, it answers with what it has.

    Raises:
        BakehouseError: of the kind and with the message that it exits with 2 for.
        MissingDependency: the learner's packages are not installed.
        StackError: it ended otherwise.
    """
    if find_spec("deltalake") is None:
        raise MissingDependency(
            "this command needs what the learner needs: `pip install 'bakehouse[learner]'`"
        )
    before = signal.getsignal(signal.SIGINT)
    if keeps_on_interrupt:  # a function, not SIG_IGN: that a new process would inherit
        signal.signal(signal.SIGINT, lambda *_: None)
    try:
        command = [sys.executable, "-m", module, *arguments]
        given = dict(environment) | settings.as_environment()
        if waiting.wanted(err):
            ran = waiting.run_shown(command, given, err, module.replace(".", ": ", 1))
        else:
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=given, check=False)
    finally:
        if keeps_on_interrupt:
            signal.signal(signal.SIGINT, before)
    try:
        answer = json.loads(ran.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        answer = None
    if ran.returncode == 2 and isinstance(answer, dict) and "message" in answer:
        kind = getattr(errors, str(answer.get("error")), BakehouseError)
        raise kind(answer["message"])
    if ran.returncode != 0 or not isinstance(answer, dict):
        raise StackError(
            f"{module} ended with status {ran.returncode} and no answer; what it said is above"
        )
    return answer


def _answering(settings: Settings, ref: str) -> str | None:
    """The version that answers players now; None where no stack runs in the home."""
    name = load_application(ref).application.name
    try:
        target = find_target(settings, url=None, application=name)
        return str(get(target, "policy")["policy_version"])
    except BakehouseError:
        return None


def _given(option: str, value: str | float | Path | None) -> list[str]:
    return [] if value is None else [option, str(value)]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (evaluate, train, compare, tune, fit_world, advise):
        app.command(rich_help_panel=PANEL)(command)
