"""Which outcomes does anything count? The rest is kept, and nothing is learned from it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bakehouse_schemas.application.application import Application

MOST_SPELT = 64  # characters of a name that is compared with others
MOST_COMPARED = 200  # names that it is compared with, but for their case


class Counted(NamedTuple):
    """What an application counts.

    Args:
        names: of outcomes of kind `reward` that its reward or a guardrail counts; None: its reward
            is a function, which may count any.
        activations: its reward asks for outcomes of kind `activated`.
    """

    names: frozenset[str] | None
    activations: bool

    def counts(self, kind: str, name: str | None) -> bool:
        """Whether an outcome can change anything. `executed` and `end` always do."""
        if kind == "reward":
            return self.names is None or name in self.names
        return kind != "activated" or self.activations


def counted_by(application: Application) -> Counted:
    """See `Counted`."""
    weights = application.reward.weights
    if callable(weights):
        return Counted(None, application.reward.activation)
    guarded = (guardrail.outcome for guardrail in application.gate.guardrails)
    return Counted(frozenset({*weights, *guarded}), application.reward.activation)


def meant(name: str, names: frozenset[str]) -> str | None:
    """The one of `names` that a misspelt name may have meant, in whatever case it is written."""
    if len(name) > MOST_SPELT:
        return None
    folded, by_folded = name.casefold(), {one.casefold(): one for one in names}
    if folded in by_folded or len(names) > MOST_COMPARED:
        return by_folded.get(folded)
    close = get_close_matches(folded, by_folded, n=1)
    return by_folded[close[0]] if close else None
