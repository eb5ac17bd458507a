"""From JSON to a model of `events.py`; what does not fit is told in one line for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.fields import LONGEST_NAME

MOST_PROBLEMS = 5  # told of one body or record; a person mends these and asks again


def few_unknown(model: type[BaseModel], fields: Any) -> Any:
    """`fields` with five of those that `model` does not know: what is to be told of a hundred
    thousand is told of these."""
    known = model.__pydantic_fields__
    if not isinstance(fields, Mapping) or len(fields) <= len(known) + MOST_PROBLEMS:
        return fields
    names = {name for at, field in known.items() for name in (at, field.alias)}
    few = set(islice((name for name in fields if name not in names), MOST_PROBLEMS))
    return {name: value for name, value in fields.items() if name in names or name in few}


Model = TypeVar("Model", bound=BaseModel)


class Spelling:
    """Says which field was meant by one that does not exist.

    For one request: comparing costs more than all other checks of an entry, so after a few names
    there is no more to say. A name that came before is told again at once.
    """

    def __init__(self) -> None:
        self._meant: dict[str, str | None] = {}

    def meant(self, came: str, fields: Iterable[str]) -> str | None:
        """The field that is most like `came`; None: none is, or too many were asked about."""
        if came not in self._meant:
            if len(self._meant) >= MOST_PROBLEMS or len(came) > LONGEST_NAME:
                return None
            self._meant[came] = next(iter(get_close_matches(came, fields, n=1)), None)
        return self._meant[came]


def validated(
    model: type[Model], fields: Mapping[str, Any], spelling: Spelling | None = None
) -> Model:
    """`fields` as `model`, or InvalidEvent saying which field came how and what was expected.

    Args:
        spelling: of the request, where it has many entries.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        found = error
    known = model.__pydantic_fields__
    if found.error_count() > len(known) + MOST_PROBLEMS:  # to list them costs, not to find them
        try:
            model.model_validate(few_unknown(model, fields))
        except ValidationError as error:
            found = error
    raise InvalidEvent(describe(found, known, spelling))


def describe(
    error: ValidationError, fields: Iterable[str] = (), spelling: Spelling | None = None
) -> str:
    """The first problems of a validation in one line for a person.

    Args:
        fields: that the model has, for one that is misspelt.
        spelling: of the request, where it has many entries.
    """
    spelling = spelling or Spelling()
    problems = []
    for problem in error.errors(include_url=False)[:MOST_PROBLEMS]:
        field = ".".join(str(part) for part in problem["loc"]) or "body"
        came = "" if problem["type"] == "missing" else f", got {problem['input']!r:.60}"
        said = f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
        if problem["type"] == "extra_forbidden":
            meant = spelling.meant(field, fields)
            said = f"there is no such field{f'; did you mean {meant!r}?' if meant else ''}"
        problems.append(f"{field:.{LONGEST_NAME}}: {said}{'' if said.endswith('?') else came}")
    return "; ".join(problems)
