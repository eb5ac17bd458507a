"""`bakehouse demo`: the whole loop on this machine, with simulated players, while one watches."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console

from bakehouse.demo.home import demo_settings, short_path
from bakehouse.demo.report import DemoReport, make_report, tell_play, tell_promises
from bakehouse.demo.screen import LiveLine, Screen, Show
from bakehouse.demo.watch import PolicyWatch, ReplayWatch
from bakehouse.local.extras import require_agents, require_extras
from bakehouse.local.jars import ensure_jars
from bakehouse.local.java import find_java
from bakehouse.local.supervisor import Stack
from bakehouse.output import complain
from bakehouse.players.player_thread import PlayerThread, Scoreboard, world_of
from bakehouse.players.players import Journal
from bakehouse.players.rehearsal import rehearse
from bakehouse_schemas.errors import BakehouseError, StackError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings

LOOK_EVERY_S = 1.0
FIRST_ANSWER_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 60.0


def run_demo(
    *,
    application: str,
    minutes: float,
    as_json: bool,
    settings: Settings,
    rate: float | None = None,
    stay: bool = False,
) -> int:
    """Run it; returns the exit status. With `as_json` the last line on stdout is the result.

    `minutes` counts from the first answered decision. Ctrl-C ends the play early, and the
    result is of what was played. With `stay` the stack goes on once the players have finished,
    until Ctrl-C.

    Raises:
        BakehouseError: the stack cannot start or go on, or the application has no world.
        MissingDependency: stream, learner or its agent needs what is not installed here.
    """
    require_extras()
    loaded = load_application(application)
    require_agents([loaded])
    world = world_of(loaded)
    rehearsed = rehearse(loaded)
    settings = demo_settings(settings)
    screen = Screen(Console(stderr=as_json, highlight=False, soft_wrap=True))
    screen.title(loaded.application.name, settings.home)
    if rehearsed is not None and rehearsed.caution is not None:
        complain(rehearsed.caution, style="yellow")
    # before the players come, so that a first run's minutes are not spent on fetching
    ensure_jars(screen.fetching, java=find_java())
    scoreboard = Scoreboard(loaded.application, world)
    with Stack([application], settings, on_event=screen.event) as stack:
        settings = stack.settings
        replay_table = Path(settings.tables) / "replay"
        with (
            ReplayWatch(replay_table, loaded.application.name) as replay,
            PolicyWatch(settings, loaded.application.name) as policies,
        ):
            players = PlayerThread(
                loaded, stack.url, rate=rate, scoreboard=scoreboard, settings=settings
            )
            players.start()
            screen.urls(stack.url, stack.kafka_bootstrap, settings.home)
            line = LiveLine(players, scoreboard, replay, policies)
            try:
                with screen.live() as show:
                    began = _play(stack, players, line, show, minutes * 60)
            except KeyboardInterrupt:
                began = _first_answer(players)
                stay = False
                screen.say("stopping early; the figures are of what was played")
            seconds = 0.0 if began is None else time.time() - began
            stay &= _finish(players, screen)
            journal = players.journal

            def report() -> DemoReport:
                return make_report(
                    loaded,
                    world,
                    settings,
                    journal,
                    seconds=seconds,
                    replay=replay,
                    policies=policies,
                )

            told = False
            if stay and journal.decisions:
                try:
                    _wait_for_tables(stack, journal, replay)
                    tell_play(report(), screen.console, home=short_path(settings.home))
                    told = True
                    screen.stays(stack.url)
                    _raise(stack.wait_for_failure())
                except KeyboardInterrupt:
                    screen.console.print()
            screen.say("stopping: serving hands over what it has, stream reads to the end")
            stack.stop()
            replay.look()
    if not journal.decisions:
        problem = next(iter(journal.errors), "no answer came")
        raise StackError(f"no decision was answered: {problem}. Logs are in {settings.home}/logs")
    result = report()
    if not told:
        tell_play(result, screen.console, home=short_path(settings.home))
    tell_promises(result, screen.console)
    if as_json:
        print(json.dumps(result.as_dict()), flush=True)
    return 0


def _play(
    stack: Stack, players: PlayerThread, line: LiveLine, show: Show, seconds: float
) -> float | None:
    """Watch until `seconds` after the first answer; returns when that was."""
    started = time.monotonic()
    while True:
        if (failure := stack.wait_for_failure(LOOK_EVERY_S)) is not None:
            raise failure
        if players.is_over:
            players.join(0.0)  # raises what ended it
        began, phases = _first_answer(players), stack.phases()
        for part in phases:
            if phases[part] == "given up":
                stack.wait(part, 0.0)  # raises, with the end of its log
        show(line.text(phases))
        if began is not None and time.time() - began >= seconds:
            return began
        if began is None and time.monotonic() - started > FIRST_ANSWER_TIMEOUT_S:
            return None


def _first_answer(players: PlayerThread) -> float | None:
    decisions = players.journal.decisions
    return decisions[0].at_s if decisions else None


def _wait_for_tables(stack: Stack, journal: Journal, replay: ReplayWatch) -> None:
    """Until all decisions that were answered are in the replay table.

    Or until a minute has passed since the last part was ready, or a part was given up: what is
    missing then is told when all has stopped.
    """
    promised = {one.decision_id for one in journal.decisions}
    until: float | None = None
    while not promised <= replay.decisions:
        phases = set(stack.phases().values())
        if until is None and phases <= {"ready", "given up"}:
            until = time.monotonic() + SETTLE_TIMEOUT_S
        if "given up" in phases or (until is not None and time.monotonic() > until):
            return
        _raise(stack.wait_for_failure(LOOK_EVERY_S))


def _raise(failure: BakehouseError | None) -> None:
    if failure is not None:
        raise failure


def _finish(players: PlayerThread, screen: Screen) -> bool:
    """End the play, and let what has occurred be delivered. Ctrl-C cuts that short: False."""
    players.stop()
    if players.undelivered:
        screen.say("the last players finish, and late outcomes are delivered")
    try:
        players.join(SETTLE_TIMEOUT_S)
    except KeyboardInterrupt:
        screen.say(f"{players.undelivered} outcomes were never sent")
        return False
    return True
