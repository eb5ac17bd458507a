"""One real loop through everything: HTTP, spool, Kafka, Spark, Delta, learner, and back.

`bakehouse demo` as a person starts it, in a home of its own; the test looks at what it says, at
what it leaves in the tables, and that it leaves no process behind.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bench.explain import decide_again

KEYS = {
    "seconds",
    "decisions",
    "outcomes",
    "experiences",
    "policies_published",
    "policies_swapped",
    "freshness_s",
    "reward",
    "share",
    "http_errors",
    "received",
    "applied",
    "duplicate",
    "pending",
    "orphan",
    "quarantined",
    "lost",
}
REPOSITORY = Path(__file__).parents[2]
BAKEHOUSE = Path(sys.executable).with_name("bakehouse")
MINUTES = "3.5"  # at most: it is ended once policies were learned
LEARNED = re.compile(r"policy ([1-9]\d*) for")


def processes_of(home: Path) -> list[str]:
    """Whatever still runs with this home in its environment or on its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if str(home) in words or process.environ().get("BAKEHOUSE_HOME") == str(home):
                found.append(f"{process.pid} {words}")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


class Ended:
    """A demo that was ended by Ctrl-C once two learned policies had answered."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        command = [str(BAKEHOUSE), "demo", "--minutes", MINUTES, "--json"]
        with subprocess.Popen(
            [*command, "--home", str(home), "--port", "0"],
            cwd=REPOSITORY,
            env=os.environ
            | {"PYTHONUNBUFFERED": "1"}
            | {f"BAKEHOUSE_{name.upper()}": value for name, value in settings.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            lines: list[str] = []
            learned: set[str] = set()
            for line in process.stderr:
                lines.append(line)
                if (found := LEARNED.search(line)) and found[1] not in learned:
                    learned.add(found[1])
                    if len(learned) == 2:
                        process.send_signal(signal.SIGINT)
            self.printed = process.stdout.read()
            self.exit_status = process.wait()
        self.said = "".join(lines[-60:])

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.printed.splitlines()[-1])
        return result


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    one = Ended(tmp_path_factory.mktemp("loop") / "home")
    assert one.exit_status == 0, one.said
    return one


@pytest.mark.timeout(300)
def test_the_demo_ends_with_one_object_of_the_promised_figures(ended: Ended) -> None:
    assert set(ended.result) == KEYS
    assert ended.result["decisions"] > 1000, ended.said
    assert ended.result["http_errors"] == 0, ended.said


def test_nothing_that_was_acknowledged_is_lost(ended: Ended) -> None:
    assert ended.result["lost"] == 0, ended.said
    assert ended.result["experiences"] >= ended.result["decisions"]


def test_every_record_received_is_accounted_for_once(ended: Ended) -> None:
    result = ended.result
    parts = ("applied", "duplicate", "pending", "orphan", "quarantined")
    assert result["received"] == sum(result[part] for part in parts), ended.said
    # duplicates are sent again on purpose, so more is received than was promised once
    assert result["received"] >= result["decisions"] + result["outcomes"]
    assert result["duplicate"] > 0
    assert result["orphan"] == result["quarantined"] == 0


def test_policies_were_learned_published_and_swapped_while_players_played(ended: Ended) -> None:
    result = ended.result
    assert result["policies_published"] >= 2, ended.said
    assert result["policies_swapped"] >= 2, ended.said
    assert result["reward"]["uniform"] < result["reward"]["last_minute"] < result["reward"]["best"]


def test_ctrl_c_ends_it_early_with_the_figures_of_what_was_played(ended: Ended) -> None:
    assert "stopping early" in ended.said or ended.result["seconds"] >= 60 * float(MINUTES)
    assert "Traceback" not in ended.said


def test_the_tables_can_be_read_by_others(ended: Ended) -> None:
    import duckdb
    from deltalake import DeltaTable

    replay = DeltaTable(str(ended.home / "tables" / "replay")).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        connection.register("replay", replay)
        (counted,) = connection.sql("select count(distinct decision_id) from replay").fetchall()
    assert counted[0] == ended.result["experiences"]


def test_every_decision_comes_out_of_its_log_again_exactly(ended: Ended) -> None:
    found = decide_again("applications/level_difficulty.py", ended.home, 300)
    assert found["sampled"] == found["exact"] == 300, found
    assert set(found["cohorts"]) >= {"policy", "holdout"}
    assert found["policies"] >= 2


def test_one_decision_is_explained_out_of_the_tables(ended: Ended) -> None:
    from deltalake import DeltaTable

    rows = DeltaTable(str(ended.home / "tables" / "replay")).to_pyarrow_dataset()
    learned = next(
        row["decision_id"]
        for row in rows.to_table(columns=["decision_id", "policy_version"]).to_pylist()
        if row["policy_version"] > 0
    )
    words = ["explain", learned, "--application", "applications/level_difficulty.py"]
    ran = subprocess.run(
        [str(BAKEHOUSE), *words, "--home", str(ended.home)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Player simulated-" in ran.stdout
    assert "Decided again from its log, the same comes out" in ran.stdout


def test_no_process_is_left_behind(ended: Ended) -> None:
    assert processes_of(ended.home) == []
