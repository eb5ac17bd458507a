"""A home of an earlier release starts under this one, and goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from deltalake import DeltaTable

from tests.homes import OF_2026_11
from tests.waiting import wait_until

pytestmark = pytest.mark.full

BAKEHOUSE = Path(sys.executable).with_name("bakehouse")
DECISIONS = 400
APPLICATION = "/v1/applications/level-difficulty"


def counted(home: Path) -> tuple[int, int]:
    """Decisions in the table, and rows of them."""
    replay = DeltaTable(str(home / "tables" / "replay")).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        connection.register("replay", replay)
        found = connection.execute(
            "SELECT count(DISTINCT decision_id), count(*) FROM replay WHERE observation IS NOT NULL"
        ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def received(client: httpx.Client) -> int:
    """What stream says that it has read, of this start and all before."""
    parts = client.get("/status").json()["parts"]
    accounts = [part["account"] for name, part in parts.items() if name.startswith("stream/")]
    return max((account["received"] for account in accounts if account), default=0)


class Continued:
    """What came of a home that was played in again."""

    def __init__(self, home: Path) -> None:
        self.before = counted(home)
        log = home.with_suffix(".log")
        command = [str(BAKEHOUSE), "up", OF_2026_11.ref, "--home", str(home), "--port", "0"]
        with (
            log.open("w") as said,
            subprocess.Popen(
                [*command, "--json"], stdout=subprocess.PIPE, stderr=said, text=True
            ) as stack,
        ):
            try:
                assert stack.stdout is not None
                for line in stack.stdout:
                    if "url" in (told := json.loads(line)):
                        break
                self._play(told["url"])
            finally:
                stack.send_signal(signal.SIGINT)
                stack.stdout.read()  # type: ignore[union-attr]
            self.exit_status = stack.wait()
        self.said = log.read_text()
        self.account = json.loads((home / "stream" / "account.json").read_text())
        self.after = counted(home)
        log.unlink()

    @property
    def came(self) -> int:
        """Decisions and outcomes that were acknowledged."""
        return int(self.played["decisions"] + self.played["outcomes"])

    def _play(self, url: str) -> None:
        with httpx.Client(base_url=url + APPLICATION, timeout=30) as client:

            def policy() -> dict[str, Any]:
                found: dict[str, Any] = client.get("/policy").json()
                return found

            self.first_version = policy()["policy_version"]
            players = [str(BAKEHOUSE), "simulate", OF_2026_11.ref, f"--url={url}", "--json"]
            played = subprocess.run(
                [*players, f"--decisions={DECISIONS}", "--rate=40"],
                env=os.environ,
                capture_output=True,
                text=True,
                check=False,
            )
            assert played.returncode == 0, played.stderr
            self.played = json.loads(played.stdout.splitlines()[-1])
            wait_until(
                lambda: received(client) >= OF_2026_11.received + self.came,
                "the stream has read what came",
                patience_s=400.0,
                every_s=0.5,
            )
            wait_until(
                lambda: policy()["policy_version"] > OF_2026_11.policy_version,
                "a policy that has learned more answers",
                patience_s=400.0,
                every_s=0.5,
            )


@pytest.fixture(scope="module")
def continued() -> Iterator[Continued]:
    with OF_2026_11.unpacked() as home:
        yield Continued(home)


@pytest.mark.timeout(1000)
def test_its_last_policy_answers_at_once(continued: Continued) -> None:
    assert continued.exit_status == 0, continued.said
    assert continued.first_version == OF_2026_11.policy_version


def test_its_account_goes_on_and_adds_up(continued: Continued) -> None:
    account = continued.account
    assert account["received"] >= OF_2026_11.received + continued.came
    parts = ("applied", "duplicate", "pending", "orphan", "quarantined")
    assert account["received"] == sum(account[part] for part in parts)
    assert account["pending"] == account["orphan"] == account["quarantined"] == 0


def test_its_table_holds_what_it_held_and_what_came(continued: Continued) -> None:
    assert continued.before[0] == OF_2026_11.decisions
    assert continued.after[0] == OF_2026_11.decisions + continued.played["decisions"]
