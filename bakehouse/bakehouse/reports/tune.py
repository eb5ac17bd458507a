"""How a search for settings is shown to people: what to write, and whether it is worth it."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from bakehouse.output import out, say

SHOWN = 8  # trials, the best first


def show_tuning(result: dict[str, Any]) -> None:
    """Print what `bakehouse_learner.offline.tune` answered."""
    trials = result["trials"]
    told = ", ".join(f"{count} {state}" for state, count in trials.items() if count)
    by = "in its world" if result["by"] == "world" else f"by {result['source']}"
    say(
        f"[bold]{escape(result['application'])}[/], {escape(by)}, {result['decisions']:,} "
        f"decisions; trials: {told} ({result['seconds']:.0f} s); score: {result['score']}"
    )
    for note in result["notes"]:
        say(f"[yellow]! {escape(note)}[/]")
    out.print(_table(result))
    if result["importance"]:
        parts = [f"{escape(n)} {share:.0%}" for n, share in result["importance"].items()]
        say(f"[dim]What mattered (share of the score's variance): {', '.join(parts[:6])}[/]")
    if result["left_alone"]:
        say(f"[dim]Not searched: {escape(', '.join(result['left_alone']))}[/]")
    say("")
    _advice(result)
    for plot in result["plots"]:
        say(f"Drawn: {escape(plot)}")
    if result["mlflow"]["run"] is not None:
        say(f"[dim]MLflow: run {result['mlflow']['run']} in {escape(result['mlflow']['uri'])}[/]")


def _table(result: dict[str, Any]) -> Table:
    table = Table("trial", box=None, pad_edge=False)
    table.add_column("score", justify="right")
    table.add_column("settings", overflow="fold")
    page = result["page"]["settings"]
    table.add_row("the page", _number(result["page"]["score"]), escape(_words(page)))
    done = [one for one in result["all"] if one["state"] == "complete" and one["trial"] > 0]
    for one in sorted(done, key=lambda one: -one["score"])[:SHOWN]:
        changed = {k: v for k, v in one["settings"].items() if page.get(k) != v}
        table.add_row(str(one["trial"]), _number(one["score"]), escape(_words(changed)))
    return table


def _advice(result: dict[str, Any]) -> None:
    best, apart = result["best"], result["difference"]
    if not best["lines"]:
        say("Nothing that was tried did better than the page as it is: leave it.")
        return
    if apart is None:
        say(
            "[yellow]The best was not tried on other seeds, so its lead may be luck "
            f"({'stopped' if result['interrupted'] else '--repeats 0'}).[/]"
        )
    else:
        between = f"{apart['mean']:+.3g}"
        if apart["lower"] is not None:
            between += f" ({apart['lower']:+.3g} to {apart['upper']:+.3g})"
        again = len(apart["best"])
        runs = f"{again} other {'seed' if again == 1 else 'seeds'}"
        if apart["more_than_noise"] and apart["mean"] > 0:
            say(f"[green]Better than the page on {runs}, by {between}: more than noise.[/] Write:")
        elif apart["more_than_noise"]:
            say(f"[red]Worse than the page on {runs}, by {between}: leave the page as it is.[/]")
            return
        else:
            say(
                f"[yellow]On {runs} it differs from the page by {between}: no more than noise.[/] "
                "Leave the page, or search longer (--trials, --decisions). The best was:"
            )
    for line in best["lines"]:
        say(f"    {escape(line)}")


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
