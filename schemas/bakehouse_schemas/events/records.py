"""Records of Kafka, fully checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.errors import InvalidEvent, UnknownApplication, UnknownSchema
from bakehouse_schemas.events.checks import check_decision, check_outcome
from bakehouse_schemas.events.events import Control, Decision, Order, Outcome
from bakehouse_schemas.events.fields import DAY_MS
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_object
from bakehouse_schemas.ids import is_uuid7, uuid7_time_ms


def _application(applications: Mapping[str, Application], name: str) -> Application:
    found = applications.get(name)
    if found is None:
        raise UnknownApplication(
            f"application: {name!r:.80} is not served here; there are {sorted(applications)}"
        )
    return found


_LATER = re.compile(r"\.v[0-9]{1,6}$")


def _check_schema(fields: Mapping[str, Any], known: str) -> None:
    """Raise UnknownSchema where a record is of another major version of its schema."""
    came = fields.get("schema")
    if came == known or type(came) is not str:
        return
    if came.startswith(known.rpartition(".v")[0]) and _LATER.search(came):
        raise UnknownSchema(
            f"schema: {came!r:.80} came, and this release reads {known!r}; the record waits in "
            "quarantine until stream is upgraded, and is read again then (`bakehouse requeue`)"
        )


def check_id_time(decision_id: str, at_ms: int, field: str = "decision_id") -> None:
    """Raise InvalidEvent where a UUIDv7's own time is more than a day from `at_ms`."""
    if is_uuid7(decision_id) and abs(uuid7_time_ms(decision_id) - at_ms) > DAY_MS:
        raise InvalidEvent(
            f"{field}: {decision_id} carries a time more than a day from the broker's; "
            "a UUIDv7 is made with the current time; any other text will do as an id, too"
        )


def read_decision(
    value: bytes, applications: Mapping[str, Application], *, received_at_ms: int
) -> Decision:
    """A record of `decisions.v1`, fully checked. Raises InvalidEvent."""
    fields = parse_object(value)
    _check_schema(fields, "decision.v1")
    decision = validated(Decision, fields)
    check_id_time(decision.decision_id, received_at_ms)
    if decision.previous_decision_id == decision.decision_id:
        raise InvalidEvent("previous_decision_id: a decision cannot precede itself")
    check_decision(_application(applications, decision.application), decision)
    return decision


def read_outcome(
    value: bytes,
    applications: Mapping[str, Application],
    *,
    known: Mapping[str, Collection[Contract]] | None = None,
) -> Outcome:
    """A record of `outcomes.v1`, fully checked. Raises InvalidEvent.

    Args:
        known: by application, contracts that it has had before; see `check_executed`.
    """
    fields = parse_object(value)
    _check_schema(fields, "outcome.v1")
    outcome = validated(Outcome, fields)
    application = _application(applications, outcome.application)
    check_outcome(application, outcome, (known or {}).get(application.name, ()))
    return outcome


def read_control(value: bytes, *, received_at_ms: int) -> Control:
    """A control record of `policies.v1`, fully checked. Raises InvalidEvent.

    The newest control wins, so one from far ahead would outlast every other for good.

    Args:
        received_at_ms: the broker's time of the record.
    """
    control = validated(Control, parse_object(value))
    if control.at_ms > received_at_ms + DAY_MS:
        raise InvalidEvent(
            f"at_ms: {control.at_ms} is more than a day ahead of the broker's {received_at_ms}; "
            "the controls of before stay in force"
        )
    return control


def read_order(value: bytes, *, received_at_ms: int) -> Order:
    """An order to stream of `policies.v1`, fully checked. Raises InvalidEvent.

    Args:
        received_at_ms: the broker's time of the record.
    """
    order = validated(Order, parse_object(value))
    if order.at_ms > received_at_ms + DAY_MS:
        raise InvalidEvent(
            f"at_ms: {order.at_ms} is more than a day ahead of the broker's {received_at_ms}; "
            "the order is not carried out"
        )
    return order
