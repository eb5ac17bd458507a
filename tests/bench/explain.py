"""Are decisions what their log says, and how long does it take to say why?

Demos of several applications play, one with a canary and a kill in between, so that decisions of
every cohort are logged. Then 1,000 decisions of each, a fair share of every cohort, are decided
again out of the tables and the policies they name; and the process that serving asks explains some
of them.

    sampled, exact, unavailable     over all; exact: the same action, the very same probability
    different                       ids of decisions that came out otherwise, at most ten
    homes                           the same by application, and decisions by cohort and policies
    first_ms, next_p50_ms, next_p95_ms     of an explanation, the process's start included, and then

With --scratch, homes that are there already are not played anew.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_serving.explain.__main__ import Explainer
from bakehouse_serving.explain.client import ExplainerClient
from bakehouse_serving.explain.explanation import is_exact
from bakehouse_serving.explain.tables import recorded_decision
from tests.bench.measure import Options, wait_until

APPLICATIONS = ("level_difficulty", "boss_health", "mode_and_level", "shop_shelf")
POLICIES_KEPT = 500
BY_THE_RULES = 300  # decisions between kill and revive
SEED = 0
MOST_MINUTES = 15  # of a demo on a machine that is busy
WITH_CANARY = """from dataclasses import replace

from bakehouse.examples.level_difficulty import application as page
from bakehouse.examples.level_difficulty import world
from bakehouse import Rollout

__all__ = ["application", "world"]
steps = Rollout(holdout=0.10, canary=[0.3, 1.0], decisions_a_step=500)
application = replace(page, rollout=steps)
"""


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    sampled = options.sized(1_000, 200)
    policies = options.sized(40, 5)
    homes: dict[str, dict[str, Any]] = {}
    for name in options.sized(APPLICATIONS, APPLICATIONS[:1]):
        page = Path("applications") / f"{name}.py"
        if name == "level_difficulty":
            page = options.scratch / "with_canary.py"
            page.write_text(WITH_CANARY)
        home = options.scratch / name
        if not (home / "tables" / "replay").exists():
            options.say(f"{name} is played until {policies} policies were learned")
            _play(page, home, policies)
        homes[name] = decide_again(str(page), home, sampled) | _time(str(page), home)
        options.say(f"{name}: {homes[name]['exact']} of {homes[name]['sampled']} exact")
    total = {
        name: sum(one[name] for one in homes.values())
        for name in ("sampled", "exact", "unavailable")
    }
    return total | {
        "different": [each for one in homes.values() for each in one["different"]][:10],
        **{
            name: statistics.median(one[name] for one in homes.values())
            for name in ("first_ms", "next_p50_ms", "next_p95_ms")
        },
        "homes": homes,
    }


def _play(page: Path, home: Path, policies: int) -> None:
    """A demo in this home, until so many policies were learned; then, for a while, everyone gets
    the rules, and it is ended as by Ctrl-C."""
    environment = os.environ | {"BAKEHOUSE_POLICIES_KEPT": str(POLICIES_KEPT)}
    bakehouse = [sys.executable, "-m", "bakehouse.cli"]
    words = ["demo", "--application", str(page), "--minutes", str(MOST_MINUTES)]
    with (
        (home.parent / f"{home.name}.log").open("w") as log,
        subprocess.Popen(
            [*bakehouse, *words, "--home", str(home), "--port", "0", "--json"],
            env=environment,
            stdout=log,
            stderr=log,
        ) as demo,
    ):

        def told(*words: str) -> Any:
            told = subprocess.run(
                [*bakehouse, *words, "--home", str(home), "--json"],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
            return json.loads(told.stdout)

        def by_the_rules() -> bool:
            applications = told("status")["applications"]
            return all(one["cohorts"]["fallback"] >= BY_THE_RULES for one in applications.values())

        def learned() -> bool:
            enough = len([*home.glob("policies/*/[0-9]*")]) >= policies
            return enough or demo.poll() is not None

        wait_until(learned, 60 * (MOST_MINUTES + 5), f"{policies} policies")
        if demo.poll() is None:
            told("kill", "--why", "decisions of every cohort")
            wait_until(by_the_rules, 60, f"{BY_THE_RULES} decisions by the rules alone")
            told("revive", "--why", "decisions of every cohort")
        demo.send_signal(signal.SIGINT)
        if demo.wait() != 0:
            raise RuntimeError(f"the demo of {page} failed; see {log.name}")


def decide_again(ref: str, home: Path, sampled: int) -> dict[str, Any]:
    """What came out of so many decisions of this home, decided again out of its tables."""
    application = load_application(ref).application
    settings = Settings(home=home)
    table = DeltaTable(str(Path(settings.tables) / "replay"))
    rows = list(fold_rows(table.to_pyarrow_table().to_pylist()).values())
    explainer = Explainer({application.name: application}, settings.tables, settings.policies)
    found: Counter[str] = Counter()
    different = []
    for row in _sample(rows, sampled):
        one = recorded_decision(row)
        again, _, _ = explainer.decide_again(application, one)
        if again is None:
            found["unavailable"] += 1
        elif is_exact(again, one.decision):
            found["exact"] += 1
        else:
            different.append(row["decision_id"])
        found["sampled"] += 1
        found[f"cohort {row['cohort']}"] += 1
    cohorts = {name[7:]: n for name, n in found.items() if name.startswith("cohort ")}
    versions = len({row["policy_version"] for row in rows})
    return {
        "sampled": found["sampled"],
        "exact": found["exact"],
        "unavailable": found["unavailable"],
        "different": different,
        "cohorts": cohorts,
        "policies": versions,
        "decisions": len(rows),
    }


def _sample(rows: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """So many, at random, as even between the cohorts as they allow."""
    chance = random.Random(SEED)
    chance.shuffle(rows)
    by_cohort: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_cohort.setdefault(row["cohort"], []).append(row)
    sample: list[dict[str, Any]] = []
    left = size
    for at, cohort in enumerate(sorted(by_cohort, key=lambda name: len(by_cohort[name]))):
        part = by_cohort[cohort][: left // (len(by_cohort) - at)]
        sample += part
        left -= len(part)
    return sample


def _time(ref: str, home: Path, *, questions: int = 100) -> dict[str, float]:
    """The process that serving asks, from its start on."""
    application = load_application(ref).application
    settings = Settings(home=home)
    ids = DeltaTable(str(Path(settings.tables) / "replay")).to_pyarrow_table(
        columns=["decision_id"]
    )
    chosen = random.Random(SEED).sample(ids.column("decision_id").to_pylist(), questions)
    asking, took = ExplainerClient(settings, [ref]), []
    try:
        for decision_id in chosen:
            began = time.perf_counter()
            answered = asking.ask(application.name, decision_id)
            took.append(1e3 * (time.perf_counter() - began))
            if answered.status != 200:
                raise RuntimeError(json.dumps(answered.body))
    finally:
        asking.stop()
    return {
        "first_ms": took[0],
        "next_p50_ms": statistics.median(took[1:]),
        "next_p95_ms": statistics.quantiles(took[1:], n=20)[-1],
    }
