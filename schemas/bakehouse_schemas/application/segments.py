"""Segment rules: a table from what the game knows of a player to an action, as a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakehouse_schemas.application.observation import Categorical, Feature
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.numbers import in_short, is_finite


@dataclass(frozen=True, init=False)
class Segments:
    """A baseline that looks an action up by one field of the context, or by several.

    `Segments("timezone", {"europe": "h18"}, default="h12")`, or with several fields
    `Segments(("timezone", "payer"), {("europe", True): "h18"}, default="h12")`.

    Args:
        fields: a name, or a tuple of names; they need not be part of the observation.
        actions: segment to action; with several fields a segment is a tuple, in their order.
        default: for every context whose segment is not in the table, or incomplete.

    Raises:
        ApplicationError: no table, or a segment that is not a value (a tuple of them).
    """

    fields: tuple[str, ...]
    actions: Mapping[tuple[Any, ...], Any]
    default: Any

    def __init__(
        self, fields: str | Sequence[str], actions: Mapping[Any, Any], *, default: Any
    ) -> None:
        single = isinstance(fields, str)
        names: tuple[str, ...] = ()
        if isinstance(fields, str):
            names = (fields,)
        elif isinstance(fields, Iterable):
            names = tuple(fields)
        if not names or len(set(names)) != len(names) or not all(isinstance(n, str) for n in names):
            raise ApplicationError(
                f"Segments({in_short(fields)}, …): expected the name of a field of the context, or "
                "a tuple of different names, such as ('timezone', 'payer')"
            )
        if not isinstance(actions, Mapping) or not actions:
            raise ApplicationError(
                f"Segments({in_short(fields)}, {in_short(actions)}): expected a table of segments "
                "to actions, such as {'europe': 'h18'}"
            )
        table: dict[tuple[Any, ...], Any] = {}
        for segment, action in actions.items():
            key = (segment,) if single else segment
            if (
                not isinstance(key, tuple)
                or len(key) != len(names)
                or not all(isinstance(part, (str, bool)) or is_finite(part) for part in key)
            ):
                wanted = "a text, a number or a boolean" if single else f"a tuple of {len(names)}"
                raise ApplicationError(
                    f"Segments({in_short(fields)}, {{{in_short(segment)}: …}}): expected {wanted}, "
                    f"what the context holds under {' and '.join(names)}"
                )
            table[key] = action
        object.__setattr__(self, "fields", names)
        object.__setattr__(self, "actions", table)
        object.__setattr__(self, "default", default)

    def __call__(self, context: Mapping[str, Any]) -> Any:
        """The action of this context's segment."""
        try:
            return self.actions.get(tuple(map(context.get, self.fields)), self.default)
        except TypeError:  # a list or an object under that name: no segment
            return self.default

    def check(
        self, observation: Sequence[Feature], answered: Callable[[Mapping[str, Any]], Any]
    ) -> None:
        """Refuse what can never be answered, or never be met, in one application.

        Args:
            answered: the application's baseline path: raises ApplicationError on no action.

        Raises:
            ApplicationError: naming the segment.
        """
        closed = {f.name: f.values for f in observation if isinstance(f, Categorical) and f.values}
        for segment in self.actions:
            for name, value in zip(self.fields, segment, strict=True):
                if name in closed and value not in closed[name]:
                    raise ApplicationError(
                        f"Segments: no player is in the segment {_shown(self.fields, segment)}: "
                        f"expected one of {list(closed[name])} for {name}"
                    )
            self._answer(dict(zip(self.fields, segment, strict=True)), answered)
        self._answer({}, answered)

    def _answer(
        self, context: Mapping[str, Any], answered: Callable[[Mapping[str, Any]], Any]
    ) -> None:
        try:
            answered(context)
        except ApplicationError as error:
            where = _shown(tuple(context), tuple(context.values())) if context else "default"
            raise ApplicationError(f"Segments, {where}: {error}") from None

    def words(self) -> str:
        """The table as a person would say it."""
        rows = ", ".join(
            f"{' and '.join(str(part) for part in segment)} → {action}"
            for segment, action in self.actions.items()
        )
        return f"by {' and '.join(self.fields)}: {rows}; else {self.default}"


def _shown(fields: tuple[str, ...], segment: tuple[Any, ...]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in zip(fields, segment, strict=True))
