"""An application is checked when it is made, and every error says what to write instead."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse import (
    Agent,
    Application,
    ApplicationError,
    Boolean,
    Categorical,
    Discrete,
    Episodic,
    EpsilonGreedy,
    Numeric,
    Reward,
    Rollout,
    Training,
    Vector,
    minutes,
    seconds,
)
from schemas.errors import InvalidContext
from schemas.loading import load_application, load_applications
from schemas.observation import Encoder


def make(**changes: object) -> Application:
    given_ = {
        "name": "game",
        "observation": [Numeric("skill", low=0, high=1)],
        "actions": Discrete("easy", "hard"),
        "reward": Reward({"won": 1.0}, window=minutes(1)),
        "baseline": lambda context: "easy",
    } | changes
    return Application(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: make(name="My Game"), "such as 'level-difficulty'"),
        (lambda: Discrete(["easy", "hard"]), r"Discrete\('easy', 'hard'\)"),
        (lambda: Discrete("easy"), "at least two labels"),
        (lambda: Discrete("easy", "easy"), "all different"),
        (lambda: make(actions=["easy", "hard"]), r"expected Discrete\(…\)"),
        (lambda: make(agent=Agent("neural_gredy")), "there are dqn, lin_ucb, neural_greedy"),
        (lambda: make(agent=Agent("lin_ucb", hidden=[64])), "it takes alpha, regularisation"),
        (lambda: make(agent=Agent("dqn", learning_rate=-1)), "a number above 0"),
        (lambda: make(agent=Agent("neural_greedy"), problem=Episodic()), "use dqn"),
        (lambda: make(observation=[]), "at least one"),
        (lambda: make(observation=[Numeric("a"), Boolean("a")]), "each name once"),
        (lambda: make(observation=["skill"]), "expected Numeric, Categorical"),
        (lambda: Numeric("a", low=0), "give both"),
        (lambda: Numeric("a", low=1, high=0), "low must be below high"),
        (lambda: Categorical("a"), "either values"),
        (lambda: Vector("a", 2, default=[1.0]), "expected 2"),
        (lambda: Reward({"won": 1.0}, window=30), r"window=minutes\(30\)"),
        (lambda: Reward({"won": float("nan")}, window=minutes(1)), "must be finite"),
        (lambda: Reward({"won": 1.0}, window=minutes(1), late="maybe"), "amend"),
        (lambda: Training(every=0.5), r"such as seconds\(0.5\)"),
        (lambda: EpsilonGreedy(0.0), "without exploration"),
        (lambda: make(exploration=EpsilonGreedy(floor=0.5), actions=Discrete(*"abc")), "at most"),
        (lambda: Rollout(holdout=2.0), "from 0 to 0.9"),
        (lambda: make(baseline="easy"), "the game's rules today"),
        (lambda: Episodic(discount=1.5), r"\(0, 1\]"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write_instead(write, says):
    with pytest.raises(ApplicationError, match=says):
        write()


def test_a_baseline_that_answers_no_action_is_named():
    with pytest.raises(ApplicationError, match=r"answered 'nightmare': expected one of"):
        make(baseline=lambda context: "nightmare").baseline_action({})


def test_the_contract_changes_with_observation_and_actions_and_not_with_reward_or_schedule():
    contract = make().contract
    assert make(reward=Reward({"won": 2.0}, window=minutes(5))).contract == contract
    assert make(training=Training(every=seconds(9))).contract == contract
    assert make(observation=[Numeric("skill", low=0, high=1, default=0.5)]).contract == contract
    assert make(observation=[Numeric("skill", low=0, high=2)]).contract != contract
    assert make(actions=Discrete("hard", "easy")).contract != contract
    assert make(agent=Agent("dqn"), problem=Episodic()).contract != contract


ENCODER = Encoder(
    [
        Numeric("skill"),
        Categorical("plan", values=["free", "paid"]),
        Boolean("new", default=False),
        Vector("days", 2),
    ]
)


def test_an_observation_is_the_features_in_order():
    context = {"skill": 2.5, "plan": "paid", "new": True, "days": [3, 4.0], "ignored": "x"}
    observation = ENCODER.encode(context)
    assert observation.dtype == np.float32
    assert observation.tolist() == [2.5, 0.0, 1.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"skill": None}, "missing, and its feature has no default"),
        ({"skill": True}, "expected a number, got bool"),
        ({"skill": "3"}, "expected a number, got str"),
        ({"skill": 1e39}, "finite float32"),
        ({"skill": float("nan")}, "finite float32"),
        ({"skill": 10**400}, "finite float32"),
        ({"plan": "gold"}, "expected one of"),
        ({"plan": 1}, "expected a label"),
        ({"new": 1}, "expected true or false"),
        ({"days": [1]}, "list of 2 numbers"),
        ({"days": [1, "2"]}, "expected a number"),
    ],
)
def test_a_context_that_cannot_be_encoded_is_refused_by_name(changes, says):
    context = {"skill": 1.0, "plan": "free", "days": [0, 0]} | changes
    with pytest.raises(InvalidContext, match=says):
        ENCODER.encode(context)


@given(st.text(max_size=20))
def test_a_hashed_label_has_one_one_in_the_same_place_everywhere(label):
    encoder = Encoder([Categorical("country", buckets=8)])
    first = encoder.encode({"country": label})
    assert first.sum() == 1.0
    assert np.array_equal(first, encoder.encode({"country": label}))


def test_a_hashed_label_keeps_its_bucket_between_releases():
    encoder = Encoder([Categorical("country", buckets=32)])
    assert encoder.encode({"country": "ch"}).argmax() == 31  # crc32("country=ch") mod 32


def test_exploration_falls_linearly_from_start_to_epsilon():
    schedule = EpsilonGreedy(0.1, start=0.5, decay=100)
    reached = [schedule.epsilon_after(n) for n in (0, 50, 100, 1000)]
    assert reached == pytest.approx([0.5, 0.3, 0.1, 0.1])


def test_an_application_is_loaded_from_a_file_or_a_module(tmp_path):
    page = tmp_path / "game.py"
    page.write_text(
        "from bakehouse import *\n"
        "application = Application(name='game', observation=[Numeric('x')],\n"
        "    actions=Discrete('a', 'b'), reward=Reward({'won': 1}, window=minutes(1)),\n"
        "    baseline=lambda context: 'a')\n"
    )
    loaded = load_application(str(page))
    assert loaded.application.name == "game"
    assert loaded.world is None
    with pytest.raises(ApplicationError, match="both define"):
        load_applications([str(page), str(page)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "found NoneType"),
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        ("application = 'game'", "found str"),
    ],
)
def test_a_file_without_a_usable_application_is_refused_with_the_reason(tmp_path, text, says):
    page = tmp_path / "broken.py"
    page.write_text(text)
    with pytest.raises(ApplicationError, match=says):
        load_application(str(page))


def test_a_missing_file_and_module_are_named(tmp_path):
    with pytest.raises(ApplicationError, match="no such file"):
        load_application(str(tmp_path / "none.py"))
    with pytest.raises(ApplicationError, match="importing 'no_such_module'"):
        load_application("no_such_module:application")
