"""Writes the JSON Schema of every event.

    python -m bakehouse_schemas.events.jsonschema

keeps the files true.
"""

from __future__ import annotations

import json
from pathlib import Path

from bakehouse_schemas.events.events import EVENTS

FOLDER = Path(__file__).parent / "json"


def generated() -> dict[str, str]:
    """Text of each schema file, by file name."""
    return {
        f"{name}.schema.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"}
            | model.model_json_schema(by_alias=True),
            indent=2,
        )
        + "\n"
        for name, model in EVENTS.items()
    }


def write() -> None:
    """Write all files below `schemas/bakehouse_schemas/events/json/`."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in generated().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    write()
