"""How an evaluation is shown to people: warnings first, then numbers with their intervals."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bakehouse.output import out, say

COLOURS = {"sound": "green", "weak": "yellow", "a guess": "red"}


def show_evaluation(result: dict[str, Any]) -> None:
    """Print what `bakehouse_learner.offline.evaluate` answered."""
    units, unit = result["units"], result["units"].removesuffix("s")
    say(f"[bold]{escape(result['application'])}[/], from {escape(result['source'])}")
    for warning in result["warnings"]:
        say(f"[yellow]! {escape(warning)}[/]")
    out_of = ", ".join(f"{n:,} {why}" for why, n in result["left_out"].items())
    say(
        f"{result['n']:,} {units} can be used, of {result['decisions']:,} decisions read"
        + (f"; left out: {out_of}" if out_of else "")
    )
    logged = result["as_logged"]
    say(f"\nReward of {_article(unit)}, as logged: {bounded(logged)}")
    for one in result["policies"]:
        say(f"[bold]{escape(one['policy'])}[/] is {escape(one['words'])}")
    table = Table("", box=None, pad_edge=False)
    for one in result["policies"]:
        table.add_column(escape(one["policy"]))
    _rows(table, result["policies"])
    table.add_row("[dim]evidence[/]", *(_evidence(one) for one in result["policies"]))
    show_table(table)
    if result["differences"]:
        _differences(result)
    if "segments" in result:
        _segments(result)
    say(
        f"\n[dim]Intervals: {result['confidence']:.0%}, {result['interval']}. Read the first line; "
        "the direct method is as good as its model, and has no interval.[/]"
    )


def bounded(estimate: dict[str, Any]) -> str:
    """`0.52 (0.48 to 0.56)`; without an interval where there is none."""
    if estimate["mean"] is None:
        return "no number"
    if estimate["lower"] is None or estimate["upper"] is None:
        return f"{estimate['mean']:.3f} (no interval)"
    return f"{estimate['mean']:.3f} ({estimate['lower']:.3f} to {estimate['upper']:.3f})"


def _differences(result: dict[str, Any]) -> None:
    judged = result["policies"][0]["policy"]
    table = Table(f"{escape(judged)} −", box=None, pad_edge=False)
    for one in result["differences"]:
        table.add_column(escape(one["against"]))
    _rows(table, result["differences"], signed=True)
    say("")
    show_table(table)


def _segments(result: dict[str, Any]) -> None:
    by = result["segments"]
    judged, *others = [one["policy"] for one in result["policies"]]
    table = Table(escape(by["field"]), result["units"], escape(judged), box=None, pad_edge=False)
    for name in others:
        table.add_column(f"− {escape(name)}")
    for row in by["segments"]:
        differences = {one["against"]: one for one in row["differences"]}
        table.add_row(
            f"[{COLOURS[row['verdict']]}]{escape(row['segment'])}[/]",
            f"{row['n']:,}",
            bounded(row["estimates"][0]),
            *(_coloured(differences[name]) if name in differences else "" for name in others),
        )
    say("")
    show_table(table)


def _rows(table: Table, columns: list[dict[str, Any]], *, signed: bool = False) -> None:
    """A row for each estimator; one that says no more than the one before it is left out."""
    shown: list[list[str]] = []
    for name in _names(columns):
        cells = [_cell(one["estimates"], name, signed=signed) for one in columns]
        if cells not in shown:
            table.add_row(escape(name), *cells)
        shown.append(cells)


def show_table(table: Table) -> None:
    """Cells are not broken: what is narrower than the table shows it wrapped."""
    for column in table.columns:
        column.no_wrap = True
    width = Console(width=1_000).measure(table).maximum
    Console(highlight=False, soft_wrap=True, width=max(width, out.width)).print(table)


def _names(columns: list[dict[str, Any]]) -> list[str]:
    found: dict[str, None] = {}
    for one in columns:
        found |= dict.fromkeys(estimate["name"] for estimate in one["estimates"])
    return list(found)


def _cell(estimates: list[dict[str, Any]], name: str, *, signed: bool = False) -> str:
    for estimate in estimates:
        if estimate["name"] == name:
            return _coloured(estimate) if signed else bounded(estimate)
    return ""


def signed_bounded(estimate: dict[str, Any]) -> str:
    """A difference, with its sign whether or not it is sure."""
    return f"{'+' if (estimate['mean'] or 0.0) > 0 else ''}{bounded(estimate)}"


def _coloured(estimate: dict[str, Any]) -> str:
    """A difference; coloured where its interval leaves no doubt which is better."""
    lower, upper = estimate["lower"], estimate["upper"]
    words = signed_bounded(estimate)
    if lower is not None and lower > 0:
        return f"[green]{words}[/]"
    if upper is not None and upper < 0:
        return f"[red]{words}[/]"
    return words


def _evidence(one: dict[str, Any]) -> str:
    diagnosis = one["diagnosis"]
    colour = COLOURS[one["verdict"]]
    return f"[{colour}]{diagnosis['effective_sample']:,.0f} of {diagnosis['n']:,}[/]"


def _article(unit: str) -> str:
    return f"{'an' if unit[0] in 'aeiou' else 'a'} {unit}"
