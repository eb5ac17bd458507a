"""Contracts that a home has known: `<home>/contracts/<application>/<contract>.json`.

Serving, stream and learner note the contract of each application when they start. So a row, a
label or a policy of before the application's file was changed can be told from one that was never
there.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract, contract_of, read_contract
from bakehouse_schemas.errors import UnreadableContract
from bakehouse_schemas.process.durable import sync_data, sync_path

log = logging.getLogger(__name__)

_MOST_BYTES = 64 << 20  # of a description: far above what an application can describe


class KnownContracts:
    """The contracts of one home, on disk. Any thread and process may write and read.

    Args:
        home: `Settings.home`; nothing needs to be there.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "contracts"

    def note(self, name: str, contract: Application | Contract) -> None:
        """Keep a contract of the application `name`; on return it survives a power cut.

        Raises:
            OSError: the disk refuses; what was known stays known.
        """
        noted = contract_of(contract)
        folder = self._folder / name
        path = folder / f"{noted.fingerprint}.json"
        text = json.dumps(noted.described(), indent=1).encode()
        try:
            if path.read_bytes() == text:
                return
        except OSError:
            pass  # not there, or it cannot be read: written anew
        for made in (self._folder, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = folder / f".{path.name}.{os.getpid()}"
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            sync_data(file.fileno())
        aside.replace(path)
        sync_path(folder)

    def known(self, name: str) -> dict[str, Contract]:
        """The contracts that the application `name` has had here, by fingerprint.

        What cannot be read, torn or another's, is passed over.
        """
        found = {}
        folder = self._folder / name
        try:
            paths = sorted(folder.glob("*.json"))
        except OSError:
            return {}
        for path in paths:
            if (contract := self._read(path, name)) is not None:
                found[contract.fingerprint] = contract
        return found

    def of(self, name: str, fingerprint: str) -> Contract | None:
        """One contract; None where it was never noted here, or cannot be read."""
        if not fingerprint.isalnum():  # from outside: no way out of the folder
            return None
        return self._read(self._folder / name / f"{fingerprint}.json", name)

    def noted_ns(self, name: str) -> int | None:
        """When something was noted of an application last; None where nothing was."""
        try:
            return (self._folder / name).stat().st_mtime_ns
        except OSError:
            return None

    def labels(self, name: str) -> frozenset[str]:
        """Every label that the application has had here: `label`, of parts `part=label`."""
        return frozenset(
            label
            for contract in self.known(name).values()
            if contract.shape.segments
            for label in contract.choices
        )

    def _read(self, path: Path, name: str) -> Contract | None:
        try:
            if path.stat().st_size > _MOST_BYTES:
                return None
            contract = read_contract(json.loads(path.read_bytes()), name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, UnreadableContract) as error:
            log.warning("%s is passed over (%s)", path, error)
            return None
        return contract if contract.fingerprint == path.stem else None


class OtherContracts:
    """Contracts of an application beside the one that it has now, whose labels are no mistakes.

    Those that it had before; and, while parts roll, those that other parts already have.
    """

    def __init__(self, known: KnownContracts, application: Application) -> None:
        self._known = known
        self._application = application
        self._seen: int | None = None
        self.found: tuple[Contract, ...] = ()
        self.look()

    def look(self) -> None:
        """See whether another was noted since; costs one look at a folder where none was."""
        name = self._application.name
        if (seen := self._known.noted_ns(name)) == self._seen:
            return
        self._seen = seen
        self.found = tuple(
            contract
            for fingerprint, contract in self._known.known(name).items()
            if fingerprint != self._application.contract
        )


def note_contracts(home: Path, applications: Iterable[Application]) -> KnownContracts:
    """Note the contracts of these applications at a part's start; see `KnownContracts`.

    A disk that refuses costs what is known later, not the start.
    """
    known = KnownContracts(home)
    for application in applications:
        try:
            known.note(application.name, application)
        except OSError as error:
            log.warning(
                "%s: contract %s is not noted: %s", application.name, application.contract, error
            )
    return known
