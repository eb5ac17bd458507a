"""What a rollout comes back to: another mode on the page, a lost checkpoint, a release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bakehouse_learner.learning import Learning
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Gate,
    Guardrail,
    Rollout,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.events.events import Control
from tests.learner_fakes import GAME, LinearAgent, Play
from tests.replay_rows import arrow, decision, outcome

APPRENTICE = replace(GAME, mode="apprentice")


def played(home: Path, application: Application, until: float = 1.0) -> Play:
    """Players of an application, until a policy answers that share of them; then it ends."""
    play = Play(home, application=application)
    loop = play.loop()
    loop.start()
    while loop.status()["canary"] < until:
        play.second(loop)
        assert play.clock.s < 120, loop.status()["gate"]
    loop.close()
    return play


def test_a_page_that_now_says_apprentice_gives_players_back_to_the_rules(tmp_path: Path) -> None:
    play = played(tmp_path, GAME)
    play.application = APPRENTICE
    loop = play.loop()
    loop.start()
    assert play.bus.pointers[-1].version == 0
    assert loop.learning.deployment.apprentice
    while loop.learning.deployment.current.number == 0:
        play.second(loop)
        assert play.clock.s < 120, loop.status()["gate"]
    assert "match with the baseline" in loop.status()["gate"]["reason"]
    assert loop.status()["canary"] == 0.01


def test_a_page_that_is_online_now_learns_from_rewards_and_the_apprentice_goes_on_answering(
    tmp_path: Path,
) -> None:
    play = played(tmp_path, APPRENTICE, until=0.01)
    answering = play.bus.pointers[-1].version
    play.application = GAME
    loop = play.loop()
    loop.start()
    assert not loop.learning.deployment.apprentice
    assert play.bus.pointers[-1].version == loop.learning.deployment.current.number == answering
    while play.bus.pointers[-1].version == answering:
        play.second(loop)
        assert play.clock.s < 120, loop.status()["gate"]
    assert loop.status()["canary"] == 1.0
    assert loop.learning.deployment.anchor.number >= answering


def test_a_pause_in_which_decisions_are_only_logged_forgets_no_evidence(tmp_path: Path) -> None:
    play = played(tmp_path, GAME)
    answering = play.bus.pointers[-1].version
    for mode in ("online", "logging_only", "online"):
        play.application = replace(GAME, mode=mode)  # type: ignore[arg-type]
        loop = play.loop()
        loop.start()
        loop.close()
        assert loop.learning.deployment.current.number == answering
        assert loop.learning.evidence is not None
        assert loop.learning.evidence.evaluation.era == 1


def test_an_apprentice_without_a_checkpoint_does_not_wait_for_evidence_of_what_answers_nobody(
    tmp_path: Path,
) -> None:
    play = played(tmp_path, GAME)  # online: where the rules answer, this policy may not
    (tmp_path / "learner" / "game" / "checkpoint.npz").unlink()
    play.application = APPRENTICE
    loop = play.loop()
    loop.start()
    assert loop.learning.deployment.current.number == play.bus.pointers[-1].version == 0
    assert not loop.learning.deployment.proving
    assert loop.learning.version > 0  # numbers are not given twice


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_a_learner_without_a_checkpoint_goes_on_at_the_share_that_the_policy_answers(
    tmp_path: Path, share: float
) -> None:
    application = replace(APPRENTICE, rollout=Rollout(decisions_a_step=30))
    play = played(tmp_path, application, until=share)
    (tmp_path / "learner" / "game" / "checkpoint.npz").unlink()
    loop = play.loop()
    loop.start()
    assert (loop.status()["canary"], loop.learning.deployment.steps.share) == (share, share)
    assert loop.learning.deployment.apprentice


@pytest.mark.parametrize("checkpoint", [True, False])
def test_an_apprentice_of_another_contract_goes_on_at_its_share_until_the_next_matches_the_rules(
    tmp_path: Path, checkpoint: bool
) -> None:
    play = played(tmp_path, APPRENTICE, until=0.05)
    answering = play.bus.pointers[-1].version
    if not checkpoint:
        (tmp_path / "learner" / "game" / "checkpoint.npz").unlink()
    play.application = replace(APPRENTICE, observation=[Numeric("x", low=0, high=2)])
    loop = play.loop()
    loop.start()
    assert loop.status()["version"] == play.bus.pointers[-1].version == answering
    assert (loop.status()["canary"], loop.learning.deployment.steps.share) == (0.05, 0.05)
    assert loop.learning.deployment.apprentice and loop.learning.deployment.proving
    play.second(loop)
    assert "until the match with the baseline" in loop.status()["gate"]["reason"]
    while loop.learning.deployment.proving:
        assert play.bus.pointers[-1].version == answering
        play.second(loop)
        assert play.clock.s < 240, loop.status()["gate"]
    assert play.bus.pointers[-1].version == loop.learning.version > answering
    assert loop.status()["canary"] >= 0.05 and loop.status()["carried"] is None


def test_a_canary_of_rewards_that_are_all_alike_is_widened(tmp_path: Path) -> None:
    application = replace(
        APPRENTICE,
        reward=Reward({"never": 1.0}, window=seconds(2)),
        rollout=Rollout(canary=[0.5, 1.0], decisions_a_step=50),
    )
    played(tmp_path, application)


def test_a_guardrail_acts_while_someone_has_frozen_what_is_published(tmp_path: Path) -> None:
    gate = Gate(guardrails=[Guardrail("won", most=0.1)])
    play = Play(tmp_path, application=replace(GAME, gate=gate))
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    play.bus.said = Control(application="game", frozen=True, at_ms=play.clock.wall_ms())
    for _ in range(20):
        play.second(loop)
    assert play.bus.pointers[-1].version == loop.learning.deployment.current.number == 0
    assert len(play.bus.pointers) == 2
    assert "guardrail 'won'" in loop.status()["last_freeze"]["reason"]


def test_an_apprentice_that_had_graduated_and_was_stopped_learns_the_rules_again(
    tmp_path: Path,
) -> None:
    gate = Gate(guardrails=[Guardrail("won", most=0.1)])
    rollout = Rollout(canary=[1.0])
    play = Play(tmp_path, application=replace(APPRENTICE, gate=gate, rollout=rollout))
    loop = play.loop()
    loop.start()
    while not loop.learning.deployment.frozen:
        play.second(loop)
        assert play.clock.s < 120, loop.status()["gate"]
    assert loop.learning.trainings and play.bus.pointers[-1].version == 0
    assert loop.learning.deployment.apprentice and not loop.learning.deployment.proving
    now_ms = play.clock.wall_ms() + 1
    play.bus.said = Control(application="game", at_ms=now_ms, released_at_ms=now_ms)
    stopped = loop.learning.version
    while loop.learning.deployment.current.number == 0:
        play.second(loop)
        assert play.clock.s < 240, loop.status()["gate"]
    assert play.bus.pointers[-1].version > stopped


def test_what_a_stopped_policy_had_decided_does_not_stop_the_one_after_a_release(
    tmp_path: Path,
) -> None:
    gate = Gate(guardrails=[Guardrail("won", most=0.1)])
    learning = Learning(replace(GAME, gate=gate), LinearAgent)
    decoder = RowDecoder(learning.application)
    assert learning.evidence is not None
    learning.evidence.begin_guards(version=8)
    for version, seen in ((7, 0), (8, 200)):
        rows = []
        for _ in range(200):
            made = decision(
                learning.application, {"x": 0.5}, "left", propensity=0.5, policy_version=version
            )
            rows += [made, outcome(made, "won", after_ms=10)]
        learning.ingest(decoder.decode(arrow(rows)))
        learning.ring.mature(1 << 60)
        learning.evidence.complete()
        ((_, interval),) = learning.evidence.guards.intervals()
        assert interval.n == seen


def test_a_page_that_names_another_guardrail_counts_its_outcome_in_what_is_still_open() -> None:
    def game(outcome_name: str) -> Application:
        return replace(GAME, gate=Gate(guardrails=[Guardrail(outcome_name, most=0.1)]))

    ring, decoder = Ring(game("won")), RowDecoder(GAME)
    made = decision(GAME, {"x": 0.5}, "left", propensity=0.5)
    rows = [made, outcome(made, "won", after_ms=10), outcome(made, "quit", value=3.0, after_ms=20)]
    ring.ingest(decoder.decode(arrow(rows)))
    assert ring.guarded[0].tolist() == [1.0]
    resumed = Ring(game("quit"))
    resumed.restore(ring.state())
    assert resumed.guarded[0].tolist() == [3.0]


def test_an_agent_that_learns_from_its_own_decisions_alone_is_no_apprentice() -> None:
    with pytest.raises(ApplicationError, match="an apprentice makes none at first"):
        replace(APPRENTICE, agent=Agent("ppo"), exploration=None)  # type: ignore[arg-type]
