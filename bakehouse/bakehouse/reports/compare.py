"""How a comparison of agents is shown to people: one table, the best first."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from bakehouse.output import out, say
from bakehouse.reports.evaluate import COLOURS, bounded


def show_comparison(result: dict[str, Any]) -> None:
    """Print what `bakehouse_learner.offline.compare` answered."""
    if result["by"] == "world":
        _in_world(result)
    else:
        _on_history(result)
    if result["plot"] is not None:
        say(f"\nDrawn: {escape(result['plot'])}")


def _in_world(result: dict[str, Any]) -> None:
    seeds = result["seeds"]
    say(
        f"[bold]{escape(result['application'])}[/], {result['decisions']:,} decisions each, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}; share of the way from random to the best"
    )
    table = Table("agent", box=None, pad_edge=False)
    for title in ("share", "least to most", "until 0.85", "minibatches/s", "seconds"):
        table.add_column(title, justify="right")
    for one in result["agents"]:
        share, until = one["share"], one["decisions_until"]["median"]
        table.add_row(
            escape(one["agent"]),
            f"{share['median']:.2f}",
            f"{share['least']:.2f} to {share['most']:.2f}",
            "not yet" if until is None else f"{until:,.0f}",
            _rate(one),
            f"{one['wall_s']:.1f}",
        )
    out.print(table)
    if result["baseline_share"] is not None:
        say(f"[dim]The game's rules: {result['baseline_share']:.2f}[/]")
    idle = [one["agent"] for one in result["agents"] if None in one["left_version_0"]]
    if idle:
        say(
            f"[yellow]! {escape(', '.join(idle))}: with some seed the gate let nothing through in "
            "time, and the share is the rules' with exploration[/]"
        )


def _on_history(result: dict[str, Any]) -> None:
    say(
        f"[bold]{escape(result['application'])}[/], from {escape(result['source'])}: each learned "
        "from the older 80% and is judged by the rest (doubly robust, 95%)"
    )
    for note in result["notes"]:
        say(f"[yellow]! {escape(note)}[/]")
    table = Table("agent", box=None, pad_edge=False)
    for title in ("reward", "more than the rules", "minibatches/s", "seconds"):
        table.add_column(title, justify="right")
    for one in result["agents"]:
        colour = COLOURS.get(one["verdict"], "red")
        table.add_row(
            escape(one["agent"]),
            "nothing to judge by" if one["value"] is None else bounded(one["value"]),
            ""
            if one["against_baseline"] is None
            else f"[{colour}]{bounded(one['against_baseline'])}[/]",
            _rate(one),
            f"{one['wall_s']:.1f}",
        )
    out.print(table)


def _rate(one: dict[str, Any]) -> str:
    rate = one["minibatches_per_s"]
    return "" if rate is None else f"{rate:,.0f}"
