"""`python -m bakehouse_learner.offline.tune REF --trials N`: which settings learn this application
best?

Searched by Optuna, judged by the application's world or by a log, written down in MLflow. Prints
one line of JSON; `bakehouse tune` makes words of it. Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from bakehouse_learner.agents.load import load_agents
from bakehouse_learner.offline.console import run_program, say
from bakehouse_learner.offline.history.history import read_history
from bakehouse_learner.offline.plots.search import draw, importances
from bakehouse_learner.offline.tuning.mlflow_runs import Runs
from bakehouse_learner.offline.tuning.objectives import (
    LOOKS,
    Build,
    ByHistory,
    Difference,
    InWorld,
    Judge,
)
from bakehouse_learner.offline.tuning.search_space import Space, lines_of, settings_of
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import Loaded, load_application
from bakehouse_schemas.process.addresses import text_without_secrets
from bakehouse_schemas.process.settings import Settings, load_settings

TELL_EVERY_S = 2.0
AT_RANDOM = 8  # trials before the sampler leans on what it has seen, the application's own included
NEVER_PRUNED = 4  # first trials, whose median the others are held against
STATES = ("complete", "pruned", "failed", "stopped")
SCORE = {"world": "share of the best over the whole run", "history": "doubly robust estimate"}


def tune(options: argparse.Namespace, *, load: Callable[[], Build] = load_agents) -> dict[str, Any]:
    """What to write into the application file, and how sure that is.

    Raises:
        BakehouseError: there is nothing to judge by, or not one trial came to its end.
    """
    settings, loaded = load_settings(), load_application(options.ref)
    names = [name.strip() for name in options.agents.split(",") if name.strip()]
    in_world = loaded.world is not None and options.source is None
    space = Space(loaded.application, names, in_world=in_world)
    judge, described = _judge(options, loaded, settings, load)
    return Search(options, loaded.application, space, judge, settings, described).answer()


def _judge(
    options: argparse.Namespace, loaded: Loaded, settings: Settings, load: Callable[[], Build]
) -> tuple[Judge, dict[str, Any]]:
    if loaded.world is not None and options.source is None:
        how = {"by": "world", "decisions": options.decisions, "notes": []}
        judge = InWorld(loaded.world, load(), decisions=options.decisions, rate_per_s=options.rate)
        return judge, how
    given = options.source or "replay"
    source = settings.tables if given == "replay" else given
    history = read_history(loaded.application, source)
    decisions = len({row.decision_id for row in history.arrivals})
    notes = list(history.notes)
    how = {"by": "history", "decisions": decisions, "source": str(source), "notes": notes}
    return ByHistory(history, load()), how


class Search:
    """One search, from the application as it is to the best that was found.

    Args:
        described: what it is judged by, for the answer.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        page: Application,
        space: Space,
        judge: Judge,
        settings: Settings,
        described: dict[str, Any],
    ) -> None:
        self._options, self._page, self._space = options, page, space
        self._judge, self._described = judge, described
        self._decisions: dict[int, dict[int, float]] = {}  # by trial: score so far by decisions
        self._applications: dict[int, Application] = {}
        self._runs = Runs(settings, page.name, say)
        self._uri = text_without_secrets(settings.mlflow_tracking_uri)
        self._began = self._told = time.monotonic()
        self.study = optuna.create_study(
            direction="maximize",
            sampler=TPESampler(seed=options.seed, n_startup_trials=AT_RANDOM),
            pruner=MedianPruner(n_startup_trials=NEVER_PRUNED, n_warmup_steps=LOOKS // 4),
        )
        self.study.enqueue_trial(space.as_it_is())

    def answer(self) -> dict[str, Any]:
        """Search, try the best again, and say what came of it."""
        self._runs.begin(
            {"application": self._page.name, **self._described, **_given(self._options)}
        )
        interrupted = not self._searched()
        done = [t for t in self.study.get_trials(deepcopy=False) if t.value is not None]
        done = [t for t in done if t.state == TrialState.COMPLETE]
        if not done:
            raise BakehouseError("not one trial came to its end; nothing is known of any settings")
        best = self.study.best_trial
        apart = None
        if best.number > 0 and not interrupted and self._options.repeats > 0:
            apart = self._tried_again(self._applications[best.number])
            interrupted = apart is None
        result = self._result(best, apart, interrupted)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) if self._options.plots is None else self._options.plots
            words = SCORE[self._described["by"]]
            plots = draw(
                self.study,
                folder,
                important=result["importance"],
                seed=self._options.seed,
                what=words,
            )
            if self._options.plots is not None:
                result["plots"] = [str(plot.resolve()) for plot in plots]
            metrics = {"score": result["best"]["score"], "page": result["page"]["score"]}
            if apart is not None:
                metrics["difference"] = apart.mean
            known = {name: value for name, value in metrics.items() if value is not None}
            self._runs.end(metrics=known, answer=result, plots=plots)
        result["mlflow"] = {
            "uri": self._uri,
            "run": None if self._runs.failed else self._runs.parent,
        }
        result["seconds"] = round(time.monotonic() - self._began, 1)
        return result

    def _searched(self) -> bool:
        """Whether the search came to its end; False: somebody had enough."""
        timeout_s = None if self._options.timeout is None else 60.0 * self._options.timeout
        try:
            self.study.optimize(
                self._scored,
                n_trials=self._options.trials,
                timeout=timeout_s,
                catch=(BakehouseError,),
                callbacks=[self._ended],
            )
        except KeyboardInterrupt:
            say("stopped; what is done is kept")
            return False
        return True

    def _scored(self, trial: Trial) -> float:
        application = self._space.suggested(trial)
        self._applications[trial.number] = application
        so_far = self._decisions.setdefault(trial.number, {})

        def tell(decisions: int, score: float) -> None:
            so_far[decisions] = score
            step = LOOKS * decisions // self._options.decisions
            trial.report(score, step)
            self._tell(trial.number, decisions, score)
            if trial.should_prune():
                raise optuna.TrialPruned

        return self._judge.score(application, self._options.seed, tell)

    def _ended(self, study: Study, trial: FrozenTrial) -> None:
        """A trial is over: into MLflow with it, and a line for whoever waits."""
        application = self._applications.get(trial.number)
        state = _state(trial)
        self._runs.trial(
            trial.number,
            state=state,
            settings={} if application is None else settings_of(application, self._space),
            scores=self._decisions.get(trial.number, {}),
            score=trial.value if state == "complete" else None,
        )
        self._told = time.monotonic()
        best = "none yet"
        if any(t.state == TrialState.COMPLETE for t in study.get_trials(deepcopy=False)):
            best = f"{study.best_value:.4g} (trial {study.best_trial.number})"
        score = "" if trial.value is None else f" {trial.value:.4g}"
        say(
            f"trial {trial.number}: {state}{score}; best {best}; "
            f"{self._left_s(trial.number + 1.0):.0f} s left"
        )

    def _tell(self, number: int, decisions: int, score: float) -> None:
        now = time.monotonic()
        if now - self._told < TELL_EVERY_S:
            return
        self._told = now
        done = number + decisions / self._options.decisions
        say(
            f"trial {number}: {decisions:,} of {self._options.decisions:,} decisions, score so far "
            f"{score:.4g}; {self._left_s(done):.0f} s left"
        )

    def _left_s(self, done: float) -> float:
        """Seconds until all is done, the repetitions included, at the pace so far."""
        spent = time.monotonic() - self._began
        of_trials = spent * (self._options.trials - done) / done
        if self._options.timeout is not None:
            of_trials = min(of_trials, max(60.0 * self._options.timeout - spent, 0.0))
        again = self._judge.runs_a_difference * int(self._options.repeats)
        return max(float(of_trials), 0.0) + again * spent / done

    def _tried_again(self, best: Application) -> Difference | None:
        """The best and what there is, on seeds that nothing was chosen by; None: interrupted."""
        seeds = [self._options.seed + 1 + at for at in range(self._options.repeats)]
        runs, done = self._judge.runs_a_difference * len(seeds), 0
        began = time.monotonic()

        def tell() -> None:
            nonlocal done
            done += 1
            left_s = (time.monotonic() - began) * (runs - done) / done
            say(f"the best and the page again: {done} of {runs} runs; {left_s:.0f} s left")

        try:
            return self._judge.difference(best, self._page, seeds, tell)
        except KeyboardInterrupt:
            say("stopped; the best was not tried on other seeds")
            return None

    def _result(
        self, best: FrozenTrial, apart: Difference | None, interrupted: bool
    ) -> dict[str, Any]:
        trials = self.study.get_trials(deepcopy=False)
        states = [_state(trial) for trial in trials if trial.state != TrialState.WAITING]
        if interrupted and states[-1] == "failed":
            states[-1] = "stopped"
        first = next((t for t in trials if t.number == 0), None)
        application = self._applications[best.number]
        return {
            "application": self._page.name,
            **self._described,
            "score": SCORE[self._described["by"]],
            "seed": self._options.seed,
            "trials": {state: states.count(state) for state in STATES},
            "interrupted": interrupted,
            "page": {
                "score": None if first is None else first.value,
                "settings": settings_of(self._page, self._space),
            },
            "best": {
                "trial": best.number,
                "score": best.value,
                "settings": settings_of(application, self._space),
                "lines": lines_of(application, self._page),
            },
            "difference": None if apart is None else apart.as_dict(),
            "importance": importances(self.study, self._options.seed),
            "left_alone": self._space.left_alone,
            "plots": [],
            "all": [
                {
                    "trial": trial.number,
                    "state": _state(trial),
                    "score": trial.value,
                    "settings": settings_of(self._applications[trial.number], self._space),
                }
                for trial in trials
                if trial.number in self._applications
            ],
        }


def _state(trial: FrozenTrial) -> str:
    return {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {"trials": options.trials, "seed": options.seed, "agents": options.agents}


def command_line() -> argparse.ArgumentParser:
    """The arguments that this program takes."""
    parser = argparse.ArgumentParser(prog="bakehouse_learner.offline.tune")
    parser.add_argument("ref")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--agents", default="")
    parser.add_argument("--from", dest="source")
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--plots", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(run_program(tune, command_line()))
