"""A spool, and a disk, that is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from tests.faults.beside import Server, hold, wait_until
from tests.faults.rig import BASE, Measured, Rig

NOBODY = "127.0.0.1:1"  # nobody answers there
SPOOL_LIMIT = 256 << 10
DISK_BYTES = 8 << 20


def spool_full(rig: Rig) -> Measured:
    """The spool is full: decisions are the baseline's and not learned from, outcomes get 503."""
    settings = Settings(
        home=rig.scratch / "small",
        kafka_bootstrap=NOBODY,
        spool_bytes=SPOOL_LIMIT,
    )
    server = Server(settings, rig.scratch / "small.log", failpoints=rig.scratch / "none")
    return _fill(rig, server)


def disk_full(rig: Rig) -> Measured:
    """The disk (8 MB) is full: the same, a kill switch works, and all goes on once it has room."""
    disk = rig.scratch / "disk"
    with small_disk(disk):
        settings = Settings(home=disk / "home", kafka_bootstrap=NOBODY)
        server = Server(settings, rig.scratch / "disk.log", failpoints=rig.scratch / "none")
        return _fill(rig, server, kill_switch=True, disk=disk)


def _fill(
    rig: Rig, server: Server, *, kill_switch: bool = False, disk: Path | None = None
) -> Measured:
    """Fill a server's spool while its broker is nowhere, then let it drain into the real one.

    Args:
        disk: filled to its last byte before the server is killed.
    """
    server.start()
    logged: list[str] = []
    unlogged: list[str] = []
    pad = "x" * 500
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while len(unlogged) < 500:
            asked = [
                {
                    "subject_id": f"full-{len(logged)}-{at}-{pad[:100]}",
                    "context": {"skill": 0.5, "losses": 0, "segment": "new"},
                }
                for at in range(100)
            ]
            answer = client.post(f"{BASE}/decisions:batch", json={"decisions": asked})
            hold(answer.status_code == 200, f"a decision was answered {answer.status_code}")
            for one in answer.json()["decisions"]:
                (logged if one["logged"] else unlogged).append(one["decision_id"])
                if not one["logged"]:
                    plain = one["action"] == "easy" and one["propensity"] == 1.0
                    hold(plain, f"with a full spool the answer was {one}")
        told = [{"decision_id": d, "name": "won", "outcome_id": uuid7()} for d in logged[:5_000]]
        refused = client.post(f"{BASE}/outcomes", json={"outcomes": told})
        hold(refused.status_code == 503, f"an outcome was answered {refused.status_code}")
        hold("retry-after" in refused.headers, "a 503 without Retry-After")
        if kill_switch:
            for verb in ("kill", "revive"):
                said = client.post(f"{BASE}/policy:{verb}", json={"by": "test", "why": "full"})
                hold(said.status_code < 300, f"{verb} on a full disk was answered {said.text}")
                state = client.get(f"{BASE}/status").json()
                hold(state["killed"] == (verb == "kill"), f"{verb} did nothing")
        rig.unlogged.update(unlogged)
    if disk is not None:
        fill_up(disk / "what others keep")
    server.kill()
    rig.kills += 1
    server.settings = server.settings.model_copy(
        update={"kafka_bootstrap": rig.settings.kafka_bootstrap}
    )
    server.start()
    recovered = server.status()["spool"]["recovered"]
    wait_until(lambda: server.status()["spool"]["events"] == 0, "the spool drains", patience_s=120)
    rig.acknowledged += [(decision_id, "") for decision_id in logged]
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for at in range(0, len(told), 500):
            part = told[at : at + 500]

            def accepted(part: list[dict[str, str]] = part) -> bool:
                return client.post(f"{BASE}/outcomes", json={"outcomes": part}).status_code == 202

            wait_until(accepted, "outcomes are taken again")
            rig.acknowledged += [(one["decision_id"], one["outcome_id"]) for one in part]
        body = {"subject_id": "after", "context": {"skill": 0.5, "losses": 0, "segment": "new"}}
        after = client.post(f"{BASE}/decisions", json=body).json()
        hold(after["logged"], "decisions are not logged again, though the spool has drained")
        rig.acknowledged.append((after["decision_id"], ""))
    wait_until(lambda: server.status()["spool"]["events"] == 0, "the spool drains", patience_s=120)
    server.stop()
    return {"logged": len(logged), "unlogged": len(unlogged), "recovered": recovered}


def fill_up(file: Path) -> None:
    """Leave no byte on the disk that this file is on."""
    with file.open("ab", buffering=0) as full, suppress(OSError):
        while full.write(bytes(4096)):
            pass


@contextmanager
def small_disk(folder: Path, size: int = DISK_BYTES) -> Iterator[None]:
    """A file system of its own that is soon full."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "bakehouse-faults", str(folder)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
