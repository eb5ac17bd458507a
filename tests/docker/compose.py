"""What `docker/compose.yaml` says, with its variables put in, and by whom they are asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<sign>:?[-?])(?P<rest>[^}]*))?\}")


class Missing(Exception):
    """A variable that must be set is not; the words are what compose would say."""


def put_in(text: str, environment: Mapping[str, str]) -> str:
    """`text` with every variable replaced, as compose does."""

    def value(found: re.Match[str]) -> str:
        name, sign, rest = found["name"], found["sign"], found["rest"]
        if environment.get(name):
            return environment[name]
        if sign == ":-":
            return str(rest)
        raise Missing(f"required variable {name} is missing a value: {rest}")

    return VARIABLE.sub(value, text)


def read(environment: Mapping[str, str]) -> dict[str, Any]:
    """The file's content under these variables."""
    content: dict[str, Any] = yaml.safe_load(put_in(FILE.read_text(), environment))
    return content


def volumes(service: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """Path in the container -> what is mounted there, and whether only to be read."""
    found = {}
    for line in service.get("volumes", ()):
        source, place, *mode = line.split(":")
        found[place] = (source, mode == ["ro"])
    return found
