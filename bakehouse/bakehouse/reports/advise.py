"""How advice is shown to people: what was found, its numbers, what to do; the urgent first."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from bakehouse.output import say

MARKS = {"now": "[red]now [/]", "soon": "[yellow]soon[/]", "know": "[green]know[/]"}


def show_advice(result: dict[str, Any]) -> None:
    """Print what `bakehouse_learner.offline.advise` answered."""
    say(
        f"[bold]{escape(result['application'])}[/], {result['decisions']:,} decisions of "
        f"{escape(result['source'])}"
    )
    for note in result["notes"]:
        say(f"[yellow]! {escape(note)}[/]")
    for finding in result["findings"]:
        say("")
        say(f"{MARKS[finding['urgency']]} [bold]{finding['about']}[/]: {escape(finding['says'])}")
        for name, value in finding["evidence"].items():
            if value not in (None, [], {}):
                for line in _lines(name, value):
                    say(f"       [dim]{escape(line)}[/]")
        say(f"     → {escape(finding['do'])}")


def _lines(name: str, value: Any) -> list[str]:
    """One line; of a table, one a row."""
    if isinstance(value, dict) and any(isinstance(its, dict) for its in value.values()):
        return [f"{name}:", *(f"  {row}: {_inner(its)}" for row, its in value.items())]
    return [f"{name}: {_words(value)}"]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_inner(its)}" for name, its in value.items())
    if isinstance(value, list):
        return ", ".join(_inner(one) for one in value)
    return _number(value)


def _inner(value: Any) -> str:
    if isinstance(value, dict):
        told = {name: its for name, its in value.items() if its is not None}
        return ", ".join(f"{name} {_number(its)}" for name, its in told.items())
    return _number(value)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
