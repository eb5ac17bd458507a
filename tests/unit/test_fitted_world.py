"""A world fitted to a log: is it like the world that the log was played in, and does it say so?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse.examples.level_difficulty import application, world
from bakehouse.examples.message_hour import application as hours
from bakehouse.examples.message_hour import world as hours_of_players
from bakehouse.examples.quest_chain import application as episodic
from bakehouse.reports.fit_world import show_fitted_world
from bakehouse_learner.offline.evaluation.target_policies import find_target
from bakehouse_learner.offline.fit_world import (
    Valued,
    agreement,
    contrary,
    fitted,
    tries,
    value_in_world,
)
from bakehouse_learner.offline.history.history import History
from bakehouse_learner.offline.simulation.simulation import simulate
from bakehouse_learner.offline.training.held_out import target_of
from bakehouse_learner.offline.training.train_on_history import held_out_from, train_on_history
from bakehouse_learner.offline.world_fitting.agreement import (
    Fit,
    compared_pairs,
    fit_of,
    judged,
    kendall_tau,
)
from bakehouse_learner.offline.world_fitting.world_data import Played, as_world, check_kind, played
from bakehouse_learner.ope.estimate import plain
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.actions import Continuous, Parts
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Discrete,
    EpsilonGreedy,
    Gate,
    Gaussian,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import DecisionTimes, Reward, TimedOutcome
from bakehouse_schemas.errors import (
    ApplicationError,
    BundleCorrupt,
    ContractMismatch,
    InvalidHistory,
)
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.worlds.fitted_world import FittedWorld, tilted
from bakehouse_schemas.worlds.world import BanditWorld, Context, Happening
from tests import logged_worlds
from tests.learner_fakes import LinearAgent
from tests.replay_rows import arrow

PAGE = Path(__file__).parents[2] / "applications" / "level_difficulty.py"
HELD_OUT = 0.3


def history_of(application: Application, rows: Sequence[dict[str, Any]]) -> History:
    """As `read_history` gives it."""
    return History(
        application=application,
        arrivals=RowDecoder(application).decode(arrow(rows)),
        propensities="logged",
        notes=(),
        stream_time_ms=max(row["decided_at_ms"] for row in rows),
        timed=True,
        table_version=-1,
        contexts={row["decision_id"]: row["context"] for row in rows if row["context"]},
    )


class DiceRollers(type(world)):  # type: ignore[misc]
    """The same players, whom nothing that is decided moves."""

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        return [Happening(1.0, "level_won" if rng.random() < 0.5 else "quit")]


class Told:
    """A log, and the world that was fitted to its older part."""

    def __init__(self, players: BanditWorld, count: int) -> None:
        rows = logged_worlds.played(players, application, count, seed=3, epsilon=0.8)
        self.history = history_of(application, rows)
        self.ring: Ring = self.history.ring()
        self.log: Played = played(self.history, self.ring, application)
        self.from_ms = held_out_from(self.history, HELD_OUT)
        self.world, self.held_out = fitted(application, self.log, self.ring, self.from_ms)

    def report(self) -> dict[str, Any]:
        targets = [find_target(name, application, Path()) for name in ("baseline", "random")]
        trained = train_on_history(self.history, LinearAgent, held_out=HELD_OUT, steps=200)
        with tempfile.TemporaryDirectory() as bundles:
            target = target_of(self.history, trained, Path(bundles), greedy=True)
        targets.append(target._replace(name="linear"))
        targets.append(contrary(targets[-1], labels=True))
        found = agreement(self.world, self.held_out, self.history, self.ring, targets, self.from_ms)
        described = {"application": "level-difficulty", "source": "a log", "world": "world.npz"}
        counts = {"fitted_to": len(self.world.fitted.rewards), "held_out": len(self.held_out.slots)}
        return described | counts | {"notes": ["a note"], "seconds": 1.0} | found


@cache
def told() -> Told:
    return Told(world, 3_000)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fitted") / "world.npz"
    told().world.save(path)
    return path


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return told().report()


def test_what_it_says_actions_are_worth_is_close_to_the_truth() -> None:
    rng = np.random.default_rng(8)
    contexts = [world.context(rng) for _ in range(400)]
    labels = application.actions.choices
    said = np.array([[told().world.expected_reward(c, a) for a in labels] for c in contexts])
    true = np.array([[world.expected_reward(c, a) for a in labels] for c in contexts])
    assert np.corrcoef(said.ravel(), true.ravel())[0, 1] > 0.9
    chosen = true[np.arange(len(contexts)), said.argmax(axis=1)].mean()
    room = true.max(axis=1).mean() - true.mean()
    assert chosen - true.mean() > 0.9 * room


def test_many_labels_of_rare_rewards_are_fitted_by_a_line_each() -> None:
    """At 24 hours and 8 rewards in 100, a network of all together finds next to nothing."""
    rows = logged_worlds.played(hours_of_players, hours, 8_000, seed=1, epsilon=1.0)
    history = history_of(hours, rows)
    found = as_world(hours, played(history, history.ring(), hours))
    assert len(found.fitted.operations) == 1
    rng, labels = np.random.default_rng(5), hours.actions.choices
    contexts = [hours_of_players.context(rng) for _ in range(100)]
    said = [[found.expected_reward(c, a) for a in labels] for c in contexts]
    true = [[hours_of_players.expected_reward(c, a) for a in labels] for c in contexts]
    assert np.corrcoef(np.ravel(said), np.ravel(true))[0, 1] > 0.5


def test_what_wins_in_it_wins_in_evaluation_and_in_truth(report: dict[str, Any]) -> None:
    worth = {one["policy"]: one["in_world"] for one in report["policies"]}
    assert worth["contrary to linear"] < worth["random"] < worth["baseline"] < worth["linear"]
    assert report["verdict"] == "trust it"
    assert report["kendall_tau"] == pytest.approx(1.0)
    assert all(pair["says"] != "disagrees" for pair in report["pairs"])
    assert len(report["pairs"]) == 6
    assert 0.25 < report["model"]["r2"] < 0.7


def test_the_report_is_json_and_is_shown_with_its_verdict(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    json.dumps(report, allow_nan=False)
    show_fitted_world(report)
    shown = capsys.readouterr().out
    assert "trust it for which of two policies is better" in shown
    assert "baseline − linear" in shown or "linear − baseline" in shown
    assert 'FittedWorld.load("world.npz")' in shown and "! a note" in shown


def test_a_log_of_noise_is_said_to_be_one() -> None:
    report = Told(DiceRollers(), 1_500).report()
    assert report["verdict"] == "do not trust it"
    assert not report["model"]["beyond_chance"]
    assert "noise" in report["words"][0] and "tells no two of these policies" in report["words"][1]
    assert {pair["says"] for pair in report["pairs"]} == {"cannot tell"}


def test_a_log_without_exploration_judges_no_world(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was drawn, so nothing can be said of policies that nobody played."""
    one = copy(told())
    settled = [row._replace(support=False) for row in one.history.arrivals]
    one.history = one.history._replace(arrivals=settled)
    one.ring = one.history.ring()
    report = one.report()
    assert report["verdict"] == "do not trust it" and report["pairs"] == []
    assert report["kendall_tau"] is None and report["evaluated_on"] == 0
    assert {policy["evaluated"] for policy in report["policies"]} == {None}
    show_fitted_world(report)
    assert "more exploration" in capsys.readouterr().out


@pytest.mark.parametrize("action", application.actions.choices)
def test_outcomes_earn_what_is_expected_under_the_applications_reward(action: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(4):
        context = told().world.context(rng)
        earned = [earns(told().world.happenings(context, action, rng)) for _ in range(500)]
        expected = told().world.expected_reward(context, action)
        assert np.mean(earned) == pytest.approx(expected, abs=4.5 / np.sqrt(500))


def earns(happened: list[Happening]) -> float:
    outcomes = [
        TimedOutcome(str(at), "reward", one.name, one.value, *[round(one.after_s * 1000)] * 2)
        for at, one in enumerate(happened)
    ]
    return application.reward.value(application.reward.counted(DecisionTimes(0, 0), outcomes))


def test_outcomes_take_the_time_that_they_took_in_the_log() -> None:
    """A quit comes within 1.5 s, a level is won within 3 to 6."""
    rng, after = np.random.default_rng(2), {"quit": [0.0], "level_won": [0.0]}
    for _ in range(300):
        for one in told().world.happenings(told().world.context(rng), "hard", rng):
            after.setdefault(one.name, []).append(one.after_s)
    assert 0.5 < max(after["quit"]) <= 1.5 < max(after["level_won"]) <= 5.55


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 40.0]), min_size=1, max_size=64),
    st.floats(0, 1),
)
def test_tilted_chances_have_the_mean_that_is_asked_for(rewards: list[float], at: float) -> None:
    values = np.array(rewards)
    mean = float(np.clip(values.min() + at * np.ptp(values), values.min(), values.max()))
    chance = tilted(values, mean)
    assert chance is not None and (chance >= 0).all()
    assert chance.sum() == pytest.approx(1.0)
    assert chance @ values == pytest.approx(mean, abs=0.01 * max(float(np.ptp(values)), 1e-9))
    assert tilted(values, float(values.max()) + 1.0) is None


def test_two_rewards_are_tilted_to_the_shares_that_make_the_mean() -> None:
    assert tilted(np.array([0.0, 1.0]), 0.25) == pytest.approx([0.75, 0.25])
    assert tilted(np.array([0.0, 0.0, 1.0]), 1 / 3) == pytest.approx([1 / 3] * 3)


def test_a_file_gives_the_same_world_again(file: Path) -> None:
    again, rng = FittedWorld.load(file, application), np.random.default_rng(4)
    for _ in range(20):
        context = again.context(rng)
        for action in application.actions.choices:
            expected = told().world.expected_reward(context, action)
            assert again.expected_reward(context, action) == expected
            mine, theirs = np.random.default_rng(9), np.random.default_rng(9)
            assert again.happenings(context, action, mine) == told().world.happenings(
                context, action, theirs
            )


def test_labels_with_features_come_out_of_a_file_as_they_went_in(tmp_path: Path) -> None:
    features = {"hard": (0.9, 1.0), "easy": (0.1, 1.0), "normal": (0.5, 0.0)}
    described = replace(application, actions=Discrete(*features, features=features))
    as_world(described, told().log.take(np.arange(200))).save(tmp_path / "labels.npz")
    assert FittedWorld.load(tmp_path / "labels.npz", described).fitted.space == described.actions


def page(folder: Path, file: Path, **changes: str) -> Path:
    """The application's page, its world replaced by the fitted one."""
    text = PAGE.read_text().replace("world = Players()", f'world = FittedWorld.load("{file}")')
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    written = folder / "fitted_page.py"
    written.write_text(
        text.replace("    EpsilonGreedy,\n", "    EpsilonGreedy,\n    FittedWorld,\n")
    )
    return written


def test_a_page_can_take_it_as_its_world_and_an_agent_learns_in_it(
    file: Path, tmp_path: Path
) -> None:
    loaded = load_application(str(page(tmp_path, file)))
    assert isinstance(loaded.world, FittedWorld)
    eager = replace(
        loaded.application,
        exploration=EpsilonGreedy(0.2, start=0.5, decay=500),
        gate=Gate(margin=1.0),
    )
    result = simulate(eager, loaded.world, LinearAgent, decisions=1_500, share_over=400)
    assert result.left_version_0 is not None
    first = result.points[0].share  # of the rules, exploring
    assert first is not None and result.share is not None and result.share > first + 0.05
    assert result.learning is not None and result.learning.ring.reward[:1_000].std() > 0.5


def test_a_page_of_another_contract_or_reward_refuses_it(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractMismatch, match="observation or actions are others"):
        FittedWorld.load(
            file, replace(application, actions=Discrete("easy", "normal", "hard", "endless"))
        )
    changed = page(tmp_path, file, **{'"quit": -1.0': '"quit": -5.0'})
    with pytest.raises(ContractMismatch, match=r"another reward .* fit-world"):
        load_application(str(changed))
    changed = page(tmp_path, file, **{'Numeric("skill", low=0, high=1)': 'Numeric("skill")'})
    with pytest.raises(ContractMismatch, match="observation or actions are others"):
        load_application(str(changed))


def test_what_is_no_fitted_world_is_refused(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(file.read_bytes()[:2_000])
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, a=np.zeros(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, said=np.array([{"schema": 1}], dtype=object))
    for path in (tmp_path / "absent.npz", broken, arrays, pickled):
        with pytest.raises(BundleCorrupt, match="bakehouse fit-world"):
            FittedWorld.load(path)


def test_an_action_that_nobody_tried_is_worth_no_more_than_the_least() -> None:
    log = told().log
    tried = log.take(np.flatnonzero(log.rows[:1_000, 0] != 2))
    known = as_world(application, tried)
    assert tries(known)["hard"] == 0
    rng = np.random.default_rng(6)
    for _ in range(20):
        context = known.context(rng)
        worth = [known.expected_reward(context, a) for a in application.actions.choices]
        assert worth[2] == min(worth[:2])
        assert known.best_action(context) != "hard"
        known.happenings(context, "hard", rng)
    _, words = judged(Fit(100, 0.3, 0.1, 0.01), [], tries(known))
    assert words[-1].startswith("never tried: hard; the world knows nothing there")


def test_kinds_that_cannot_be_fitted_are_refused_with_what_remains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ApplicationError, match=r"episodic.*`bakehouse evaluate`"):
        check_kind(episodic)
    activated = replace(application, reward=replace(application.reward, activation=True))
    with pytest.raises(ApplicationError, match=r"activated.*`bakehouse evaluate`"):
        check_kind(activated)
    parts = Parts({"mode": Discrete("story", "duel"), "speed": Continuous(low=0, high=1)})
    ranking = Ranking(k=1, item=[Numeric("price", low=0, high=4)], most_items=6)
    for actions, rules in ((parts, {"mode": "story", "speed": [0.5]}), (ranking, ["a"])):
        with pytest.raises(ApplicationError, match=r"labels or to numbers.*compare --from"):
            check_kind(in_numbers(monkeypatch, actions, rules))


def in_numbers(monkeypatch: pytest.MonkeyPatch, actions: Any, rules: Any) -> Application:
    kinds = frozenset({actions.kind})
    monkeypatch.setitem(AGENTS, "bc", replace(AGENTS["bc"], actions=kinds))
    return Application(
        name="numbers",
        observation=[Numeric("x", low=0, high=1)],
        actions=actions,
        reward=Reward({"joy": 1.0}, window=seconds(5)),
        baseline=lambda context: rules,
        agent=Agent("bc"),
        exploration=Gaussian(std=0.1) if actions.kind == "continuous" else None,
    )


def test_numbers_are_fitted_too_and_not_beyond_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Joy is 1 − (a − x)², of a up to 1.5 in the log and up to 2 in the box."""
    numbers = in_numbers(monkeypatch, Continuous(low=0, high=2), [1.0])
    rng, n = np.random.default_rng(1), 3_000
    x, a = rng.random(n).round(3), 1.5 * rng.random(n)
    joy = 1 - (a - x) ** 2 + rng.normal(0, 0.1, n)
    log = Played(
        np.arange(n), x[:, None].astype(np.float32), a[:, None], joy,
        [json.dumps({"x": float(one)}) for one in x],
        [[Happening(1.0, "joy", float(one))] for one in joy],
    )  # fmt: skip
    found = as_world(numbers, log)
    for x_now in (0.2, 0.5, 0.9):
        best = found.best_action({"x": x_now})
        assert numbers.actions.problem_with(best) is None
        assert best[0] == pytest.approx(x_now, abs=0.2)
        assert found.expected_reward({"x": x_now}, [x_now]) == pytest.approx(1, abs=0.1)
        earned = [found.happenings({"x": x_now}, [1.2], rng)[0].value for _ in range(400)]
        expected = found.expected_reward({"x": x_now}, [1.2])
        assert expected == pytest.approx(1 - (1.2 - x_now) ** 2, abs=0.12)
        assert np.mean(np.array(earned, float)) == pytest.approx(expected, abs=0.05)
    found.save(tmp_path / "numbers.npz")
    again = FittedWorld.load(tmp_path / "numbers.npz", numbers)
    assert again.best_action({"x": 0.3}) == found.best_action({"x": 0.3})
    beyond = found.expected_reward({"x": 0.5}, [2.0])
    assert beyond == found.expected_reward({"x": 0.5}, [float(a.max())])
    assert [count == 0 for count in tries(found).values()] == [False] * 8 + [True] * 2


def test_a_log_of_bare_rewards_has_no_outcomes_to_play() -> None:
    other = replace(application, reward=Reward({"stars": 1.0}, window=seconds(8), default=9.0))
    with pytest.raises(InvalidHistory, match=r"plays outcomes by name.*stars"):
        played(told().history, told().ring, other)


def test_a_policys_worth_is_its_chances_times_what_actions_are_worth() -> None:
    ring, slots = told().ring, told().log.slots[:50]
    random = find_target("random", application, Path())
    worths = told().world.predicted_labels(ring.observation[slots])
    assert value_in_world(told().world, random, ring, slots) == pytest.approx(worths.mean())


def valued(name: str, in_world: float, mean: float, *, verdict: str = "sound") -> Valued:
    rng = np.random.default_rng(len(name))
    values = rng.normal(0, 0.1, 400)
    said = plain("doubly robust", values - values.mean() + mean, np.ones(400))
    return Valued(name, name, in_world, said, verdict)


def test_pairs_agree_disagree_or_cannot_be_told_apart() -> None:
    policies = [
        valued("a", 1.0, 1.0),
        valued("bb", 0.5, 0.5),
        valued("ccc", 2.0, 0.0),
        valued("dddd", 0.5001, 0.5),
        valued("eeeee", 0.0, 5.0, verdict="a guess"),
    ]
    pairs = {(p.first, p.second): p.says for p in compared_pairs(policies, confidence=0.95)}
    assert pairs[("a", "bb")] == "agrees"
    assert pairs[("a", "ccc")] == pairs[("bb", "ccc")] == "disagrees"
    assert pairs[("bb", "dddd")] == "cannot tell"
    assert {says for names, says in pairs.items() if "eeeee" in names} == {"cannot tell"}


def test_a_world_that_errs_about_pairs_names_them() -> None:
    good = Fit(1_000, 0.4, 0.2, 0.01)
    wrong = compared_pairs(
        [valued("a", 1.0, 1.0), valued("bb", 0.5, 0.5), valued("ccc", 2.0, 0.0)], confidence=0.95
    )
    trust, words = judged(good, wrong, {})
    assert trust == "do not trust it"
    assert "1 of 3 pairs" in words[1] and "between a and ccc; bb and ccc" in words[2]
    right = [pair for pair in wrong if pair.says == "agrees"]
    assert judged(good, right, {"easy": 12})[0] == "trust it"
    assert judged(good, right, {"easy": 12})[1][-1].startswith("hardly tried: easy (12)")
    assert judged(good, right * 4 + wrong[1:2], {})[0] == "with care"
    untold = [pair._replace(says="cannot tell") for pair in wrong]
    trust, words = judged(good, right + untold, {})
    assert trust == "with care" and "1 of 4 pairs are too few" in words[2]


def test_rank_correlation_counts_pairs() -> None:
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert kendall_tau([1, 2, 2], [1, 2, 3]) == pytest.approx(2 / np.sqrt(2 * 3))
    assert kendall_tau([1, 1], [1, 2]) is None


def test_a_fit_is_measured_against_the_mean_of_what_was_fitted() -> None:
    rewards = np.array([0.0, 1.0, 0.0, 1.0])
    assert fit_of(rewards, rewards, mean=0.5).r2 == 1.0
    assert fit_of(np.full(4, 0.5), rewards, mean=0.5).r2 == 0.0
    assert not fit_of(np.full(4, 0.5), rewards, mean=0.5).beyond_chance
    assert fit_of(np.array([0.25, 0.75] * 2), rewards, mean=0.5).r2 == pytest.approx(0.75)
