"""The example applications are no pushovers, and their worlds say the truth about themselves."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.exploration import NONE
from bakehouse_schemas.application.reward import DecisionTimes, TimedOutcome
from bakehouse_schemas.events.checks import check_outcome
from bakehouse_schemas.events.events import OutcomeRequest
from bakehouse_schemas.execution.propensity import executed_distribution, one_hot
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.loading import Loaded, load_application
from bakehouse_schemas.worlds.share import Logged, bandit_values, episodic_values, share
from bakehouse_schemas.worlds.world import BanditWorld, EpisodicWorld, Happening

FOLDER = Path(__file__).parents[2] / "applications"
MANY = 1 << 40  # decisions: exploration has come to its final value
REFS = [
    str(FOLDER / "level_difficulty.py"),
    str(FOLDER / "quest_chain.py"),
    str(FOLDER / "message_hour.py"),
    str(FOLDER / "boss_health.py"),
]


@pytest.fixture(params=REFS, ids=lambda ref: Path(ref).stem)
def loaded(request: pytest.FixtureRequest) -> Loaded:
    return load_application(request.param)


def tried(loaded: Loaded) -> list[Any]:
    """All labels, or numbers all over the box."""
    actions = loaded.application.actions
    if isinstance(actions, Discrete):
        return list(actions.labels)
    shape = loaded.application.shape
    axes = [np.linspace(a, b, 5).tolist() for a, b in zip(shape.low, shape.high, strict=True)]
    return [list(point) for point in itertools.product(*axes)]


def level_decisions(loaded: Loaded, wanted: str, count: int = 3_000) -> list[Logged]:
    """Decisions of a constant policy with the application's own final exploration."""
    application, rng = loaded.application, np.random.default_rng(1)
    assert isinstance(loaded.world, BanditWorld)
    size = len(application.actions)
    eligible = np.ones(size, dtype=bool)
    final = application.exploration.after(MANY)
    at = application.actions.labels.index(wanted)
    executed = executed_distribution(
        one_hot(at, size), eligible, epsilon=final.epsilon, floor=final.floor
    )
    return [Logged(loaded.world.context(rng), executed, eligible, final) for _ in range(count)]


def reward_of(loaded: Loaded, happenings: list[Happening]) -> float:
    """The application's reward of what occurred, by its own rule."""
    reward = loaded.application.reward
    times = DecisionTimes(0, 0)
    outcomes = [
        TimedOutcome(
            str(n), "reward", h.name, h.value, round(h.after_s * 1000), round(h.after_s * 1000)
        )
        for n, h in enumerate(happenings)
    ]
    return reward.value(reward.counted(times, outcomes))


@pytest.mark.parametrize("wanted", ["easy", "normal", "hard"])
def test_no_constant_difficulty_has_a_share_above_0_6(wanted: str) -> None:
    loaded = load_application(REFS[0])
    assert isinstance(loaded.world, BanditWorld)
    values = bandit_values(loaded.world, loaded.application, level_decisions(loaded, wanted))
    constant = share(values)
    assert constant is not None and constant <= 0.6


def test_the_rules_of_level_difficulty_leave_room_for_learning() -> None:
    loaded = load_application(REFS[0])
    assert isinstance(loaded.world, BanditWorld)
    values = bandit_values(loaded.world, loaded.application, level_decisions(loaded, "easy"))
    baseline = share(values, of="baseline")
    assert baseline is not None and 0.3 <= baseline <= 0.7


def test_every_difficulty_is_the_best_for_many_players() -> None:
    loaded = load_application(REFS[0])
    world, rng = loaded.world, np.random.default_rng(2)
    assert isinstance(world, BanditWorld)
    labels = loaded.application.actions.labels
    best = [
        max(labels, key=lambda label: world.expected_reward(context, label))
        for context in (world.context(rng) for _ in range(2_000))
    ]
    assert all(best.count(label) >= 200 for label in labels)


def test_no_hour_no_segment_rule_and_no_count_comes_near_the_best() -> None:
    loaded = load_application(REFS[2])
    application, world, rng = loaded.application, loaded.world, np.random.default_rng(2)
    assert isinstance(world, BanditWorld)
    labels = application.actions.labels
    players = [world.context(rng) for _ in range(3_000)]
    q = np.array([[world.expected_reward(c, label) for label in labels] for c in players])  # [N, A]
    everyone = np.arange(len(players))
    opens = np.array([context["opens_by_hour"] for context in players])  # [N, 24]
    zones = np.array([context["timezone"] for context in players])
    rules = [application.actions.position(application.baseline_action(c)) for c in players]
    uniform, best = q.mean(), q.max(axis=1).mean()
    earns = {
        "the best hour for all": q.mean(axis=0).max(),
        "the game's rules": q[everyone, rules].mean(),
        # with the world's own expectations, so no segment rule is better than this one
        "the best hour of each time zone": np.mean(
            [q[zones == z].mean(axis=0).max() for z in zones]
        ),
        "the hour of most opens": q[everyone, opens.argmax(axis=1)].mean(),
        "the hour before": q[everyone, opens.argmax(axis=1) - 1].mean(),
    }
    shares = {name: (value - uniform) / (best - uniform) for name, value in earns.items()}
    most = {
        "the best hour for all": 0.15,
        "the game's rules": 0.15,
        "the best hour of each time zone": 0.4,
        "the hour of most opens": 0.0,
        "the hour before": 0.7,
    }
    assert all(shares[name] <= most[name] for name in most), shares


def test_no_boss_that_is_the_same_for_all_and_no_rule_by_level_comes_near_the_best() -> None:
    loaded = load_application(REFS[3])
    application, world, rng = loaded.application, loaded.world, np.random.default_rng(2)
    assert isinstance(world, BanditWorld)
    contexts, one = [world.context(rng) for _ in range(150)], np.ones(1, dtype=bool)
    for numbers in tried(loaded):
        made = [Logged(context, one * 1.0, one, NONE, numbers) for context in contexts]
        values = bandit_values(world, application, made)
        constant, baseline = share(values), share(values, of="baseline")
        assert constant is not None and constant <= 0.45
        assert baseline is not None and baseline <= 0.35


def test_the_boss_that_a_player_wants_is_the_best_for_this_player() -> None:
    loaded = load_application(REFS[3])
    world, rng = loaded.world, np.random.default_rng(3)
    assert isinstance(world, BanditWorld)
    for context in [world.context(rng) for _ in range(50)]:
        wanted = world.best_action(context)
        assert loaded.application.actions.problem_with(wanted) is None
        best = world.expected_reward(context, wanted)
        for shift in ([60.0, 0.0], [-60.0, 0.0], [0.0, 0.7], [0.0, -0.7], [60.0, -0.7]):
            beside = [number + by for number, by in zip(wanted, shift, strict=True)]
            assert world.expected_reward(context, beside) < best


def test_every_hour_is_the_best_for_some_players() -> None:
    loaded = load_application(REFS[2])
    world, rng = loaded.world, np.random.default_rng(3)
    assert isinstance(world, BanditWorld)
    labels = loaded.application.actions.labels
    best = [
        max(labels, key=lambda label: world.expected_reward(context, label))
        for context in (world.context(rng) for _ in range(2_000))
    ]
    assert all(best.count(label) >= 20 for label in labels)


def test_a_policy_that_looks_at_the_next_reward_alone_has_a_share_of_at_most_half() -> None:
    loaded = load_application(REFS[1])
    world, application, rng = loaded.world, loaded.application, np.random.default_rng(0)
    assert isinstance(world, EpisodicWorld)
    eligible = np.ones(3, dtype=bool)
    final = application.exploration.after(MANY)
    made = [
        Logged(world.context(state, rng), np.full(3, 1 / 3), eligible, final)
        for state in world.states
    ]
    values = episodic_values(world, application, made)
    myopic, baseline = share(values, of="myopic"), share(values, of="baseline")
    assert myopic is not None and myopic <= 0.5
    assert baseline is not None and baseline <= 0.7


@pytest.mark.parametrize("ref", [REFS[0], *REFS[2:]], ids=lambda ref: Path(ref).stem)
def test_expected_rewards_of_a_bandit_are_the_means_of_what_the_reward_rule_says(ref: str) -> None:
    loaded = load_application(ref)
    world, rng = loaded.world, np.random.default_rng(3)
    assert isinstance(world, BanditWorld)
    for context in [world.context(rng) for _ in range(4)]:
        for label in tried(loaded)[:6]:
            drawn = [reward_of(loaded, world.happenings(context, label, rng)) for _ in range(4_000)]
            # 5 standard errors
            assert np.mean(drawn) == pytest.approx(
                world.expected_reward(context, label), abs=5 * max(np.std(drawn), 0.05) / 4_000**0.5
            )


def test_expected_rewards_of_quests_are_what_the_reward_rule_says_of_each_way() -> None:
    loaded = load_application(REFS[1])
    world, rng = loaded.world, np.random.default_rng(4)
    assert isinstance(world, EpisodicWorld)
    for state in world.states:
        for label in loaded.application.actions.labels:
            for way in world.transitions(state, label):
                happenings = world.happenings(state, label, way, rng)
                assert reward_of(loaded, happenings) == pytest.approx(way.reward)


def test_quests_lead_on_with_probabilities_that_add_up_within_five_steps() -> None:
    world = load_application(REFS[1]).world
    assert isinstance(world, EpisodicWorld)
    assert sum(world.start().values()) == pytest.approx(1.0)
    alive = set(world.start())
    for _ in range(5):
        ways = [
            way
            for state in alive
            for label in ("treasure", "story", "trial")
            for way in world.transitions(state, label)
        ]
        alive = {way.next_state for way in ways if way.next_state is not None}
    assert not alive
    for state in world.states:
        assert world.state_of(world.context(state, np.random.default_rng(0))) == state
        for label in ("treasure", "story", "trial"):
            assert sum(w.probability for w in world.transitions(state, label)) == pytest.approx(1.0)


def test_outcomes_occur_within_the_window_and_pass_the_door(loaded: Loaded) -> None:
    world, rng = loaded.world, np.random.default_rng(5)
    window_s = loaded.application.reward.window.total_seconds()
    assert window_s <= 10
    for _ in range(500):
        for label in tried(loaded):
            if isinstance(world, BanditWorld):
                happenings = world.happenings(world.context(rng), label, rng)
            else:
                assert isinstance(world, EpisodicWorld)
                state = world.states[rng.integers(len(world.states))]
                ways = world.transitions(state, label)
                happenings = world.happenings(state, label, ways[0], rng)
            for happening in happenings:
                assert 0 < happening.after_s < window_s
                outcome = OutcomeRequest(
                    decision_id=uuid7(), name=happening.name, value=happening.value
                )
                check_outcome(loaded.application, outcome)
                assert happening.name in loaded.application.reward.weights  # type: ignore[operator]


def test_some_messages_are_lost_repeated_and_later_than_their_window(loaded: Loaded) -> None:
    assert loaded.world is not None
    delivery = loaded.world.delivery
    assert 0 < delivery.loss <= 0.02
    assert delivery.duplicates > 0
    assert delivery.late > 0
    assert delivery.late_by_s > loaded.application.reward.window.total_seconds()


def test_contexts_encode_and_the_baseline_answers_an_action(loaded: Loaded) -> None:
    application, world, rng = loaded.application, loaded.world, np.random.default_rng(6)
    for _ in range(200):
        if isinstance(world, BanditWorld):
            context = world.context(rng)
        else:
            assert isinstance(world, EpisodicWorld)
            context = world.context(world.states[rng.integers(len(world.states))], rng)
        assert application.encoder.encode(context).shape == (application.encoder.size,)
        assert application.actions.problem_with(application.baseline_action(context)) is None
