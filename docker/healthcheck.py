"""Whether the part of this container does its work: exit status 0, else 1 and why.

    python -I -S healthcheck.py serving|stream|learner

The standard library alone, and little of it: this runs every few seconds, for ever.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HOME = Path(os.environ.get("BAKEHOUSE_HOME", ".bakehouse"))


def problem(part: str) -> str | None:
    """What is wrong with a part; None: nothing."""
    file = HOME / "run" / f"{part}.json"
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError):
        return f"{part} has announced nothing in {file} yet"
    if not announced_by_living(said):
        return f"{file} is of a process that is no more; {part} has announced nothing since"
    if said["phase"] != "ready":
        return f"{part} is at {said['phase']!r}"
    return answers(str(said["url"])) if part == "serving" else None


def announced_by_living(said: dict[str, Any]) -> bool:
    """Whether its process lives, and began before it spoke: ids are soon used again."""
    try:
        stat = Path(f"/proc/{said['pid']}/stat").read_text()
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return False
    began = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")  # since the boot
    return bool(said["at"] >= time.time() - (uptime_s - began) - 1.0)


def answers(url: str) -> str | None:
    """Serving is asked by HTTP, on the loopback whatever it listens on."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=2)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"serving does not answer at {url}: {error}"
    return None if status == 200 else f"serving answers {status} at {url}/readyz"


if __name__ == "__main__":
    if wrong := problem(sys.argv[1]):
        sys.exit(wrong)
