"""An application is checked when it is made, and every error says what to write instead."""

import sys

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
    Gate,
    Numeric,
    Reward,
    Rollout,
    Training,
    Vector,
    hours,
    minutes,
    seconds,
)
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.observation import Encoder
from bakehouse_schemas.errors import InvalidContext
from bakehouse_schemas.loading import load_application, load_applications


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
        (
            lambda: make(agent=Agent("neural_gredy")),
            "there are " + ", ".join(sorted(AGENTS)),
        ),
        (lambda: make(agent=Agent("lin_ucb", hidden=[64])), "it takes alpha, regularisation"),
        (lambda: make(agent=Agent("dqn", learning_rate=-1)), "a number above 0"),
        (lambda: make(agent=Agent("neural_greedy"), problem=Episodic()), r"use .*dqn"),
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
        # values of another type, and numbers that are none
        (lambda: make(name=None), "such as 'level-difficulty'"),
        (lambda: make(name="../other"), "such as 'level-difficulty'"),
        (lambda: make(name="game/control"), "such as 'level-difficulty'"),
        (lambda: make(name="game\n"), "such as 'level-difficulty'"),
        (lambda: make(observation=7), "expected a list of features"),
        (lambda: make(agent=Agent(["dqn"])), "there is no such agent"),
        (lambda: make(agent=Agent("dqn", learning_rate=10**400)), "cannot be shown|above 0"),
        (lambda: make(agent=Agent("dqn", learning_rate=float("inf"))), "a number above 0"),
        (lambda: make(observation=[Vector("v", 40_000), Vector("w", 40_000)]), "80000 dimensions"),
        (lambda: Discrete("easy", 7), "a label is a text"),
        (lambda: Discrete("easy", "a\nb"), "none of them a control character"),
        (lambda: Discrete("easy", "\ud800"), "none of them a control character"),
        (lambda: Numeric("\ud800"), "none of them a control character"),
        (lambda: Numeric("a", low="0", high=1), "expected a finite number"),
        (lambda: Numeric("a", low=0, high=float("inf")), "expected a finite number"),
        (lambda: Numeric("a", low=-1e300, high=1e300), "within float32"),
        (lambda: Numeric("a", default=float("nan")), "expected a finite number"),
        (lambda: Numeric("a", default=True), "expected a finite number"),
        (lambda: Numeric("a", default=10**5_000), "that cannot be shown"),
        (lambda: Categorical("a", values="abc"), "expected a list of labels"),
        (lambda: Categorical("a", values=7), "expected a list of labels"),
        (lambda: Categorical("a", values=["b", ["c"]]), "a label is a text"),
        (lambda: Categorical("a", values=["b", "c"], default="d"), "expected one of its labels"),
        (lambda: Categorical("a", buckets=2.5), "at least 2 buckets"),
        (lambda: Categorical("a", buckets=10**12), "at most 65536"),
        (lambda: Boolean("a", default="no"), "True or False"),
        (lambda: Vector("a", 1.5), "at least 1 number"),
        (lambda: Vector("a", 10**12), "at most 65536"),
        (lambda: Vector("a", 2, default=7), "expected a list of 2 numbers"),
        (lambda: Vector("a", 2, default=[1, "2"]), "expected finite numbers"),
        (lambda: Reward({"won": 10**400}, window=minutes(1)), "must be finite"),
        (lambda: Reward({"": 1}, window=minutes(1)), "outcome name: number"),
        (lambda: Reward({"won": 1}, window=10**5_000), "give a duration"),
        (lambda: Discrete([10**5_000, "b"]), "write the labels one by one"),
        (lambda: seconds("5"), r"expected a number, such as seconds\(30\)"),
        (lambda: minutes(float("nan")), r"expected a number, such as minutes\(30\)"),
        (lambda: hours(10**30), "and no century"),
        (lambda: Reward({"won": 1}, window=seconds(0.0001)), "at least a millisecond"),
        (lambda: Reward({"won": 1}, window=minutes(1), default="0"), "must be finite"),
        (lambda: Reward({"won": 1}, window=minutes(1), closes_after="1"), "at least 1 outcome"),
        (lambda: Training(every=seconds(-1)), r"such as seconds\(0.5\)"),
        (lambda: Training(batch=True), "from 1 to 65536"),
        (lambda: Training(seed=-1), "from 0 to 4294967295"),
        (lambda: EpsilonGreedy("0.1"), r"must be in \(0, 1\]"),
        (lambda: EpsilonGreedy(None), r"must be in \(0, 1\]"),
        (lambda: EpsilonGreedy(decay=1.5), "at least 1 decision"),
        (lambda: EpsilonGreedy(floor=None), r"must be in \(0, 0.5\]"),
        (lambda: Gate(margin="0"), "from 0 to 10"),
        (lambda: Rollout(holdout=None), "from 0 to 0.9"),
        (lambda: Episodic(n_step=1.5), "from 1 to 32"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write_instead(write, says):
    with pytest.raises(ApplicationError, match=says):
        write()


def test_a_baseline_that_answers_a_list_or_ends_the_process_is_named_too():
    with pytest.raises(ApplicationError, match=r"answered \['easy'\]: expected one of"):
        make(baseline=lambda context: ["easy"]).baseline_action({})
    with pytest.raises(ApplicationError, match="raised SystemExit"):
        make(baseline=lambda context: sys.exit(3)).baseline_action({})


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
        ("x = 1", "found nothing of that name"),
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        ("application = 'game'", "found str"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("raise BaseException('odd')", "BaseException: odd"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class Mute(Exception):\n  __str__ = None\nraise Mute", "raised Mute \\(broken"),
        ("def __getattr__(name): raise ValueError(name)", "ValueError: application"),
        ("x = '\0'", "null bytes"),
        ("x = " + "(" * 5_000, "loading it raised"),
        ("x = " + "-" * 100_000 + "1", "loading it raised"),
    ],
)
def test_a_file_without_a_usable_application_is_refused_with_the_reason(tmp_path, text, says):
    page = tmp_path / "broken.py"
    page.write_text(text)
    with pytest.raises(ApplicationError, match=says):
        load_application(str(page))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Numerik('skill')", "'Numerik' is not defined .*line 3"),
        ("Numeric('skill', lo=0)", "line 3.*; did you mean 'low'"),
        ("Numeric('skill', zzz=0)", "line 3.*; it takes name, low, high"),
        ("Numeric('skill', low=1, high=0)", "low must be below high .broken.py, line 3"),
    ],
)
def test_a_mistake_in_a_page_is_told_with_its_line_and_what_was_meant(tmp_path, line, says):
    page = tmp_path / "broken.py"
    page.write_text(f"from bakehouse import *\n\n{line}\n")
    with pytest.raises(ApplicationError, match=says):
        load_application(str(page))


def test_a_page_named_as_no_file_is_says_what_to_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quests.py").write_text("x = 1")
    (tmp_path / "quests.txt").write_text("x = 1")
    for ref, says in {
        "quests.py:application": "without an attribute, quests.py",
        "quests": "did you mean quests.py",
        "quests.txt": "does not end in .py",
        "quest": "name a file, such as game.py",
    }.items():
        with pytest.raises(ApplicationError, match=says):
            load_application(ref)


def test_a_page_that_is_no_text_or_no_file_is_refused(tmp_path):
    page = tmp_path / "latin.py"
    page.write_bytes(b"x = '\xff'")
    with pytest.raises(ApplicationError, match="loading it raised"):
        load_application(str(page))
    folder = tmp_path / "folder.py"
    folder.mkdir()
    with pytest.raises(ApplicationError, match="is a folder; name the file in it"):
        load_application(str(folder))
    for ref in ("a\0b.py", "", ".", "..", ":", "\ud800.py", "a" * 5_000 + ".py"):
        with pytest.raises(ApplicationError):
            load_application(ref)


def test_ctrl_c_while_a_page_loads_is_still_ctrl_c(tmp_path):
    page = tmp_path / "slow.py"
    page.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_application(str(page))


def test_a_missing_file_and_module_are_named(tmp_path):
    with pytest.raises(ApplicationError, match="no such file"):
        load_application(str(tmp_path / "none.py"))
    with pytest.raises(ApplicationError, match="importing 'no_such_module'"):
        load_application("no_such_module:application")
