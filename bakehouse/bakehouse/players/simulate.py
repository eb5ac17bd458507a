"""`bakehouse simulate`: simulated players against a stack that runs already."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from bakehouse.output import complain, say, say_json
from bakehouse.players.player_thread import PlayerThread, Scoreboard, latency_ms, world_of
from bakehouse.players.rehearsal import rehearse
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import load_settings

LOOK_EVERY_S = 1.0


def run_simulate(*, ref: str, url: str, decisions: int, as_json: bool, rate: float | None) -> int:
    """Play this many decisions against `url`; returns the exit status: 1 where requests failed.

    Raises:
        BakehouseError: the application has no world, its rules or players fail at once, or the
            players could not go on.
    """
    loaded = load_application(ref)
    rehearsed = rehearse(loaded)
    if rehearsed is not None and rehearsed.caution is not None:
        complain(rehearsed.caution, style="yellow")
    scoreboard = Scoreboard(loaded.application, world_of(loaded))
    players = PlayerThread(
        loaded,
        url,
        rate=rate,
        decisions=decisions,
        scoreboard=scoreboard,
        settings=load_settings(),
    )
    began = time.monotonic()
    players.start()
    try:
        while not players.join(LOOK_EVERY_S):
            if not as_json:
                say(_line(players, time.monotonic() - began))
    except KeyboardInterrupt:
        players.stop()
        complain("stopping: delivering what has occurred", style="dim")
        players.join(60.0)
    seconds = time.monotonic() - began
    result = _result(players, scoreboard, seconds)
    if result["decisions"] == 0:
        problems = [f"{count} × {problem}" for problem, count in result["errors"].items()]
        raise BakehouseError(
            f"no decision was answered at {url}: {'; '.join(problems) or 'none was asked for'}"
        )
    if as_json:
        say_json(result)
    else:
        _summary(result)
    return 1 if result["http_errors"] else 0


def _line(players: PlayerThread, seconds: float) -> str:
    journal = players.journal
    return (
        f"{seconds:5.0f} s   {len(journal.decisions):,} decisions   "
        f"{len(journal.outcomes):,} outcomes   {players.undelivered:,} under way   "
        f"{journal.http_errors} errors"
    )


def _result(players: PlayerThread, scoreboard: Scoreboard, seconds: float) -> dict[str, Any]:
    journal = players.journal
    recent = scoreboard.recent({}).policy
    return {
        "seconds": round(seconds, 1),
        "decisions": len(journal.decisions),
        "not_logged": journal.not_logged,
        "outcomes": len(journal.outcomes),
        "versions": sorted(journal.first_answers),
        "cohorts": dict(Counter(decision.cohort for decision in journal.decisions)),
        "latency_ms": latency_ms(journal),
        "cpu_us_a_request": round(
            players.cpu_s * 1e6 / max(1, len(journal.decisions) + journal.outcome_posts), 1
        ),
        "reward": None if recent is None else round(recent.policy, 4),
        "settled": players.settled,
        "http_errors": journal.http_errors,
        "errors": dict(journal.errors),
    }


def _summary(result: dict[str, Any]) -> None:
    say(
        f"\n{result['decisions']:,} decisions and {result['outcomes']:,} outcomes in "
        f"{result['seconds']:g} s; {result['http_errors']} errors; policies answered: "
        f"{len(result['versions'])}; latency p50 {result['latency_ms']['p50']} ms, "
        f"p99 {result['latency_ms']['p99']} ms"
    )
    for problem, count in result["errors"].items():
        complain(f"{count} × {problem}")
