"""History from real files: Parquet, CSV and Delta."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from bakehouse_learner.offline.history.history import History, read_history
from bakehouse_learner.offline.history.layout import START_MS
from bakehouse_learner.offline.history.propensity_model import estimate_propensities
from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Episodic,
    EpsilonGreedy,
    Gaussian,
    seconds,
)
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric, Vector
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.errors import InvalidHistory
from tests.replay_rows import T0, Table, decision, following, outcome

SHOP = Application(
    name="shop",
    observation=[
        Numeric("level", low=0, high=10),
        Categorical("country", values=["DE", "JP"]),
        Boolean("pays", default=False),
    ],
    actions=Discrete("hat", "horse"),
    reward=Reward({"bought": 2.0, "left": -1.0}, window=seconds(60), default=0.5),
    baseline=lambda context: "hat",
)
QUEST = replace(
    SHOP,
    name="quest",
    agent=Agent("dqn"),
    problem=Episodic(discount=0.9, n_step=2, timeout=seconds(30)),
)
ROWS: dict[str, list[Any]] = {
    "level": [1, 2, 3, 4],
    "country": ["DE", "JP", "DE", "JP"],
    "pays": [True, False, None, True],
    "action": ["hat", "horse", "hat", "horse"],
    "bought": [1, 0, None, 3],
    "left": [False, True, False, False],
    "propensity": [0.9, 0.1, 0.9, 0.25],
    "decided_at": [T0 + 1000 * at for at in range(4)],
}


def changed(**columns: Any) -> dict[str, list[Any]]:
    """`ROWS` with other columns; None takes one out."""
    merged = ROWS | columns
    return {name: column for name, column in merged.items() if column is not None}


def parquet(folder: Path, rows: dict[str, list[Any]], name: str = "log.parquet") -> Path:
    pq.write_table(pa.table(rows), folder / name)
    return folder / name


def rewards(history: History) -> list[float]:
    ring = history.ring()
    return [float(reward) for reward in ring.reward[: ring.size]]


def test_a_parquet_file_with_a_column_for_each_feature_and_outcome(tmp_path: Path) -> None:
    history = read_history(SHOP, parquet(tmp_path, ROWS))
    assert rewards(history) == [2.0, -1.0, 0.5, 6.0]  # bought once, left, nothing, bought three
    ring = history.ring()
    assert ring.matured[:4].all()
    np.testing.assert_array_equal(ring.observation[:4, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(ring.observation[2], SHOP.encoder.encode({
        "level": 3, "country": "DE", "pays": False}))  # fmt: skip
    assert ring.action[:4].tolist() == [0, 1, 0, 1]
    assert ring.propensity[:4].tolist() == [0.9, 0.1, 0.9, 0.25]
    assert ring.baseline[:4].tolist() == [0, 0, 0, 0]
    assert ring.decided_at_ms[:4].tolist() == ROWS["decided_at"]
    assert ring.support[:4].all()
    assert (history.propensities, history.notes, history.timed) == ("logged", (), False)


def test_the_same_log_as_csv_as_a_folder_and_as_a_delta_table_is_the_same(tmp_path: Path) -> None:
    expected = read_history(SHOP, parquet(tmp_path, ROWS)).ring()
    frame = pd.DataFrame(ROWS)
    frame["decided_at"] = pd.to_datetime(frame["decided_at"], unit="ms", utc=True)
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_csv(tmp_path / "log.csv.gz", index=False)
    (tmp_path / "parts").mkdir()
    parquet(tmp_path / "parts", {name: column[:2] for name, column in ROWS.items()}, "a.parquet")
    parquet(tmp_path / "parts", {name: column[2:] for name, column in ROWS.items()}, "b.parquet")
    write_deltalake(str(tmp_path / "delta"), pa.table(ROWS))
    for name in ("log.csv", "log.csv.gz", "parts", "delta"):
        ring = read_history(SHOP, tmp_path / name).ring()
        for column in ("observation", "action", "reward", "propensity", "decided_at_ms"):
            np.testing.assert_array_equal(
                getattr(ring, column)[:4], getattr(expected, column)[:4], err_msg=f"{name} {column}"
            )


def test_contexts_and_outcomes_as_json_say_when_things_happened(tmp_path: Path) -> None:
    application = replace(
        SHOP, observation=[Numeric("level", low=0, high=10), Vector("mood", length=2)]
    )
    rows = {
        "context": [json.dumps({"level": 2, "mood": [1, 2]}), json.dumps({"level": 3})],
        "mood": [None, "[5, 6]"],  # a column of its own wins
        "action": ["hat", "hat"],
        "outcomes": [
            json.dumps([{"name": "bought", "value": 2, "after_s": 59}]),
            json.dumps([{"name": "bought", "after_s": 61}]),  # the window is a minute
        ],
        "propensity": [0.5, 0.5],
    }
    history = read_history(application, parquet(tmp_path, rows))
    assert rewards(history) == [4.0, 0.5]
    assert history.timed
    assert history.ring().observation[:2].tolist() == [[2, 1, 2], [3, 5, 6]]
    assert history.arrivals[1].decided_at_ms == START_MS + 1000
    assert "a second apart" in history.notes[0]


def test_rewards_of_the_file_itself_stand_in_for_the_applications_rule(tmp_path: Path) -> None:
    rows = changed(bought=None, left=None, reward=[0.0, -2.5, 7.0, 1.0])
    history = read_history(SHOP, parquet(tmp_path, rows))
    assert rewards(history) == [0.0, -2.5, 7.0, 1.0]
    assert "the file's own" in history.notes[0]
    assert history.application.contract == SHOP.contract


def test_a_changed_reward_makes_other_rewards_of_the_same_log(tmp_path: Path) -> None:
    path = parquet(tmp_path, ROWS)
    thrifty = replace(SHOP, reward=Reward({"bought": 1.0, "left": -5.0}, window=seconds(60)))
    assert rewards(read_history(thrifty, path)) == [1.0, -5.0, 0.0, 3.0]


def test_an_outcome_without_a_column_never_happened_and_that_is_said(tmp_path: Path) -> None:
    history = read_history(SHOP, parquet(tmp_path, changed(left=None)))
    assert rewards(history) == [2.0, 0.5, 0.5, 6.0]
    assert "no column for left" in history.notes[0]


def test_rows_are_taken_in_the_order_of_their_times_and_the_newest_of_too_many(
    tmp_path: Path,
) -> None:
    rows = changed(decided_at=[T0 + 3000, T0 + 1000, T0, T0 + 2000])
    history = read_history(SHOP, parquet(tmp_path, rows))
    assert [row.action for row in history.arrivals] == [0, 1, 1, 0]
    newest = read_history(SHOP, parquet(tmp_path, rows), most=2)
    assert [row.decided_at_ms for row in newest.arrivals] == [T0 + 2000, T0 + 3000]
    assert "older ones were left out" in newest.notes[-1]


def episodes(**columns: Any) -> dict[str, list[Any]]:
    """Two episodes, their rows mixed: a of three steps, b of two."""
    return {
        "level": [1, 5, 2, 6, 3],
        "country": ["DE"] * 5,
        "episode_id": ["a", "b", "a", "b", "a"],
        "step": [0, 0, 1, 1, 2],
        "action": ["hat"] * 5,
        "bought": [0, 1, 0, 0, 1],
        "propensity": [0.5] * 5,
        **columns,
    }


def test_steps_of_an_episode_follow_each_other_and_the_last_ends_it(tmp_path: Path) -> None:
    ring = read_history(QUEST, parquet(tmp_path, episodes())).ring()
    assert ring.first[:5].tolist() == [True, True, False, False, False]
    assert ring.next_sequence[:5].tolist() == [2, 3, 4, -1, -1]
    np.testing.assert_array_equal(ring.next_observation[0], ring.observation[2])
    assert ring.timed_out[:5].tolist() == [False, False, False, True, True]
    rows = episodes(end=[False, False, False, True, None])
    ring = read_history(QUEST, parquet(tmp_path, rows)).ring()
    assert ring.ended[:5].tolist() == [False, False, False, True, False]


def test_episodes_may_be_told_by_predecessors_instead(tmp_path: Path) -> None:
    rows = episodes(
        decision_id=["a0", "b0", "a1", "b1", "a2"],
        previous_decision_id=[None, None, "a0", "b0", "a1"],
    )
    rows.pop("episode_id")
    rows.pop("step")
    ring = read_history(QUEST, parquet(tmp_path, rows)).ring()
    assert ring.next_sequence[:5].tolist() == [2, 3, 4, -1, -1]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"action": ["hat", "cat", "hat", "horse"]},
         r"row 2, column 'action': 'cat' came, expected one of \['hat', 'horse'\]"),
        ({"propensity": [0.9, 1.5, 0.9, 0.0]},
         "row 2, column 'propensity': 1.5 came, expected a probability above 0.*row 4"),
        ({"level": [1, None, 3, 4]},
         "row 2, column 'level': None came, expected a value, as"),
        ({"country": ["DE", "FR", "DE", "JP"]},
         r"row 2, column 'country': 'FR' came, expected one of \['DE', 'JP'\]"),
        ({"bought": [1, 0, float("inf"), 0]},
         "row 3, column 'bought': inf came, expected a finite number"),
        ({"decided_at": ["yesterday"] * 4},
         "row 1, column 'decided_at': 'yesterday' came, expected a time such as"),
        ({"eligible_actions": [None, '["hat"]', None, None]},
         "row 2, column 'action': 'horse' came, expected one of its eligible_actions"),
        ({"decision_id": ["a", "b", "a", "c"]}, "row 3, column 'decision_id'.*row 1 has it too"),
        ({"action": None}, r"has the columns \[.*\]: expected `action` among them"),
        ({"bought": None, "left": None}, "expected outcomes to make a reward of: a column for"),
        ({"cohort": ["us"] * 4}, "row 1.*'policy' or 'holdout'; .* nothing was learned"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_row_and_column(
    tmp_path: Path, columns: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidHistory, match=expected):
        read_history(SHOP, parquet(tmp_path, changed(**columns)))


def test_many_problems_are_told_together_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(InvalidHistory, match=r"row 5, .*; and 7 more; nothing was learned"):
        many = {name: column * 3 for name, column in ROWS.items()} | {"action": ["cat"] * 12}
        read_history(SHOP, parquet(tmp_path, many))


def test_what_is_not_there_or_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidHistory, match="there is nothing there; expected a home"):
        read_history(SHOP, tmp_path / "nothing.parquet")
    (tmp_path / "log.xlsx").write_bytes(b"PK")
    with pytest.raises(InvalidHistory, match="expected a file that ends in"):
        read_history(SHOP, tmp_path / "log.xlsx")
    (tmp_path / "log.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(InvalidHistory, match="cannot be read"):
        read_history(SHOP, tmp_path / "log.parquet")
    with pytest.raises(InvalidHistory, match="holds no rows"):
        read_history(SHOP, parquet(tmp_path, {name: [] for name in ROWS}, "empty.parquet"))
    rows = episodes()
    rows.pop("episode_id")
    with pytest.raises(InvalidHistory, match="the problem is episodic, so expected `episode_id`"):
        read_history(QUEST, parquet(tmp_path, rows))


def logs_without_propensities(n: int = 12_000) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Logs whose choice follows a softmax of the context; and how likely each choice was."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0, 10, n)
    country = rng.integers(0, 2, n)
    likely = 1 / (1 + np.exp(-(0.6 * (level - 5) + 1.5 * country - 0.5)))  # of a horse
    horse = rng.random(n) < likely
    rows = {
        "level": level.tolist(),
        "country": [("DE", "JP")[at] for at in country],
        "action": [("hat", "horse")[int(taken)] for taken in horse],
        "bought": (rng.random(n) < 0.3).tolist(),
        "decided_at": [T0 + at for at in range(n)],
    }
    return rows, np.where(horse, likely, 1 - likely)


def test_propensities_that_were_not_logged_are_estimated_and_that_is_said(tmp_path: Path) -> None:
    rows, truth = logs_without_propensities()
    history = read_history(SHOP, parquet(tmp_path, rows))
    assert history.propensities == "estimated"
    assert "12000 of 12000 propensities are estimated" in history.notes[-1]
    found = np.array([row.known.propensity for row in history.arrivals])
    assert np.abs(found - truth).mean() < 0.01
    assert np.mean(1 / found) == pytest.approx(np.mean(1 / truth), rel=0.05)
    assert found.min() >= SHOP.exploration.floor
    assert all(row.support for row in history.arrivals)


def test_propensities_are_estimated_only_where_they_are_missing(tmp_path: Path) -> None:
    rows, _ = logs_without_propensities(600)
    rows["propensity"] = [0.7, None] * 300
    history = read_history(SHOP, parquet(tmp_path, rows))
    assert history.propensities == "partly estimated"
    assert [row.known.propensity for row in history.arrivals][::2] == [0.7] * 300
    assert len({row.known.propensity for row in history.arrivals[1::2]}) > 200


def test_a_row_is_no_part_of_the_fit_that_estimates_it() -> None:
    """Choices by a coin: whoever fitted his own rows would think them likelier than half."""
    rng = np.random.default_rng(0)
    n, width = 200, 60
    observation = rng.normal(size=(n, width)).astype(np.float32)
    action, eligible = rng.integers(0, 2, n), np.ones((n, 2), dtype=bool)
    found = estimate_propensities(observation, action, eligible, np.arange(n), floor=0.01)
    assert found.mean() < 0.55
    # 50 subjects always choose alike: with their own other rows in the fit, that would be seen
    subject = np.arange(n) % 50
    code = np.eye(50, dtype=np.float32)[subject]
    habits = rng.integers(0, 2, 50)[subject]
    together = estimate_propensities(code, habits, eligible, subject, floor=0.01)
    apart = estimate_propensities(code, habits, eligible, np.arange(n), floor=0.01)
    assert together.mean() < 0.6 < 0.65 < apart.mean()


def test_an_action_that_is_not_eligible_takes_no_probability() -> None:
    eligible = np.ones((400, 3), dtype=bool)
    eligible[::2, 2] = False
    action = np.where(eligible[:, 2], 2, np.arange(400) // 2 % 2)
    found = estimate_propensities(
        np.zeros((400, 1), np.float32), action, eligible, np.arange(400), floor=0.01
    )
    assert found[::2] == pytest.approx(0.5, abs=0.05)
    assert found[1::2].min() > 0.9


def replay(home: Path, application: Application) -> list[dict[str, Any]]:
    table = Table(home / "tables")
    rows = []
    for at in range(3):
        made = decision(
            application, {"level": at, "country": "JP"}, "hat", at_ms=T0 + at, propensity=0.8
        )
        rows.append(made)
        table.append([made])
        table.append([outcome(made, "bought", after_ms=500 * (at + 1))])
    return rows


def test_a_home_is_read_from_its_replay_table_folded(tmp_path: Path) -> None:
    replay(tmp_path, SHOP)
    for source in (tmp_path, tmp_path / "tables", tmp_path / "tables" / "replay"):
        history = read_history(SHOP, source)
        assert rewards(history) == [2.0, 2.0, 2.0]
        assert (history.timed, history.propensities, history.table_version) == (True, "logged", 5)
        assert history.stream_time_ms == T0 + 2 + 1500
    assert rewards(read_history(SHOP, tmp_path, most=2)) == [2.0, 2.0]
    with pytest.raises(InvalidHistory, match="holds no decisions of 'other'"):
        read_history(replace(SHOP, name="other"), tmp_path)


def test_history_of_an_older_observation_is_encoded_anew_from_its_contexts(tmp_path: Path) -> None:
    replay(tmp_path, SHOP)
    wider = replace(SHOP, observation=[*SHOP.observation, Numeric("age", default=30)])
    history = read_history(wider, tmp_path)
    ring = history.ring()
    assert ring.observation[:3].tolist() == [
        wider.encoder.encode({"level": at, "country": "JP"}).tolist() for at in range(3)
    ]
    assert "6 rows are of another contract: their contexts were encoded anew" in history.notes[0]
    narrower = replace(SHOP, observation=[Numeric("age", low=0, high=100)])
    with pytest.raises(InvalidHistory, match="6 rows cannot be encoded"):
        read_history(narrower, tmp_path)


def test_a_label_that_a_home_knows_to_be_new_was_not_eligible_in_its_history(
    tmp_path: Path,
) -> None:
    replay(tmp_path, SHOP)
    note_contracts(tmp_path, [SHOP])
    labels = SHOP.actions.choices
    history = read_history(replace(SHOP, actions=Discrete("new", *labels)), tmp_path)
    assert history.ring().eligible[:3].tolist() == [[False, *(True for _ in labels)]] * 3


def test_successors_of_an_older_observation_are_encoded_anew_too(tmp_path: Path) -> None:
    table = Table(tmp_path / "tables")
    first = decision(QUEST, {"level": 1, "country": "JP"}, "hat")
    second = decision(
        QUEST, {"level": 2, "country": "JP"}, "hat", at_ms=T0 + 10, previous=first["decision_id"]
    )
    table.append([first, second, following(first, second)])
    wider = replace(QUEST, observation=[*QUEST.observation, Numeric("age", default=30)])
    ring = read_history(wider, tmp_path).ring()
    assert ring.next_sequence[0] == 1
    np.testing.assert_array_equal(ring.next_observation[0], ring.observation[1])


def test_times_are_read_as_text_as_timestamps_and_as_milliseconds(tmp_path: Path) -> None:
    at = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
    ms = round(at.timestamp() * 1000)
    for times in (
        ["2026-11-24T10:30:00Z"] * 4,
        ["2026-11-24T11:30:00+01:00"] * 4,
        ["2026-11-24 10:30:00"] * 4,
        [at] * 4,
        [at.replace(tzinfo=None)] * 4,
        [ms] * 4,
        [at.astimezone().astimezone(UTC) + timedelta(0)] * 4,
    ):
        history = read_history(SHOP, parquet(tmp_path, changed(decided_at=times)))
        assert [row.decided_at_ms for row in history.arrivals] == [ms] * 4


def test_the_exploration_floor_bounds_what_is_estimated(tmp_path: Path) -> None:
    rows, _ = logs_without_propensities(2_000)
    rows["action"] = ["horse" if level > 5 else "hat" for level in rows["level"]]
    rows["action"][0] = "horse" if rows["level"][0] <= 5 else "hat"  # one that nobody expects
    floored = replace(SHOP, exploration=EpsilonGreedy(0.2, floor=0.05))
    history = read_history(floored, parquet(tmp_path, rows))
    assert history.arrivals[0].known.propensity == 0.05


@pytest.fixture
def any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = frozenset({"continuous", "parts", "ranking"})
    monkeypatch.setitem(AGENTS, "bc", replace(AGENTS["bc"], actions=kinds))


def deciding(actions: Any, rules: Any) -> Application:
    return replace(
        SHOP,
        actions=actions,
        agent=Agent("bc"),
        baseline=lambda context: rules,
        exploration=Gaussian(std=0.2) if actions.kind != "ranking" else EpsilonGreedy(0.1),
    )


@pytest.mark.usefixtures("any_kind")
def test_numbers_are_read_with_their_density(tmp_path: Path) -> None:
    priced = deciding(Continuous(low=0, high=10), [5.0])
    rows = changed(action=[0.5, 9.0, 3.0, 10.0], propensity=[0.1, 2.5, 0.3, 0.4])
    ring = read_history(priced, parquet(tmp_path, rows)).ring()
    assert ring.action[:4].ravel().tolist() == [0.5, 9.0, 3.0, 10.0]
    assert ring.propensity[1] == 2.5  # a density may be above 1
    pd.DataFrame(rows).to_csv(tmp_path / "log.csv", index=False)
    again = read_history(priced, tmp_path / "log.csv").ring()
    np.testing.assert_array_equal(again.action[:4], ring.action[:4])
    rows = changed(action=[0.5, 11.0, 3.0, 10.0])
    with pytest.raises(InvalidHistory, match=r"row 2, column 'action': 11.0 came, number 0 is"):
        read_history(priced, parquet(tmp_path, rows))
    rows = changed(action=[0.5, 9.0, 3.0, 10.0], propensity=None)
    with pytest.raises(InvalidHistory, match=r"row 1, .*only that of labels can be estimated"):
        read_history(priced, parquet(tmp_path, rows))


@pytest.mark.usefixtures("any_kind")
def test_parts_and_rankings_are_read_from_json(tmp_path: Path) -> None:
    parts = Parts({"mode": Discrete("story", "duel"), "speed": Continuous(low=0, high=2)})
    both = deciding(parts, {"mode": "story", "speed": [1.0]})
    rows = changed(action=['{"mode": "duel", "speed": [0.5]}'] * 4)
    ring = read_history(both, parquet(tmp_path, rows)).ring()
    assert ring.action[:4].tolist() == [[1.0, 0.5]] * 4

    ranking = Ranking(k=2, item=[Numeric("price", low=0, high=9)], most_items=4)
    shelf = deciding(ranking, ["a", "b"])
    items = json.dumps([{"id": name, "price": at} for at, name in enumerate("abc")])
    rows = changed(action=['["c", "a"]', '["b", "c"]'] * 2, items=[items] * 4)
    ring = read_history(shelf, parquet(tmp_path, rows)).ring()
    assert ring.action[:2].tolist() == [[2.0, 0.0], [1.0, 2.0]]
    assert ring.items[0].ravel().tolist() == [0.0, 1.0, 2.0, 0.0]
    rows["items"][2] = None
    with pytest.raises(InvalidHistory, match="row 3, column 'items': None came, nothing; expected"):
        read_history(shelf, parquet(tmp_path, rows))
