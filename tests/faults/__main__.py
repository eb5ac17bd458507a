"""The loop under faults: `python -m tests.faults --events 100000 --kills 6 --json`.

A whole stack of real parts plays a game while its broker, its network, its disk and its processes
fail in turn; processes are ended by `kill -9` at named points of their own code. After every
scenario each record sent so far must be accounted for, and at the end the folded tables must
equal what a few lines of plain Python make of the list of what was sent.

The last line is one JSON object:

    events            decisions and outcomes that somebody was promised, beside poison and repeats
    kills             how often a process was ended by SIGKILL
    scenarios         how many were carried out; each failpoint is one
    lost              promised, and missing or different in the tables
    duplicated        in the tables twice, or never sent
    unaccounted       positions that are not exactly one of applied, duplicate, pending, orphan,
                      quarantined; or decisions whose draw cannot be recomputed
    http_errors       answers that were not 2xx, or did not come, while serving itself was up
    max_p99_ms        the highest 99th percentile of a decision's latency in any scenario

The exit status is 0 where `lost`, `duplicated`, `unaccounted` and `http_errors` are 0 and every
promise of every scenario was kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bakehouse.commands.interrupts import termination_interrupts
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.loading import load_application
from tests.bench.measure import percentile
from tests.faults import game_beside, game_grown
from tests.faults.beside import wait_until
from tests.faults.game import application
from tests.faults.kills import KILLS, at_failpoint
from tests.faults.players import Journal, Players
from tests.faults.rig import PARTS, Rig, rig
from tests.faults.scenarios import SCENARIOS, rolling
from tests.faults.scenarios.events import decision
from tests.faults.verify import Verdict, by_the_rules, check_ring, explained, verify
from tests.homes.releases import BEFORE

UNSHARED = "BAKEHOUSE_FAULTS_UNSHARED"
ORDER = ("learner", "serving", "stream")  # writers before their readers
GRACE_S = 0.5  # a request that was under way when serving ended fails a moment later
KEYS = (
    "events",
    "kills",
    "scenarios",
    "lost",
    "duplicated",
    "unaccounted",
    "http_errors",
    "max_p99_ms",
)


@dataclass
class Row:
    """One scenario, as it went."""

    name: str
    promise: str
    began: float
    ended: float
    measured: dict[str, Any]
    unaccounted: int = 0
    broken: str = ""
    p99_ms: float = 0.0

    def breaks(self, words: str) -> None:
        """A promise was not kept."""
        self.broken = "; ".join(filter(None, (self.broken, words)))


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=20_000, help="at least so many")
    parser.add_argument("--kills", type=int, default=3, help="at so many failpoints, in turn")
    parser.add_argument(
        "--outage-s", type=float, help="how long the broker is away (60; 600 from a million on)"
    )
    parser.add_argument(
        "--order", nargs=3, default=ORDER, choices=PARTS, metavar="PART", help="of upgrades"
    )
    parser.add_argument("--only", nargs="*", help="these scenarios alone, to look into one")
    parser.add_argument("--scratch", type=Path, help="work here, and leave what was written")
    parser.add_argument("--report", type=Path, help="write all that was measured to this file")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    return parser.parse_args(arguments)


def unshare() -> None:
    """Go on in a mount namespace of our own: small disks are mounted, and vanish with us."""
    if os.environ.get(UNSHARED) or not sys.platform.startswith("linux"):
        return
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.environ[UNSHARED] = "1"
    command = ["unshare", "--mount", *as_root, sys.executable, "-m", "tests.faults", *sys.argv[1:]]
    os.execvp(command[0], command)


class Run:
    """One run: scenarios one after the other, players all the while."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self.scratch = scratch
        self.rows: list[Row] = []
        self.began = time.monotonic()

    def say(self, words: str) -> None:
        """Progress, for whoever watches."""
        at = time.monotonic() - self.began
        print(f"{at:7.1f} s  {words}", file=sys.stderr, flush=True)

    def carry_out(self) -> dict[str, Any]:
        """All of it; returns the object of the last line, with `rows` and `words` beside it."""
        wanted = self.options.events
        only = self.options.only
        upgraded = only is None or rolling.to_this_release.__name__ in only
        with rig(self.scratch, say=self.say, release=BEFORE if upgraded else None) as running:
            running.later["order"] = tuple(self.options.order)
            running.later["outage_s"] = self.options.outage_s or (600 if wanted >= 1e6 else 60)
            rate = min(600.0, max(40.0, wanted / 1_000))
            players = Players(running.url, self.scratch / "journal.json", rate=rate, seed=1)
            running.players = players
            try:
                self._play(running, players, wanted)
                self.say("players come to an end")
                journal = players.finish(300)
            finally:
                players.kill()
            unaccounted = running.settle()
            self._check_exported(running)
            # the broker is kept for the verification, the parts stop in order
            running.stack.stop()
            self.say("verifying")
            verdict = self._verify(running, journal, unaccounted)
        return self._result(running, journal, verdict)

    def _play(self, running: Rig, players: Players, wanted: int) -> None:
        self._await_policy(running)
        if not running.stack.earlier_parts:
            players.tell(any_ids=True)
        old = [decision(uuid7()) for _ in range(100)]
        running.publish("decisions", old)
        running.later |= {"old decisions": old, "old decisions at": time.monotonic()}
        names = self.options.only
        for scenario in SCENARIOS:
            if names is None or scenario.__name__ in names:
                promise = (scenario.__doc__ or "").strip().splitlines()[0]
                self._carry_out_one(running, scenario.__name__, promise, scenario)
        for point in KILLS[: self.options.kills]:
            self._carry_out_one(
                running,
                point,
                "killed there: it comes back, and nothing shows",
                lambda running, point=point: at_failpoint(running, point),
            )
        if players.events < wanted:
            self.say(f"{players.events:,} of {wanted:,} events; playing on, faster")
            players.tell(rate=600.0)
        wait_until(
            lambda: players.events >= wanted,
            f"{wanted:,} events",
            patience_s=60 + wanted / 300,
        )

    def _await_policy(self, running: Rig) -> None:
        wait_until(
            lambda: running.policy()["policy_version"] > 0,
            "a learned policy answers",
            patience_s=240,
        )

    def _carry_out_one(self, running: Rig, name: str, promise: str, scenario: Any) -> None:
        self.say(f"{name}: {promise}")
        row = Row(name, promise, time.monotonic(), 0.0, {})
        self.rows.append(row)
        try:
            row.measured = scenario(running)
        except Exception as error:
            row.broken = f"{type(error).__name__}: {error}"
            self.say(f"  BROKEN {row.broken}\n{traceback.format_exc()}")
            running.proxy.become("open")
        row.ended = time.monotonic()
        try:
            row.unaccounted = running.settle()
        except Exception as error:
            row.broken = row.broken or f"{type(error).__name__}: {error}"
            self.say(f"  NOT SETTLED {error}")
        self.say(f"  {json.dumps(row.measured)}; {row.unaccounted} unaccounted for")

    def _check_exported(self, running: Rig) -> None:
        """The account is in `status` and among the metrics, and says the same there."""

        def exported() -> bool:
            account = running.stream().get("account", {})
            text = httpx.get(f"{running.url}/metrics", timeout=30).text
            return bool(account) and all(
                f'bakehouse_positions{{outcome="{name}"}} {float(account[name])}' in text
                for name in ("applied", "duplicate", "pending", "orphan", "quarantined")
            )

        began = time.monotonic()
        row = Row("exported", "the account is in status and metrics", began, 0.0, {})
        try:
            wait_until(exported, "metrics that say what status says", patience_s=60)
        except AssertionError as error:
            row.broken = str(error)
            self.say(f"  BROKEN {error}")
        row.ended = time.monotonic()
        if row.broken:
            self.rows.append(row)

    def _verify(self, running: Rig, journal: Journal, unaccounted: int) -> Verdict:
        account = json.loads((running.home / "stream" / "account.json").read_text())
        promised = [(d[0], "") for d in journal.decisions if d[5]]
        promised += [(of, name) for name, of in journal.outcomes]
        running.unlogged.update(d[0] for d in journal.decisions if not d[5])
        sent = running.records()
        self.say(f"{len(sent):,} records in Kafka")
        verdict = verify(
            running.settings,
            sent,
            acknowledged=[*promised, *running.acknowledged],
            unlogged=running.unlogged,
            answers={d[0]: (d[1], d[2]) for d in journal.decisions},
            account={name: n for name, n in account.items() if name != "at"},
            applications=[
                application,
                game_grown.application,
                game_beside.application,
                load_application(running.growing).application,
            ],
        )
        verdict.unaccounted += unaccounted + sum(abs(row.unaccounted) for row in self.rows)
        for row in self.rows:
            if row.name == rolling.to_another_contract.__name__ and not row.broken:
                self._explain(row, running, [d[0] for d in journal.decisions if d[5]])
        for words in check_ring(running.home, application, verdict.contested_ids):
            verdict.duplicated += 1
            verdict.say(words)
        return verdict

    def _explain(self, row: Row, running: Rig, decision_ids: list[str]) -> None:
        """Decisions of both contracts come out again as they were."""
        found = explained(running.settings, game_grown.REF, decision_ids)
        row.measured["explained"] = found["kinds"]
        short = [kind for kind, n in found["kinds"].items() if n["exact"] != n["decisions"]]
        contracts = {kind.split()[0] for kind in found["kinds"]}
        if short or len(contracts) != 2:
            row.breaks(f"decided again otherwise: {short} of {contracts}: {found['wrong'][:2]}")

    def _result(self, running: Rig, journal: Journal, verdict: Verdict) -> dict[str, Any]:
        for row in self.rows:
            row.p99_ms = self._p99_ms(running, journal, row.began, row.ended)
            self._check_rolled(row, running, journal)
        errors = [f for f in journal.failures if not self._excused(running, f)]
        promised = journal.events + len(running.acknowledged)
        result: dict[str, Any] = {
            "events": promised,
            "kills": running.kills,
            "scenarios": len(self.rows),
            "lost": verdict.lost,
            "duplicated": verdict.duplicated,
            "unaccounted": verdict.unaccounted,
            "http_errors": len(errors),
            "max_p99_ms": round(max((row.p99_ms for row in self.rows), default=0.0), 2),
        }
        if "steady" in running.later:
            steady = self._p99_ms(running, journal, *running.later["steady"])
            outage = self._p99_ms(running, journal, *running.later["outage"])
            result["outage_p99_ms"] = {"before": round(steady, 2), "during": round(outage, 2)}
        result["account"] = verdict.account
        result["contested"] = len(verdict.contested_ids)
        result["experiences"] = verdict.experiences
        result["failures_while_down"] = len(journal.failures) - len(errors)
        result["rows"] = [vars(row) for row in self.rows]
        result["words"] = verdict.words + [f"http: {failure}" for failure in errors[:10]]
        result["seconds"] = round(time.monotonic() - self.began)
        return result

    def _check_rolled(self, row: Row, running: Rig, journal: Journal) -> None:
        """While parts were upgraded, a policy could have answered everybody."""
        for began, ended in running.rolled:
            if not row.began <= began <= row.ended:
                continue
            answered, without = by_the_rules(journal.decisions, began, ended)
            row.measured |= {"decisions": answered, "by_the_rules": without}
            if without:
                row.breaks(f"{without} of {answered} decisions had no policy")
            if running.stack.earlier_parts:
                row.breaks(f"{running.stack.earlier_parts} were not upgraded")

    def _excused(self, running: Rig, failure: list[Any]) -> bool:
        """Whether serving did not run when a request failed (an answer is never excused)."""
        at, status, _ = failure
        return status is None and any(a <= at <= b + GRACE_S for a, b in running.down)

    def _p99_ms(self, running: Rig, journal: Journal, began: float, ended: float) -> float:
        found = [
            seconds * 1000
            for at, seconds in journal.latencies
            if began <= at <= ended
            and not any(a <= at + seconds and at <= b + GRACE_S for a, b in running.down)
        ]
        return percentile(found, 0.99) if len(found) >= 100 else 0.0


def table(result: dict[str, Any]) -> str:
    """What was promised and measured, for a person."""
    lines = []
    for row in result["rows"]:
        measured = ", ".join(f"{name} {value}" for name, value in row["measured"].items())
        mark = "BROKEN " + row["broken"] if row["broken"] else "kept"
        p99 = f"p99 {row['p99_ms']:.1f} ms" if row["p99_ms"] else ""
        lines.append(f"{row['name']}: {row['promise']}\n    {mark}; {measured}; {p99}")
    return "\n".join([*lines, *result["words"]])


def main() -> int:
    """Carry it out; exit status 1 where a promise was broken."""
    options = parsed()
    unshare()
    scratch = options.scratch or Path(tempfile.mkdtemp(prefix="bakehouse-faults-"))
    scratch.mkdir(parents=True, exist_ok=True)
    kept = False
    try:
        with termination_interrupts():
            result = Run(options, scratch.resolve()).carry_out()
        broken = [row["name"] for row in result["rows"] if row["broken"]]
        if options.report:
            options.report.write_text(json.dumps(result, indent=1))
        print(table(result), file=sys.stderr)
        wrong = sum(result[name] for name in ("lost", "duplicated", "unaccounted", "http_errors"))
        kept = not wrong and not broken
        if not options.json:
            print(json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1))
        print(json.dumps({name: result[name] for name in KEYS}), flush=True)
    finally:
        if options.scratch is None:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
