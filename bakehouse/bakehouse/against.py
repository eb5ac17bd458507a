"""What becomes of a home when its application's file is another: `bakehouse check --against`.

Looked at before anybody restarts: what changes, whether stored rows can be encoded anew, and
whether the policy that answers can go on. Nothing in the home is touched.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.change import ContractChange, compare
from bakehouse_schemas.contracts.contract import Contract, contract_of
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.policy.bundle import Manifest, read_manifest
from bakehouse_schemas.policy.load_carried import load_policy


@dataclass(frozen=True)
class Rows:
    """Stored decisions that were tried, the newest there are.

    Args:
        tried, failed: how many; how many of them the new contract cannot take.
        reason: of the first that failed.
    """

    tried: int = 0
    failed: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Against:
    """What a changed file means for a home; plain data.

    Args:
        before: the contract that the home is of; None where it knows none.
        after: the file's.
        changes: what is different, a line each.
        rows: `same`, `encoded anew`, `lost` or `none`.
        rows_why: why they are lost, or which single ones are.
        policy: the version that answers; 0: the game's rules do.
        policy_goes_on: whether it answers on; None: none does.
        policy_notes: what is new or only about right; or why it cannot go on.
        instead: what to do where something cannot be carried over.
    """

    before: str | None
    after: str
    changes: list[str]
    rows: str
    rows_why: list[str]
    sample: Rows
    policy: int
    policy_goes_on: bool | None
    policy_notes: list[str]
    instead: list[str]

    @property
    def fits(self) -> bool:
        """Whether nothing is lost that could have been kept."""
        return self.rows != "lost" and self.policy_goes_on is not False

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self) | {"fits": self.fits}

    def lines(self) -> list[str]:
        """For people."""
        if self.before is None:
            return ["this home knows no contract of the application: nothing was learned in it"]
        if self.before == self.after:
            return [f"the same contract, {self.after}: everything goes on as it is"]
        lines = [f"contract {self.before} → {self.after}", *self.changes]
        lines.append(f"stored decisions: {self.rows}{_because(self.rows_why)}")
        if self.sample.tried:
            tried = f"{self.sample.failed:,} of the newest {self.sample.tried:,} cannot be"
            lines.append(tried + (f": {self.sample.reason}" if self.sample.reason else ""))
        if self.policy_goes_on is not None:
            words = "goes on, carried over" if self.policy_goes_on else "CANNOT GO ON"
            lines.append(f"policy {self.policy} {words}{_because(self.policy_notes)}")
        return lines + [f"instead: {line}" for line in self.instead]


def _because(reasons: list[str]) -> str:
    return f": {'; '.join(reasons)}" if reasons else ""


def against(application: Application, home: Path, sample: Rows | None = None) -> Against:
    """What becomes of a home under this application.

    Args:
        home: `Settings.home` of the stack that is to be restarted.
        sample: what came of trying stored rows; see `bakehouse_serving.explain.try_rows`.
    """
    name, after = application.name, contract_of(application)
    known = KnownContracts(home)
    answering, pinned = _answering(home, name)
    manifest = _manifest(home, name, answering)
    before = _before(home, known, after, manifest)
    foreign = manifest is not None and manifest.contract != after.fingerprint
    made_for = manifest.contract if manifest is not None else None
    if before is None:
        unknown = [f"policy {answering} is of contract {made_for}, which nothing here describes"]
        undescribed = (
            "start this release once with the file as it was, so that the home notes its contract; "
            "then change the file"
        )
        return Against(
            made_for,
            after.fingerprint,
            [],
            "lost" if foreign else "none",
            unknown if foreign else [],
            Rows(),
            answering,
            False if foreign else None,
            unknown if foreign else [],
            [undescribed] if foreign else [],
        )
    change = compare(before, after)
    sample = sample or Rows()
    goes_on, notes = _policy(home, known, after, manifest, answering)
    instead = _instead(change, sample, goes_on, pinned)
    rows = "same" if change.same else "encoded anew" if change.rows_can_be_encoded else "lost"
    if rows == "encoded anew" and sample.tried and sample.failed == sample.tried:
        rows = "lost"
    return Against(
        before.fingerprint,
        after.fingerprint,
        change.words(),
        rows,
        list(change.rows_obstacles or change.rows_doubts),
        sample,
        answering,
        goes_on,
        notes,
        instead,
    )


def _instead(change: ContractChange, sample: Rows, goes_on: bool | None, pinned: bool) -> list[str]:
    lines = []
    without = [
        one.name
        for one in (*change.features, *change.item_features)
        if one.what == "added" and not one.has_default
    ]
    if without:
        lines.append(f"give {', '.join(map(repr, without))} a default")
    if change.policy_obstacles or (change.rows_obstacles and not without):
        lines.append(
            "give the changed file another `name`: it learns from the beginning, beside the one "
            "that goes on"
        )
    if goes_on is False and pinned:
        lines.append("`bakehouse release` before the restart: a pinned version stays what it is")
    if not change.rows_obstacles and sample.tried and sample.failed == sample.tried:
        lines.append(f"mend what all of them lack: {sample.reason}")
    return lines


def _answering(home: Path, name: str) -> tuple[int, bool]:
    """The version that serving would restart with, and whether somebody pinned it."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads((home / "serving" / f"{name}.json").read_bytes())
        pinned = kept["control"].get("pinned_version")
        if pinned is not None:
            return int(pinned), True
        if kept["pointer"]:
            return int(kept["pointer"]["version"]), False
    return 0, False


def _manifest(home: Path, name: str, version: int) -> Manifest | None:
    with contextlib.suppress(BundleError):
        return read_manifest(home / "policies" / name / str(version)) if version else None
    return None


def _before(
    home: Path, known: KnownContracts, after: Contract, manifest: Manifest | None
) -> Contract | None:
    """The contract that the home is of: of what answers, else the last that was noted in it."""
    name = after.name
    if manifest is not None:
        if manifest.contract == after.fingerprint:
            return after
        return manifest.described_contract() or known.of(name, manifest.contract)
    newest = sorted(
        (home / "contracts" / name).glob("*.json"), key=lambda path: path.stat().st_mtime
    )
    found = [known.of(name, path.stem) for path in newest]
    return next((one for one in reversed(found) if one is not None), None)


def _policy(
    home: Path, known: KnownContracts, after: Contract, manifest: Manifest | None, version: int
) -> tuple[bool | None, list[str]]:
    """Whether the policy that answers goes on (None: none does), and what is to be said of it."""
    if not version:
        return None, []
    if manifest is None:
        return False, [f"its bundle, {home / 'policies' / after.name / str(version)}, is gone"]
    try:
        loaded = load_policy(
            home / "policies" / after.name / str(version),
            application=after.name,
            contract=after,
            sha256=None,
            known=lambda contract: known.of(after.name, contract),
        )
    except BundleError as error:
        return False, [str(error)]
    return True, list(loaded.notes)


def has_tables(tables: str) -> bool:
    """Whether there are rows to try, as far as a path can tell."""
    return "://" in tables or (Path(tables) / "replay" / "_delta_log").is_dir()
