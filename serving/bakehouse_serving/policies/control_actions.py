"""What an operator can ask of a policy, and what each action changes in the control. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.events import Control
from bakehouse_serving.policies.audit_log import HEARD

ACTIONS = ("promote", "rollback", "freeze", "release", "kill", "revive", "explore", "retrain")
NAME_A_VERSION = ("promote", "rollback")


class Change(NamedTuple):
    """A control that is in force, and the one that it replaced.

    Args:
        action: one of `ACTIONS`, or `HEARD` where another process has carried it out.
    """

    action: str
    control: Control
    before: Control

    @property
    def may_load(self) -> bool:
        """Whether another policy may have to be loaded now."""
        then, now = self.before, self.control
        return (then.pinned_version, then.frozen) != (now.pinned_version, now.frozen)

    @property
    def reason(self) -> str:
        """Why the slot changed, for the list of swaps."""
        if self.action == HEARD:
            return reason_of(self.control)
        return f"{self.action} by {self.control.by or 'someone'}"


def reason_of(control: Control) -> str:
    """The same of a control that came from Kafka, where its action is not known."""
    who = f"control by {control.by or 'someone'}"
    return f"{who}: {control.why}" if control.why else who


def check_arguments(action: str, version: int | None, share: float | None) -> None:
    """Refuse an action that lacks its version, or comes with something that it has no use for.

    Raises:
        InvalidEvent: with what was expected.
    """
    if share is not None and action != "explore":
        raise InvalidEvent(f"share: {action} takes none, got {share}")
    if version is None and action == "promote":
        raise InvalidEvent("version: missing; name the version to serve until released")
    if version is not None and action not in NAME_A_VERSION:
        raise InvalidEvent(f"version: {action} takes none, got {version}")


def apply_action(
    before: Control,
    action: str,
    *,
    version: int | None,
    share: float | None,
    by: str,
    why: str,
    at_ms: int,
) -> Control:
    """The control after an action.

    Args:
        version: of promote and rollback.
        share: of uniform choice, of explore; None: as the application says again.
    """
    changes: dict[str, dict[str, Any]] = {
        "promote": {"pinned_version": version},
        "rollback": {"pinned_version": version},
        "freeze": {"frozen": True},
        "release": {"pinned_version": None, "frozen": False, "released_at_ms": at_ms},
        "kill": {"killed": True},
        "revive": {"killed": False},
        "explore": {"explore_share": share},
        "retrain": {"retrain_at_ms": at_ms},
    }
    return before.model_copy(update=changes[action] | {"by": by, "why": why, "at_ms": at_ms})
