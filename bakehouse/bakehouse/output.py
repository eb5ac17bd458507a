"""How the commands print: for people in words and colours, for programs in JSON lines."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bakehouse_schemas.process.addresses import text_without_secrets, value_without_secrets

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(words: str) -> None:
    """A line for people; square brackets are markup."""
    out.print(text_without_secrets(words))


def say_json(value: Any) -> None:
    """One line of JSON, written at once."""
    told = value_without_secrets(value)
    print(json.dumps(told, ensure_ascii=False, default=str), flush=True)


def complain(words: str, *, style: str = "red") -> None:
    """A message on standard error, as it is."""
    err.print(f"[{style}]{escape(text_without_secrets(words))}[/]")


def words_table(values: dict[str, Any]) -> None:
    """Names on the left, words on the right; nested values line by line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name.replace("_", " "), escape(text_without_secrets(_lines(value))))
    Console(highlight=False).print(table)


def _lines(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_flat(its)}" for name, its in value.items())
    if isinstance(value, list):
        said = [_flat(one) for one in value]
        # labels stand side by side, sentences below each other
        return ("\n" if any(" " in one for one in said) else ", ").join(said)
    return str(value)


def _flat(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
