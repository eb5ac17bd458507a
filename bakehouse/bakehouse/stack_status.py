"""What the commands that only look find out: status, policies, logs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bakehouse.local.home import read_run
from bakehouse.local.part import last_lines
from bakehouse.stack_client import Target, find_target, get
from bakehouse_schemas.errors import BakehouseError, BundleError, StackError
from bakehouse_schemas.policy.bundle import MANIFEST, Manifest, read_manifest
from bakehouse_schemas.process.phase import PhaseFile
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.account import terms, unaccounted

PARTS = ("broker", "serving", "stream", "learner")
FOLLOW_TICK_S = 0.2


def stack_status(settings: Settings, *, url: str | None, application: str | None) -> dict[str, Any]:
    """The parts of the stack that runs in the home (or at `url`), and what serving says.

    Raises:
        StackError: none runs, or it does not serve that application; or a `url` is given and
            nothing answers there.
    """
    if url is not None:
        target = find_target(settings, url=url, application=application)
        return {"url": url, "applications": {target.application: get(target, "status")}}
    run = read_run(settings.home)
    if application is not None and application not in run.names:
        raise StackError(
            f"{application!r} is not served by the stack in {settings.home}; there is "
            f"{', '.join(run.names)}"
        )
    result: dict[str, Any] = {
        "url": run.url,
        "kafka_bootstrap": run.kafka_bootstrap,
        "pid": run.pid,
        "started": instant(run.started_at_ms),
        "parts": {},
        "applications": {},
    }
    for part in PARTS:
        announced = PhaseFile(settings.home, part).read()
        result["parts"][part] = {
            "phase": announced["phase"] if announced else "waiting",
            "pid": run.parts.get(part),
        }
    for name in [application] if application else run.names:
        try:
            result["applications"][name] = get(Target(run.url, name, settings), "status")
        except BakehouseError as error:  # the parts are worth showing all the same
            result["applications"][name] = {"problem": str(error)}
    return result


def status_words(status: dict[str, Any]) -> dict[str, Any]:
    """The same, short: one line for each part and application."""
    words = {name: its for name, its in status.items() if not isinstance(its, dict)}
    for part, its in status.get("parts", {}).items():
        words[part] = its["phase"] + (f" (process {its['pid']})" if its["pid"] else "")
    for application, its in status["applications"].items():
        words[application] = application_words(application, its)
    return words


def application_words(application: str, its: dict[str, Any]) -> str:
    """How one application does, a line for each question: the verdict, then freshness."""
    if "problem" in its:
        return str(its["problem"])
    fresh = its.get("freshness_s") or {}
    seen = its.get("verdict") or {}
    then = str(seen.get("next") or "")
    said = [one for one in (str(seen.get("sentence") or ""), then[:1].upper() + then[1:]) if one]
    if seen.get("simulated"):
        said.append("(simulated players)")
    lines = [" ".join(said)] if said else []
    lines += [
        f"freshness {fresh['p50']:.1f} s (1 in 20 above {fresh['p95']:.1f} s; the last minute)"
        if fresh.get("n")
        else "freshness –  (no newer policy answered in the last minute)",
        policy_words(its),
        f"{its.get('decisions', 0):,} decisions and {its.get('outcomes', 0):,} outcomes since "
        f"the start; refused: {its.get('invalid', 0):,} and {its.get('rejected', 0):,}",
    ]
    lines += uncounted_words(its)
    parts = sorted(its.get("parts", {}).values(), key=lambda record: record.get("at_ms", 0))
    newest = {record.get("part"): record for record in parts}
    learned = newest.get("learner", {}).get("applications", {}).get(application, {})
    if reason := (learned.get("gate") or {}).get("reason"):
        lines.append(f"learner: {learned.get('experiences', 0):,} experiences; {reason}")
    if carried := learned.get("carried"):
        notes = "; ".join(carried["notes"]) or "there is nothing that it does not know"
        lines.append(f"carried over from contract {carried['from_contract']}: {notes}")
    if learned.get("apprentice"):
        lines.append(f"apprentice: matches the rules in {learned['match_rate']:.1%} of decisions")
    if (compression := learned.get("compression")) and compression["drifted"]:
        lines.append(
            f"OBSERVATIONS HAVE CHANGED: the compression loses {compression['lost_now']:.0%} of "
            f"them, {compression['lost_when_fitted']:.0%} when it was fitted; `bakehouse reset` "
            "fits anew"
        )
    if account := newest.get("stream", {}).get("account"):
        ends = terms(account).items()
        adds_up = " + ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in ends)
        left = unaccounted(account)
        missing = f"; {left:,} UNACCOUNTED FOR" if left else ""
        lines.append(f"stream: {account['received']:,} received = {adds_up}{missing}")
    lines += [
        f"{stage['title']} is {stage['level']}: {stage['do']}"
        for stage in its.get("pipe", ())
        if stage["level"] in ("busy", "blocked") and stage["do"] not in then
    ]
    return "\n".join(lines)


def uncounted_words(its: dict[str, Any]) -> list[str]:
    """Outcomes that nothing counts, by name; no line where there are none."""
    if not its.get("uncounted"):
        return []
    named = [
        f"{one['name']} × {one['count']:,}"
        + (f" (did you mean {one['meant']}?)" if one["meant"] else "")
        for one in its.get("uncounted_names", ())
    ]
    return [f"{its['uncounted']:,} outcomes are COUNTED BY NOTHING: {', '.join(named)}"]


def policy_words(its: dict[str, Any]) -> str:
    """Which policy answers, and what people have said about it."""
    words = [f"policy {its['policy_version']}"]
    if its.get("newest_version") not in (None, its["policy_version"]):
        words.append(f"the newest is {its['newest_version']}")
    if 0 < its.get("canary", 1.0) < 1:
        words.append(f"a canary for {its['canary']:.0%} of subjects")
    words += [state for state in ("killed", "frozen") if its.get(state)]
    if its.get("pinned_version") is not None:
        words.append(f"pinned to {its['pinned_version']}")
    if its.get("explore_share") is not None:
        words.append(f"{its['explore_share']:.0%} uniform by hand")
    if its.get("swaps") is not None:
        words.append(f"{its['swaps']:,} swap{'' if its['swaps'] == 1 else 's'}")
    if carried := its.get("carried_over"):
        notes = f": {'; '.join(carried['notes'])}" if carried["notes"] else ""
        words.append(f"made for contract {carried['made_for']} and carried over{notes}")
    if refused := its.get("refused_policy"):
        words.append(f"{refused['version']} was refused: {refused['reason']}")
    return ", ".join(words)


def published_policies(
    settings: Settings, *, url: str | None, application: str | None, limit: int
) -> dict[str, Any]:
    """The bundles in the home, newest first, and what answers where a stack runs."""
    folders = sorted(p for p in settings.policies.glob("*") if p.is_dir())
    names = [application] if application else [folder.name for folder in folders]
    if url is None:
        try:
            run = read_run(settings.home)
        except StackError as error:
            if not names:
                raise StackError(f"no policy was published there, and {error}") from None
        else:
            url = run.url
            names = names if application else sorted({*names, *run.names})
    elif not names:
        names = [find_target(settings, url=url, application=None).application]
    return {
        "applications": {
            name: {
                "answering": answering(settings, url, name),
                "policies": [row(m) for m in manifests(settings.policies / name)[:limit]],
            }
            for name in names
        }
    }


def answering(settings: Settings, url: str | None, application: str) -> str:
    """What serving says of its policy, in words."""
    if url is None:
        return "no stack runs"
    try:
        policy = get(Target(url.rstrip("/"), application, settings), "policy")
    except BakehouseError as error:
        return str(error)
    return policy_words(policy)


def manifests(folder: Path) -> list[Manifest]:
    """The readable manifests of an application's bundles, newest first."""
    found = []
    for path in folder.glob(f"[0-9]*/{MANIFEST}"):
        try:
            found.append(read_manifest(path.parent))
        except BundleError:  # being removed, or foreign: serving refuses it with the reason
            continue
    return sorted(found, key=lambda manifest: manifest.version, reverse=True)


def row(manifest: Manifest) -> dict[str, Any]:
    """One policy as a line of the list."""
    return {
        "version": manifest.version,
        "agent": manifest.agent,
        "contract": manifest.contract,
        "created": instant(manifest.created_at_ms),
        "experiences": manifest.experiences,
        "replaces": manifest.previous,
        "anchor": manifest.anchor,
        "gate": manifest.gate.get("reason") or manifest.gate.get("decision") or "",
    }


def instant(at_ms: int) -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def follow_logs(
    folder: Path, part: str | None, *, lines: int, follow: bool
) -> Iterator[tuple[str, str]]:
    """(part, line) of the last lines of each log, and then of those that come.

    Raises:
        StackError: there is no such log.
    """
    files = sorted(folder.glob("*.log")) if part is None else [folder / f"{part}.log"]
    missing = [file for file in files if not file.is_file()]
    if not files or missing:
        there = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none"
        other = "" if there != "none" else "; name another home with --home"
        raise StackError(f"no log of {part or 'any part'} in {folder}; there is: {there}{other}")
    ends = {file: file.stat().st_size for file in files}
    for file in files:
        if lines:
            for line in last_lines(file, lines).splitlines():
                yield file.stem, line
    clock = threading.Event()
    while follow:
        for file in files:
            size = file.stat().st_size
            ends[file] = min(ends[file], size)  # set aside in between: begin again
            with file.open("rb") as stream:
                stream.seek(ends[file])
                come = stream.read()
            whole = come[: come.rfind(b"\n") + 1]
            ends[file] += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                yield file.stem, line
        clock.wait(FOLLOW_TICK_S)
