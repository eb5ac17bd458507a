"""The search for settings: its ranges, its judges, and what it says to write."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FixedTrial

from bakehouse.reports.tune import show_tuning
from bakehouse_learner.offline.history.history import read_history
from bakehouse_learner.offline.tune import Search
from bakehouse_learner.offline.tuning.objectives import (
    ByHistory,
    Difference,
    InWorld,
    Tell,
    earlier_part,
    paired,
)
from bakehouse_learner.offline.tuning.search_space import Space, lines_of, settings_of
from bakehouse_schemas.application import application as written
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    EpsilonGreedy,
    Gate,
    Training,
    seconds,
)
from bakehouse_schemas.errors import ApplicationError, BakehouseError
from bakehouse_schemas.process.settings import Settings
from tests.contract.test_warm_start import log_of_a_game
from tests.learner_fakes import GAME, LinearAgent
from tests.unit.test_simulation import Walkers

PAGE = replace(
    GAME,
    agent=Agent("neural_greedy", hidden=[16, 8], learning_rate=0.1),
    exploration=EpsilonGreedy(0.4, start=0.8, decay=500),
    gate=Gate(margin=0.2),
)
BEST_RATE = 0.02


class Anything:
    """A trial that draws evenly from what it may."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        return int(self.rng.integers(low, high + 1))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[self.rng.integers(len(choices))]


class Hill:
    """A judge who knows the best learning rate; scores grow while a trial runs."""

    runs_a_difference = 2

    def __init__(self, *, interrupted_at: int | None = None, again: float = 1.0) -> None:
        self.asked, self.interrupted_at, self.again = 0, interrupted_at, again

    def height(self, application: Application) -> float:
        rate = application.agent.parameters["learning_rate"]
        return float(1.0 - np.log10(rate / BEST_RATE) ** 2)

    def score(self, application: Application, seed: int, tell: Tell) -> float:
        self.asked += 1
        for at in range(1, 21):
            if self.asked == self.interrupted_at and at == 10:
                raise KeyboardInterrupt
            tell(50 * at, self.height(application) * at / 20)
        return self.height(application)

    def difference(
        self, best: Application, page: Application, seeds: Sequence[int], tell: Callable[[], None]
    ) -> Difference:
        apart = self.again * (self.height(best) - self.height(page))
        for _ in range(2 * len(seeds)):
            tell()
        return paired([apart + 0.001 * seed for seed in seeds], [0.0 for _ in seeds])


def asked(**options: Any) -> argparse.Namespace:
    given = {"trials": 16, "agents": "", "source": None, "decisions": 1_000, "rate": 100.0}
    given |= {"seed": 0, "repeats": 3, "timeout": None, "plots": None}
    return argparse.Namespace(**given | options)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def searched(home: Path, judge: Any = None, page: Application = PAGE, **options: Any) -> Any:
    described = {"by": "world", "decisions": 1_000, "notes": []}
    space = Space(page, in_world=True)
    settings = Settings(home=home)
    search = Search(asked(**options), page, space, judge or Hill(), settings, described)
    return search, search.answer()


@pytest.fixture(scope="module")
def found(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return searched(home, plots=tmp_path_factory.mktemp("plots"))


def test_whatever_is_suggested_is_an_application() -> None:
    for name, kind in AGENTS.items():
        if "discrete" not in kind.actions or "bandit" not in kind.problems:
            continue
        page = replace(PAGE, agent=Agent(name))
        space = Space(page, ["lin_ucb"])
        for seed in range(20):
            suggested = space.suggested(Anything(seed))
            assert settings_of(suggested, space).keys() <= {
                "agent",
                *(s.name for s in space.settings),
            }


@pytest.mark.parametrize("agent", ["neural_greedy", "lin_ts", "rainbow"])
def test_the_page_lies_in_its_own_search_space(agent: str) -> None:
    page = replace(PAGE, agent=Agent(agent), training=Training(batch=100, steps=7))
    space = Space(page, ["bc"])
    again = space.suggested(FixedTrial(space.as_it_is()))
    assert lines_of(again, page) == []


def test_what_is_to_be_pasted_is_what_was_tried() -> None:
    names = {**vars(written), "timedelta": timedelta}
    page = replace(PAGE, training=Training(every=seconds(0.5), buffer=2_000, batch=32, steps=8))
    for seed in range(20):
        tried = Space(page, ["lin_ucb", "dqn"]).suggested(Anything(seed))
        pasted = eval(f"dict({' '.join(lines_of(tried, page))})", names)
        again = replace(page, **pasted)
        assert again.agent.name == tried.agent.name
        assert again.agent.parameters == tried.agent.parameters
        assert (again.exploration, again.training) == (tried.exploration, tried.training)


def test_from_a_log_neither_exploration_nor_steps_can_be_searched() -> None:
    names = {setting.name for setting in Space(PAGE, in_world=False).settings}
    assert names == {"neural_greedy.hidden", "neural_greedy.learning_rate", "training.batch"}
    assert Space(PAGE).left_alone == ["neural_greedy.network"]


def test_agents_that_do_not_learn_by_gradients_have_no_minibatches_to_search() -> None:
    space = Space(replace(PAGE, agent=Agent("lin_ucb")))
    assert not [setting for setting in space.settings if setting.name.startswith("training.")]


def test_an_agent_that_does_not_fit_is_named() -> None:
    with pytest.raises(ApplicationError, match=r"--agents nobody: .*there is no such agent"):
        Space(PAGE, ["nobody"])


def test_a_search_finds_the_hill_prunes_early_and_says_what_to_write(
    found: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    _, result = found
    assert result["page"]["score"] == pytest.approx(1.0 - np.log10(0.1 / BEST_RATE) ** 2)
    assert result["best"]["score"] > 0.95
    assert result["trials"]["pruned"] > 0
    assert sum(result["trials"].values()) == 16 and not result["interrupted"]
    line = next(line for line in result["best"]["lines"] if line.startswith("agent="))
    assert line.startswith('agent=Agent("neural_greedy", ') and "learning_rate=0.0" in line
    assert result["difference"]["more_than_noise"]
    importance = result["importance"]
    assert max(importance, key=lambda name: importance[name]) == "neural_greedy.learning_rate"
    json.dumps(result, allow_nan=False)
    show_tuning(result)
    shown = capsys.readouterr().out
    assert "more than noise" in shown and line in shown


def test_the_same_seed_searches_the_same(found: Any, home: Path) -> None:
    _, first = found
    _, again = searched(home)
    for what in ("all", "best", "importance", "difference"):
        assert first[what] == again[what]


def test_pictures_are_drawn_and_kept_with_the_runs(found: Any, home: Path) -> None:
    from mlflow.tracking import MlflowClient

    search, result = found
    drawn = {Path(plot).name for plot in result["plots"]}
    assert drawn >= {"history.png", "importance.png", "parallel.png", "slices.png", "progress.png"}
    for plot in result["plots"]:
        assert Path(plot).read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(result["mlflow"]["uri"])
    parent = client.get_run(result["mlflow"]["run"])
    kept = client.list_artifacts(parent.info.run_id, "plots")
    assert {Path(one.path).name for one in kept} == drawn
    runs = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert len(runs) == 16
    states = [run.data.tags["state"] for run in runs]
    assert states.count("pruned") == result["trials"]["pruned"]
    page = next(run for run in runs if run.info.run_name == "trial-0")
    assert page.data.params["neural_greedy.learning_rate"] == "0.1"
    told = client.get_metric_history(page.info.run_id, "score so far")
    assert [(one.step, one.value) for one in told][-1] == (1_000, result["page"]["score"])
    assert search.study.trials[0].value == result["page"]["score"]


def test_ctrl_c_keeps_what_is_done(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, result = searched(home, Hill(interrupted_at=7))
    assert result["interrupted"] and result["difference"] is None
    assert result["trials"]["complete"] + result["trials"]["pruned"] == 6
    assert (result["trials"]["stopped"], result["trials"]["failed"]) == (1, 0)
    done = [one["score"] for one in result["all"] if one["state"] == "complete"]
    assert result["best"]["score"] == max(done)
    show_tuning(result)
    assert "may be luck" in capsys.readouterr().out
    with pytest.raises(BakehouseError, match="not one trial came to its end"):
        searched(home, Hill(interrupted_at=1))


def test_a_lead_that_other_seeds_do_not_show_is_called_noise(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, result = searched(home, Hill(again=0.0), trials=6)
    assert not result["difference"]["more_than_noise"]
    show_tuning(result)
    assert "no more than noise" in capsys.readouterr().out


def test_without_a_store_the_search_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    _, result = searched(tmp_path, trials=2, repeats=0)
    assert result["mlflow"]["run"] is None and result["best"]["score"] is not None
    assert "goes on without" in capsys.readouterr().err


def test_a_difference_of_pairs_has_students_interval() -> None:
    """Differences 1, 2, 3: mean 2, sd 1, and t of two degrees of freedom is 4.3027."""
    apart = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert apart.mean == 2.0
    assert apart.upper - apart.mean == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert not apart.more_than_noise
    assert paired([1.0], [0.0]).as_dict()["lower"] is None


def test_in_a_world_less_exploration_is_worth_more_once_there_is_something_to_lose() -> None:
    """Shares are of the best that does not explore: else half of chance would cost nothing."""
    judge = InWorld(Walkers(), LinearAgent, decisions=1_500, rate_per_s=100.0)
    told: list[tuple[int, float]] = []
    much = replace(PAGE, exploration=EpsilonGreedy(0.9))
    little = replace(PAGE, exploration=EpsilonGreedy(0.05, start=0.8, decay=300))
    worth = [judge.score(page, 0, lambda at, score: told.append((at, score))) for page in
             (much, little)]  # fmt: skip
    assert worth[0] < 0.15 < worth[1] - 0.2
    assert told[-1] == (1_500, worth[1])
    again = judge.difference(little, much, [1, 2, 3], lambda: None)
    assert again.more_than_noise and again.mean > 0.3


def test_by_a_history_the_newest_part_is_left_for_the_end(tmp_path: Path) -> None:
    source = log_of_a_game(tmp_path)
    history = read_history(PAGE, source)
    judge = ByHistory(history, LinearAgent)
    earlier = earlier_part(history, 0.8)
    decided = {row.decision_id for row in history.arrivals}
    assert len({row.decision_id for row in earlier.arrivals}) == pytest.approx(
        0.8 * len(decided), abs=2
    )
    assert max(r.decided_at_ms for r in earlier.arrivals) < max(
        r.decided_at_ms for r in history.arrivals
    )
    assert judge.score(PAGE, 0, lambda *_: None) > 0.5
    same = judge.difference(PAGE, PAGE, [1, 2], lambda: None)
    assert same.mean == 0.0 and not same.more_than_noise
    assert same.best == same.page
