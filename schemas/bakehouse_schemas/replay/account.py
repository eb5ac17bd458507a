"""What becomes of every Kafka position that was consumed: the equation that may fail.

`received`, counted from offsets alone, is the sum of the others. `no_record` is there only where
there were such positions: ends of transactions, and records of those that were aborted.
"""

from __future__ import annotations

from collections.abc import Mapping

OUTCOMES = ("applied", "duplicate", "pending", "orphan", "quarantined")
NO_RECORD = "no_record"


def terms(account: Mapping[str, int]) -> dict[str, int]:
    """What the positions have become, and how many each; those without a record where any are."""
    found = {outcome: account.get(outcome, 0) for outcome in OUTCOMES}
    return found | ({NO_RECORD: account[NO_RECORD]} if account.get(NO_RECORD) else {})


def unaccounted(account: Mapping[str, int]) -> int:
    """How many of the positions received are missing; anything but 0 is a fault."""
    return account.get("received", 0) - sum(terms(account).values())
