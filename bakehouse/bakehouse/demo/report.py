"""What a demo showed: figures from the tables and the players' journal, and a page in words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bakehouse.demo.freshness import Freshness, measure_freshness
from bakehouse.demo.loss_check import LossReport, check_loss, folded_decisions
from bakehouse.demo.watch import PolicyWatch, ReplayWatch
from bakehouse.players.players import Journal
from bakehouse_schemas.loading import Loaded
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.account import NO_RECORD, OUTCOMES
from bakehouse_schemas.replay.fold import Row
from bakehouse_schemas.worlds.share import Values, logged_decision, share, world_values
from bakehouse_schemas.worlds.world import EpisodicWorld, World

MINUTE_MS = 60_000
RUMP_MS = 10_000  # less than this at the end is no minute of its own
ACCOUNT = ("received", *OUTCOMES)


@dataclass(frozen=True)
class DemoReport:
    """See `as_dict` for the figures that programs read."""

    seconds: float
    journal: Journal
    experiences: int
    published: int
    freshness: Freshness
    first_minute: Values | None  # of cohort `policy`, in the first minute of decisions
    last_minute: Values | None
    found: LossReport
    account: dict[str, int | None]
    left_version_0_after_s: float | None
    by_minute: list[float | None] = field(default_factory=list)  # shares, for the eye
    is_episodic: bool = False

    @property
    def swapped(self) -> int:
        """Times that another policy was seen to answer: versions in answers, less the first."""
        return max(len(self.journal.first_answers) - 1, 0)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `bakehouse demo --json`.

        Reward and share are noise-free expectations. `uniform`, `baseline` and `best` are those of
        the last minute's decisions; `first_minute`'s share is measured on that minute's own.
        """
        first, last = self.first_minute, self.last_minute
        return {
            "seconds": round(self.seconds, 1),
            "decisions": len(self.journal.decisions),
            "outcomes": len(self.journal.outcomes),
            "experiences": self.experiences,
            "policies_published": self.published,
            "policies_swapped": self.swapped,
            "freshness_s": self.freshness.summary(),
            "reward": {
                "uniform": _rounded(last and last.uniform),
                "baseline": _rounded(last and last.baseline),
                "first_minute": _rounded(first and first.policy),
                "last_minute": _rounded(last and last.policy),
                "best": _rounded(last and last.best),
            },
            "share": {
                "baseline": _rounded(last and share(last, of="baseline")),
                "first_minute": _rounded(first and share(first)),
                "last_minute": _rounded(last and share(last)),
            },
            "http_errors": self.journal.http_errors,
            **self.account,
            "lost": self.found.lost,
        }


def make_report(
    loaded: Loaded,
    world: World,
    settings: Settings,
    journal: Journal,
    *,
    seconds: float,
    replay: ReplayWatch,
    policies: PolicyWatch,
) -> DemoReport:
    """Count everything, after all parts have stopped."""
    application, tables = loaded.application, Path(settings.tables)
    rows = folded_decisions(tables, application.name)
    ours = [row for row in rows if row["cohort"] in ("policy", "canary")]
    times = [row["decided_at_ms"] for row in ours]
    begin, end = (min(times), max(times)) if times else (0, 0)

    def values(since_ms: int, before_ms: int) -> Values | None:
        made = _logged(loaded, ours, since_ms, before_ms)
        return world_values(world, application, made) if made else None

    minutes = [values(at, at + MINUTE_MS) for at in range(begin, end - RUMP_MS, MINUTE_MS)]
    answers = journal.first_answers
    first_trained = min((at_s for version, at_s in answers.items() if version > 0), default=None)
    last_answer_s = max((one.at_s for one in journal.decisions), default=0.0)
    return DemoReport(
        seconds=seconds,
        journal=journal,
        experiences=len(rows),
        published=policies.pointers,
        freshness=measure_freshness(
            journal.outcomes,
            table_versions=replay.outcomes,
            trained_on=policies.trained_on,
            first_answers=answers,
            last_answer_s=last_answer_s,
        ),
        first_minute=values(begin, begin + MINUTE_MS),
        last_minute=values(end - MINUTE_MS + 1, end + 1),
        found=check_loss(
            tables,
            application.name,
            decisions=(one.decision_id for one in journal.decisions),
            outcomes=(one.outcome_id for one in journal.outcomes),
        ),
        account=read_account(settings.home),
        left_version_0_after_s=None
        if first_trained is None or not journal.decisions
        else first_trained - journal.decisions[0].at_s,
        by_minute=[one and share(one) for one in minutes],
        is_episodic=isinstance(world, EpisodicWorld),
    )


def read_account(home: Path) -> dict[str, int | None]:
    """The stream's account of its last clean stop; None throughout where there is none."""
    try:
        account = json.loads((home / "stream" / "account.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        account = {}
    unread = {NO_RECORD: account[NO_RECORD]} if NO_RECORD in account else {}
    return {name: account.get(name) for name in ACCOUNT} | unread


def _logged(loaded: Loaded, rows: list[Row], since_ms: int, before_ms: int) -> list[Any]:
    return [
        logged_decision(loaded.application, row)
        for row in rows
        if since_ms <= row["decided_at_ms"] < before_ms
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def tell(report: DemoReport, console: Console, *, home: Path) -> None:
    """The whole report for a person."""
    tell_play(report, console, home=home)
    tell_promises(report, console)


def tell_play(report: DemoReport, console: Console, *, home: Path) -> None:
    """What was played and learned."""
    journal, fresh = report.journal, report.freshness.summary()
    console.print()
    console.rule("[bold]What happened", style="dim")
    console.print(
        f"In {_duration(report.seconds)} the players asked for "
        f"[bold]{len(journal.decisions):,}[/] decisions, and [bold]{len(journal.outcomes):,}[/] "
        "outcomes came of them."
    )
    if report.left_version_0_after_s is None:
        console.print(
            "The game's rules, with exploration, answered throughout: no policy had learned enough "
            "to leave them. More --minutes give it time."
        )
    else:
        console.print(
            f"After {_duration(report.left_version_0_after_s)} a learned policy took over from "
            f"the game's rules; it was replaced by a better-informed one [bold]"
            f"{report.swapped - 1:,}[/] times while they played."
        )
    if fresh["p50"] is not None:
        console.print(
            f"What a player did was part of the policy that answers after "
            f"[bold]{fresh['p50']:.1f} s[/] (1 in 20 took more than {fresh['p95']:.1f} s)."
        )
    _tell_worth(report, console)
    console.print(
        f"\nAll of it is in [bold]{escape(str(home))}[/]: Delta tables under tables/, policies/, "
        "logs/.\n"
        f"  training runs  [dim]uv run mlflow ui --backend-store-uri "
        f"sqlite:///{escape(str(home / 'mlflow.db'))}[/]"
    )


def _tell_worth(report: DemoReport, console: Console) -> None:
    first, last = report.first_minute, report.last_minute
    if first is None or last is None:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    who = "the rules, exploring" if report.left_version_0_after_s is None else "the policy"
    for value, words in (
        (last.uniform, "uniform at random"),
        (last.baseline, "the game's rules"),
        (first.policy, f"{who}, first minute"),
        (last.policy, f"{who}, last minute"),
        (last.best, "the best there is, exploring as much"),
    ):
        room = max(last.best, last.baseline) - last.uniform
        length = round(30 * max(0.0, value - last.uniform) / room) if room > 0 else 0
        style = "bold green" if words.endswith("last minute") else ""
        table.add_row(f"{value:+.3f}", words, "█" * length, style=style)
    what = "an episode" if report.is_episodic else "a decision"
    console.print(f"\nExpected reward of {what}, noise-free:")
    console.print(table)
    shares = "  ".join("–" if one is None else f"{one:.0%}" for one in report.by_minute)
    console.print(f"Share of what could be had beyond random, minute by minute: {shares}")


def tell_promises(report: DemoReport, console: Console) -> None:
    """Whether all that was acknowledged is in the tables, once all parts have stopped."""
    journal, found, account = report.journal, report.found, report.account
    names = [name for name in account if name != "received"]
    parts = [account[name] for name in names]
    received = account["received"]
    if received is None or any(part is None for part in parts):
        console.print(
            "\n[yellow]The stream left no account of what it received: it was still starting, or "
            "was stopped before it had read to the end. What is in no table waits in Kafka, and "
            "the next start in this home reads it. Give the players more --minutes.[/]"
        )
    else:
        adds_up = sum(part or 0 for part in parts) == received
        words = " + ".join(f"{account[name]:,} {name}" for name in names)
        console.print(
            f"\nReceived {received:,} records = {words}"
            + ("." if adds_up else "  [red]which does not add up[/]")
        )
    if found.lost:
        console.print(
            f"[red]{len(found.lost_decisions)} decisions and {len(found.lost_outcomes)} outcomes "
            "were acknowledged and are in no table.[/]"
        )
    else:
        console.print("Everything that was acknowledged is in the tables: [bold]0 lost[/].")
    if found.unjoined_outcomes:
        console.print(f"{len(found.unjoined_outcomes)} outcomes wait for their decision.")
    for reason, count in found.quarantined.items():
        console.print(f"{count} acknowledged events are in quarantine: {escape(reason)}")
    if journal.http_errors:
        console.print(f"[red]{journal.http_errors} requests failed:[/]")
        for problem, count in journal.errors.items():
            console.print(f"  {count} × {escape(problem)}")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s"
