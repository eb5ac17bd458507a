"""`bakehouse demo`: the whole loop on this machine, with simulated players, while one watches."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from bakehouse.demo_report import make_report, tell
from bakehouse.freshness import measure_freshness
from bakehouse.local.events import StackEvent
from bakehouse.local.home import is_held
from bakehouse.local.ports import is_free
from bakehouse.local.supervisor import Stack
from bakehouse.play import PlayerThread, Scoreboard, world_of
from bakehouse.watch import PolicyWatch, ReplayWatch
from schemas.errors import StackError
from schemas.loading import load_application
from schemas.settings import Settings
from schemas.share import share

DEMO_HOMES_KEPT = 3
LOOK_EVERY_S = 1.0
LIVE_WINDOW_S = 30.0  # of the live freshness
FIRST_ANSWER_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 60.0


def run_demo(
    *,
    application: str,
    minutes: float,
    as_json: bool,
    settings: Settings,
    rate: float | None = None,
) -> int:
    """Run it; returns the exit status. With `as_json` the last line on stdout is the result.

    `minutes` counts from the first answered decision. Ctrl-C ends the play early, and the
    result is of what was played.

    Raises:
        BakehouseError: the stack cannot start or go on, or the application has no world.
    """
    loaded = load_application(application)
    world = world_of(loaded)
    settings = _demo_settings(settings)
    screen = Screen(Console(stderr=as_json, highlight=False, soft_wrap=True))
    screen.title(loaded.application.name, settings.home)
    scoreboard = Scoreboard(loaded.application, world)
    with Stack([application], settings, on_event=screen.event) as stack:
        settings = stack.settings
        replay_table = Path(settings.tables) / "replay"
        with (
            ReplayWatch(replay_table, loaded.application.name) as replay,
            PolicyWatch(settings, loaded.application.name) as policies,
        ):
            players = PlayerThread(loaded, stack.url, rate=rate, scoreboard=scoreboard)
            players.start()
            screen.urls(stack.url, stack.kafka_bootstrap)
            line = LiveLine(players, scoreboard, replay, policies)
            try:
                with screen.live() as show:
                    began = _play(stack, players, line, show, minutes * 60)
            except KeyboardInterrupt:
                began = _first_answer(players)
                screen.say("stopping early; the figures are of what was played")
            seconds = 0.0 if began is None else time.time() - began
            _finish(players, screen)
            screen.say("stopping: serving hands over what it has, stream reads to the end")
            stack.stop()
            replay.look()
    journal = players.journal
    if not journal.decisions:
        problem = next(iter(journal.errors), "no answer came")
        raise StackError(f"no decision was answered: {problem}. Logs are in {settings.home}/logs")
    report = make_report(
        loaded,
        world,
        settings,
        journal,
        seconds=seconds,
        replay=replay,
        policies=policies,
    )
    tell(report, screen.console, home=_short(settings.home))
    if as_json:
        print(json.dumps(report.as_dict()), flush=True)
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


def _finish(players: PlayerThread, screen: Screen) -> None:
    """End the play, and let what has occurred be delivered. Ctrl-C cuts that short."""
    players.stop()
    if players.undelivered:
        screen.say("the last players finish, and late outcomes are delivered")
    try:
        players.join(SETTLE_TIMEOUT_S)
    except KeyboardInterrupt:
        screen.say(f"{players.undelivered} outcomes were never sent")


class LiveLine:
    """The figures of this second, in a line."""

    def __init__(
        self,
        players: PlayerThread,
        scoreboard: Scoreboard,
        replay: ReplayWatch,
        policies: PolicyWatch,
    ) -> None:
        self._players, self._scoreboard = players, scoreboard
        self._replay, self._policies = replay, policies
        self._before = (time.monotonic(), 0)

    def text(self, phases: dict[str, str]) -> str:
        """The line; parts that are still starting stand at its end."""
        journal = self._players.journal
        now, count = time.monotonic(), len(journal.decisions)
        then, before = self._before
        self._before = (now, count)
        version = self._scoreboard.version
        since = journal.first_answers.get(version)
        age = f" for {time.time() - since:.1f} s" if version and since else ""
        parts = [
            f"{(count - before) / max(now - then, 1e-3):4.0f} decisions/s",
            f"{len(self._replay.decisions):6,} experiences",
            f"policy {version}{age}",
            self._freshness(),
            self._worth(),
            f"{journal.http_errors} errors" if journal.http_errors else "",
            "  ".join(f"({name}: {what})" for name, what in phases.items() if what != "ready"),
        ]
        return "   ".join(part for part in parts if part)

    def _freshness(self) -> str:
        journal, now = self._players.journal, time.time()
        recent = []
        for outcome in reversed(journal.outcomes):
            if outcome.at_s < now - LIVE_WINDOW_S:
                break
            recent.append(outcome)
        fresh = measure_freshness(
            recent,
            table_versions=self._replay.outcomes,
            trained_on=self._policies.trained_on,
            first_answers=dict(journal.first_answers),
            last_answer_s=now,
        ).summary()
        if fresh["p50"] is None:
            return ""
        return f"fresh {fresh['p50']:.1f}/{fresh['p95']:.1f} s"

    def _worth(self) -> str:
        explorations = {
            version: one.exploration for version, one in self._policies.published.copy().items()
        }
        recent = self._scoreboard.recent(explorations)
        words = []
        if recent.policy is not None:
            words.append(f"reward {recent.policy.policy:+.2f}")
        if recent.holdout is not None:
            words.append(f"(rules {recent.holdout.policy:+.2f})")
        if recent.policy is not None and (now := share(recent.policy)) is not None:
            words.append(f"share {now:4.0%}")
        return " ".join(words)


class Show:
    """Shows the live line: in place on a terminal, else one line after the other."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console, self._live = console, live

    def __call__(self, line: str) -> None:
        if self._live is None:
            self._console.print(escape(line))
        else:
            self._live.update(Text(line, style="bold"), refresh=True)


class Screen:
    """What a person sees of a demo."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}

    def title(self, application: str, home: Path) -> None:
        self.console.print(
            f"[bold]Bakehouse[/] learns [bold]{application}[/] while it is played. "
            f"[dim]Home: {escape(str(_short(home)))}[/]"
        )

    def urls(self, url: str, bootstrap: str) -> None:
        self.console.print(
            f"\n  dashboard  [bold]{url}/[/]\n  API docs   {url}/docs\n  Kafka      {bootstrap}\n"
        )

    def say(self, words: str) -> None:
        with self._lock:
            seconds = time.monotonic() - self._started
            self.console.print(f"[dim]{seconds:6.1f} s[/]  {escape(words)}")

    def event(self, event: StackEvent) -> None:
        """Called from the supervisor's thread."""
        words = event.detail if event.what == "phase" else f"{event.what} {event.detail}".strip()
        if self._last.get(event.part) == words:
            return
        self._last[event.part] = words
        self.say(f"{event.part:<8} {words}")

    @contextmanager
    def live(self) -> Iterator[Show]:
        """A place for the live line."""
        if not self.console.is_terminal:
            yield Show(self.console, None)
            return
        with Live(console=self.console, auto_refresh=False) as live:
            yield Show(self.console, live)


def _demo_settings(settings: Settings) -> Settings:
    """A fresh home unless one was named, so that the figures are of this run; a port that is free.

    Homes of earlier demos are removed, but for the last few.
    """
    changed: dict[str, object] = {}
    if settings.home == Settings.model_fields["home"].default:
        parent = settings.home
        earlier = sorted(path for path in parent.glob("demo-*") if path.is_dir())
        for old in earlier[: max(0, len(earlier) - DEMO_HOMES_KEPT + 1)]:
            if not is_held(old):
                shutil.rmtree(old, ignore_errors=True)
        changed["home"] = parent / time.strftime("demo-%Y%m%d-%H%M%S")
    if settings.port == Settings.model_fields["port"].default and not is_free(settings.port):
        changed["port"] = 0
    return settings.model_copy(update=changed)


def _short(path: Path) -> Path:
    """As seen from the working directory, where it is below it."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path
