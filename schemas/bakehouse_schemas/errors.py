"""The exception tree: everything that Bakehouse raises on purpose.

A message says what came, what was expected, and what remains true.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Waits = Literal["application", "schema", "label"]  # why a record in quarantine is read again


class BakehouseError(Exception):
    """Anything that Bakehouse refuses to do, with the reason."""

    # a subject, a context or a payload may stand in the text: an answer may say it, no log may
    quotes_what_came: ClassVar[bool] = False


class ApplicationError(BakehouseError):
    """An application says something impossible, or cannot be loaded."""


class BaselineFailed(ApplicationError):
    """The game's rules have no answer to a context."""

    quotes_what_came = True


class SettingsError(BakehouseError):
    """A setting has a value that no part can work with."""


class InvalidEvent(BakehouseError):
    """A request body or a Kafka record is not what its schema says."""

    quotes_what_came = True
    # what this process does not know and another release, or another page, may: the record is read
    # again when it does. None: it is simply wrong
    waits: ClassVar[Waits | None] = None


class InvalidContext(InvalidEvent):
    """A context lacks a feature, or holds a value that its feature cannot take."""


class UnknownApplication(InvalidEvent):
    """The named application is not one that this process serves."""

    waits = "application"


class UnknownSchema(InvalidEvent):
    """A record of a major version that this release does not read."""

    waits = "schema"


class UnknownLabel(InvalidEvent):
    """An action of the right shape that is none of this contract: another one may have it."""

    waits = "label"


class NotRecomputable(BakehouseError):
    """A decision's log, or the policies that are left, do not say enough to decide it again."""


class DecisionNotFound(BakehouseError):
    """No table holds a decision of this id; with what that may mean."""


class InvalidHistory(BakehouseError):
    """A file of past decisions is not laid out as its description says; nothing was learned."""

    quotes_what_came = True


class BundleError(BakehouseError):
    """A policy bundle cannot be used; the policy in use stays."""


class BundleCorrupt(BundleError):
    """A file is missing, truncated, or differs from its recorded hash."""


class ContractMismatch(BundleError):
    """The bundle was made for another observation, action set or problem kind."""


class UnreadableContract(BakehouseError):
    """A contract's description is damaged, or of a kind that this release does not know."""


class UnsupportedOperation(BundleError):
    """The network holds an operation outside the bundle's closed vocabulary."""


class SpoolFull(BakehouseError):
    """The spool has reached its bound; nothing was written."""


class StackError(BakehouseError):
    """The local stack cannot start or go on."""


class HomeInUse(StackError):
    """Another running stack holds the lock of this home."""


class MissingDependency(StackError):
    """Java, a jar or an extra that this command needs is not there."""
