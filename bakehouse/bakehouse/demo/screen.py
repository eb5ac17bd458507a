"""What a person sees of a demo while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from bakehouse.demo.freshness import measure_freshness
from bakehouse.demo.home import short_path
from bakehouse.demo.watch import PolicyWatch, ReplayWatch
from bakehouse.local.events import StackEvent
from bakehouse.players.player_thread import PlayerThread, Scoreboard
from bakehouse_schemas.worlds.share import share

LIVE_WINDOW_S = 30.0  # of the live freshness


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
            f"[dim]Home: {escape(str(short_path(home)))}[/]"
        )

    def urls(self, url: str, bootstrap: str, home: Path) -> None:
        """Where to look meanwhile, in a browser and in another terminal."""
        self.console.print(
            f"\n  dashboard  [bold]{url}/[/]\n  API docs   {url}/docs\n  Kafka      {bootstrap}\n"
            f"  commands   bakehouse status --home {escape(str(short_path(home)))}\n"
        )

    def stays(self, url: str) -> None:
        """That the stack goes on, and how it is ended."""
        self.console.print(
            f"\nThe players have finished; the dashboard stays at [bold]{url}/[/] until Ctrl-C."
        )

    def say(self, words: str) -> None:
        with self._lock:
            seconds = time.monotonic() - self._started
            self.console.print(f"[dim]{seconds:6.1f} s[/]  {escape(words)}")

    def fetching(self, words: str) -> None:
        """Progress of what is done once a machine."""
        self.say(f"once      {words}")

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
