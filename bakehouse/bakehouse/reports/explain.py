"""How the explanation of a decision is shown to people: its story first, then tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bakehouse.output import say
from bakehouse_schemas.formatting import short_duration

MOST_ROWS = 24  # of an observation or of scores: the largest, the rest is in --json


def show_explanation(told: dict[str, Any]) -> None:
    """Print what `GET …/decisions/{id}` answered."""
    at = datetime.fromtimestamp(told["decided_at_ms"] / 1000, UTC)
    when = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    say(f"[bold]{escape(told['application'])}[/] {told['decision_id']}, {when}")
    for sentence in told["sentences"]:
        warns = told["exact"] is False and sentence.startswith("DECIDED AGAIN")
        say(f"[red]{escape(sentence)}[/]" if warns else escape(sentence))
    _context(told)
    _scores(told)
    _numbers(told)
    _drawn(told)
    _outcomes(told)


def _context(told: dict[str, Any]) -> None:
    seen = [one for one in told["observation"] if one["value"] != 0]
    table = _table("context", "", "observation", "")
    context = [(name, _text(value)) for name, value in told["context"].items()]
    shown = [(one["feature"], f"{one['value']:.5g}") for one in seen[:MOST_ROWS]]
    for at in range(max(len(context), len(shown))):
        left = context[at] if at < len(context) else ("", "")
        right = shown[at] if at < len(shown) else ("", "")
        table.add_row(*(escape(cell) for cell in (*left, *right)))
    zeros = len(told["observation"]) - len(shown)
    if zeros:
        table.add_row("", "", f"[dim]and {zeros} more, zeros first[/]", "")
    _print(table)


def _scores(told: dict[str, Any]) -> None:
    scores = told["scores"]
    if not scores:
        return
    table = _table("action", "score", "own", "executed", "")
    for one in sorted(scores, key=_by_likelihood)[:MOST_ROWS]:
        marks = []
        if _was_chosen(told["action"], one["action"]):
            marks.append("chosen")
        if not one["eligible"]:
            marks.append("ruled out")
        table.add_row(
            escape(one["action"]),
            _number(one["score"]),
            _share(one["own"]),
            _share(one["executed"]),
            ", ".join(marks),
        )
    if len(scores) > MOST_ROWS:
        table.add_row(f"[dim]and {len(scores) - MOST_ROWS} more[/]", "", "", "", "")
    _print(table)


def _by_likelihood(one: dict[str, Any]) -> tuple[float, float]:
    return -(one["executed"] or one["own"] or 0.0), -(one["score"] or 0.0)


def _was_chosen(action: Any, name: str) -> bool:
    if isinstance(action, dict):
        part, _, label = name.partition("=")
        return bool(action.get(part) == label)
    return name in action if isinstance(action, list) else bool(action == name)


def _numbers(told: dict[str, Any]) -> None:
    if not told["numbers"]:
        return
    table = _table("number", "mean", "spread", "from", "to", "answered")
    for one in told["numbers"]:
        cells = (one["mean"], one["std"], one["low"], one["high"], one["value"])
        table.add_row(escape(one["name"]), *(_number(cell) for cell in cells))
    _print(table)


def _drawn(told: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    again = "–" if told["recomputed"] is None else repr(told["recomputed"])
    policy = str(told["policy_version"])
    if told["policy"] is not None and not told["policy"]["available"]:
        policy += " (no longer kept)"
    rows = {
        "cohort, mode": f"{told['cohort']}, {told['mode']}",
        "policy": policy,
        "exploration": _text(told["exploration"]),
        "draw": _text(told["draw"]),
        "propensity": repr(told["propensity"]),
        "decided again": again + (f" ({told['why_not']})" if told["why_not"] else ""),
    }
    if told.get("extra"):
        rows["said beside"] = _text(told["extra"])
    for name, value in rows.items():
        table.add_row(name, escape(value))
    _print(table)


def _outcomes(told: dict[str, Any]) -> None:
    if told["outcomes"]:
        table = _table("outcome", "value", "after", "counts", "why")
        for one in told["outcomes"]:
            table.add_row(
                escape(one["name"] or one["kind"]),
                _number(one["value"]),
                "–" if one["delay_ms"] is None else short_duration(one["delay_ms"]),
                "[green]yes[/]" if one["counted"] else "no",
                escape(one["why"]),
            )
        _print(table)
    reward = told["reward"]
    value = "none" if reward["value"] is None else f"{reward['value']:.6g}"
    say(f"\n[bold]reward {value}[/] ({reward['state']}): {escape(reward['rule'])}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    say("")
    Console(highlight=False).print(table)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
