"""`python -m bakehouse_stream.requeue REF…`: quarantine read again, of a home that stands still.

`bakehouse requeue` runs it and holds the home's lock meanwhile: the tables have one writer. Neither
Spark nor Kafka takes part; pairs that the join did not see come about when stream runs again. The
last line is a JSON object with what came of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.errors import BakehouseError, StackError
from bakehouse_schemas.loading import load_applications
from bakehouse_schemas.process.logs import set_up_logs
from bakehouse_schemas.process.private import write_privately
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_schemas.replay.account import NO_RECORD
from bakehouse_stream.tables.running_account import RunningAccount
from bakehouse_stream.tables.tables import add_columns, tables_exist
from bakehouse_stream.tables.text_ids import text_ids_of
from bakehouse_stream.upkeep.quarantined import Wish
from bakehouse_stream.upkeep.requeue import requeue_of


def requeue(settings: Settings, refs: list[str], wish: Wish) -> dict[str, Any]:
    """Read quarantine again and write the account anew; returns what came of it.

    Raises:
        StackError: the home has no tables.
    """
    if not tables_exist(settings):
        raise StackError(f"{settings.tables}: there are no tables; no stack has run there yet")
    applications = {name: one.application for name, one in load_applications(refs).items()}
    note_contracts(settings.home, applications.values())
    add_columns(settings)
    text_ids = text_ids_of(
        settings.home, applications.values(), retention_days=settings.replay_retention_days
    )
    mine = requeue_of(settings, applications, text_ids)
    mine.ask(wish)
    mine.step()
    return {**mine.status, "account": _account(settings)}


def _account(settings: Settings) -> dict[str, Any] | None:
    """The account as of the last clean stop, settled anew; None where there was none."""
    file = settings.home.resolve() / "stream" / "account.json"
    try:
        last = json.loads(file.read_text())
        at, stream_time_ms = last["at"], last.get("stream_time_ms", 0)
    except (FileNotFoundError, ValueError, KeyError):
        return None
    settled = RunningAccount(settings, settings.home).settle(
        until=at, stream_time_ms=stream_time_ms, no_record=last.get(NO_RECORD, 0)
    )
    aside = file.with_suffix(".aside")
    aside.write_text(json.dumps(last | settled))
    aside.replace(file)
    return settled


def main(arguments: list[str] | None = None) -> int:
    """Requeue and exit: 0, or 2 with an error's kind and message as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bakehouse_stream.requeue", description=__doc__)
    parser.add_argument("refs", nargs="+", metavar="REF")
    parser.add_argument("--application", help="records that name it alone")
    parser.add_argument("--all", action="store_true", help="also what does not wait")
    options = parser.parse_args(arguments)
    set_up_logs("stream", "text", to=sys.stderr)
    try:
        settings = load_settings()
        write_privately()
        wish = Wish(options.application, options.all, time.time_ns() // 1_000_000)
        answer = requeue(settings, options.refs, wish)
    except BakehouseError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))  # noqa: T201
        return 2
    print(json.dumps(answer))  # noqa: T201 - this is what was asked for
    return 0


if __name__ == "__main__":
    sys.exit(main())
