"""The contract changes, and the learner goes on: rows encoded anew, what answers carried over."""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bakehouse_learner.online.loop import ApplicationLoop
from bakehouse_schemas.application.application import (
    Agent,
    Discrete,
    Episodic,
    Gate,
    Guardrail,
)
from bakehouse_schemas.application.observation import Boolean
from bakehouse_schemas.contracts.contract import contract_of
from bakehouse_schemas.contracts.known import KnownContracts, note_contracts
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.policy.bundle import read_manifest
from bakehouse_schemas.policy.load_carried import load_policy
from bakehouse_schemas.policy.policy import Policy
from tests.contract_change import BEFORE, CHANGES, Crossing, Server, answers


def learned(home: Path, *, least: int = 1_500) -> tuple[Crossing, ApplicationLoop]:
    """A game that a policy answers, after at least so many decisions; the learner has stopped."""
    game = Crossing(home)
    loop = game.live(BEFORE)
    while len(game.bus.pointers) < 3 or loop.learning.decisions < least:
        game.second(loop)
        assert game.clock.s < 120, loop.status()["gate"]
    loop.close()
    return game, loop


SLOW = {"a bound", "buckets", "a feature"}


@pytest.mark.parametrize(
    "change",
    [pytest.param(each, marks=[pytest.mark.full] * (each in SLOW)) for each in CHANGES],
)
def test_what_answers_goes_on_and_so_does_all_that_was_counted(
    tmp_path: Path, change: str, record_property: Callable[[str, object], None]
) -> None:
    game, before = learned(tmp_path)
    was, now = before.status(), CHANGES[change]
    gone = 0
    if change == "a label less":
        ring = before.learning.ring
        gone = int(np.count_nonzero(ring.action[: ring.size] == 2))  # who stayed
    published = len(game.bus.pointers)
    loop = game.live(now)
    status = loop.status()
    # all rows but those whose action is gone
    assert status["experiences"] == was["experiences"] - gone
    assert (status["foreign"] > 0) == (gone > 0) and status["refused"] == 0
    assert status["recoded"] > status["experiences"] - 1
    # who answers, and how much is explored
    assert status["version"] == was["version"] > 0
    assert status["exploration"] == was["exploration"]
    assert status["exploration"]["epsilon"] < 0.45, "0.9 at the start"
    assert loop.learning.version >= before.learning.version
    kept = [label if label in now.actions.choices else "left" for label in answers_before(before)]
    assert answers(now, loop.learning.deployment.current) == kept
    # it is told that it was carried over, and announced for servers of this contract
    assert status["carried"]["from_contract"] == BEFORE.contract
    assert status["carried"]["from_version"] == was["version"]
    assert status["carried"]["new_labels"] == (["jump"] if change == "a label more" else [])
    assert status["carried"]["removed_labels"] == (["stay"] if change == "a label less" else [])
    assert [one.version for one in game.bus.pointers[published:]] == [was["version"]]
    assert loop.bundles.versions() == before.bundles.versions(), "no bundle is written of it"
    # it goes on answering until a candidate has shown itself
    assert status["proving"]
    waited = 0
    while loop.learning.deployment.proving:
        answering = game.bus.pointers[-1].version
        assert answering == was["version"], "an untried policy answers players"
        game.second(loop)
        waited += 1
        if loop.learning.deployment.proving:
            reason = loop.status()["gate"]["reason"]
            assert reason.startswith(f"the contract changed: version {answering}, carried over")
        assert waited < 120, loop.status()["gate"]
    newest = game.bus.pointers[-1]
    assert newest.version > was["version"] and loop.status()["carried"] is None
    manifest = read_manifest(Path(str(newest.uri)))
    assert manifest.contract == now.contract
    assert manifest.gate["carried"]["from_contract"] == BEFORE.contract
    record_property("decisions until a candidate had proven itself", waited * 60)


def answers_before(loop: ApplicationLoop) -> list[str]:
    return answers(loop.application, loop.learning.deployment.current)


def served(loop: ApplicationLoop, uri: str | None, *, application: str = "game") -> Policy:
    """What serving makes of a bundle, for the contract of the loop."""
    return load_policy(
        Path(str(uri)),
        application=application,
        contract=contract_of(loop.application),
        sha256=None,
        known=partial(KnownContracts(loop.bundles.folder.parents[1]).of, application),
    ).policy


@pytest.mark.parametrize("change", CHANGES)
def test_the_learner_judges_the_very_policy_that_serving_answers_with(
    tmp_path: Path, change: str
) -> None:
    game, _ = learned(tmp_path)
    loop = game.live(CHANGES[change])
    policy = served(loop, game.bus.pointers[-1].uri)
    mine = loop.learning.deployment.current.policy
    assert mine is not None
    ring = loop.learning.ring
    newest = ring.newest(256)
    np.testing.assert_array_equal(
        mine.scores(ring.observation[newest]), policy.scores(ring.observation[newest])
    )


def test_two_changes_one_after_the_other_carry_the_bundle_as_it_was_written(
    tmp_path: Path,
) -> None:
    game, before = learned(tmp_path)
    between = game.live(CHANGES["a label less"])
    game.second(between)
    between.close()
    loop = game.live(BEFORE)  # the label is back, and what was known of it
    status = loop.status()
    assert status["version"] == before.status()["version"] and status["carried"] is None
    mine, was = (each.learning.deployment.current.policy for each in (loop, before))
    assert mine is not None and was is not None
    newest = before.learning.ring.newest(64)
    seen = before.learning.ring.observation[newest]
    np.testing.assert_array_equal(mine.scores(seen), was.scores(seen))
    loop.close()
    last = game.live(CHANGES["a label more"])
    carried = last.status()["carried"]
    assert carried["from_contract"] == BEFORE.contract, "not of the one in between"
    assert last.status()["proving"]


def test_servers_of_both_contracts_answer_and_the_learner_learns_from_all_of_it(
    tmp_path: Path,
) -> None:
    game, before = learned(tmp_path)
    old = Server(BEFORE, before.learning.deployment.current)
    loop = game.live(CHANGES["a label more"])
    began = loop.learning.ring.head
    recoded = loop.status()["recoded"]
    for _ in range(8):
        new = Server(loop.application, loop.learning.deployment.current)
        game.second(loop, servers=[old, new])
    ring = loop.learning.ring
    slots = ring.slots(began, ring.head)
    assert len(slots) == 480
    eligible = ring.eligible[slots, 2]  # that players might have jumped
    assert eligible.tolist() == [False, True] * 240
    assert loop.status()["recoded"] - recoded >= 240
    assert (loop.status()["foreign"], loop.status()["refused"]) == (0, 0)
    assert ring.predicted[slots].any(), "both are evidence"
    assert ring.predicted[slots[~eligible]].any()
    assert (ring.candidate[slots[~eligible], 2] == 0).all(), "nobody could have jumped"


def test_a_rollback_names_a_version_of_the_contract_before_and_its_bundle_stays(
    tmp_path: Path,
) -> None:
    game, before = learned(tmp_path)
    carried = before.status()["version"]
    loop = game.live(CHANGES["a bound"])
    for _ in range(3):
        game.second(loop)
    loop.bundles.prune(loop.publisher.named_versions(loop.learning))
    named = {carried, loop.learning.deployment.anchor.number} - {0}
    assert named <= set(loop.bundles.versions())
    again = game.live(loop.application)  # no contract changed between these two
    assert again.status()["version"] == carried and again.status()["carried"] is not None
    assert again.status()["proving"]


def test_without_a_checkpoint_the_policy_of_another_contract_goes_on_too(tmp_path: Path) -> None:
    game, before = learned(tmp_path)
    (tmp_path / "learner" / "game" / "checkpoint.npz").unlink()
    loop = game.live(CHANGES["a label more"])
    status = loop.status()
    assert status["version"] == before.status()["version"]
    assert status["carried"]["new_labels"] == ["jump"]
    assert status["proving"] and status["experiences"] == before.status()["experiences"]
    game.second(loop)
    assert game.bus.pointers[-1].version == status["version"]
    assert "the contract changed" in loop.status()["gate"]["reason"]


def test_without_its_bundle_the_policy_of_the_checkpoint_goes_on(tmp_path: Path) -> None:
    game, before = learned(tmp_path)
    for version in before.bundles.versions():
        shutil.rmtree(before.bundles.folder / str(version))
    loop = game.live(CHANGES["a label more"])
    assert loop.status()["carried"]["from_version"] == before.status()["version"]
    kept = answers(loop.application, loop.learning.deployment.current)
    assert kept == answers_before(before)


def test_another_kind_of_problem_is_learned_anew_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    game, before = learned(tmp_path)
    now = replace(BEFORE, problem=Episodic(discount=0.5), agent=Agent("dqn"))
    with caplog.at_level(logging.WARNING):
        loop = game.live(now)
    assert "learning begins anew from the table" in caplog.text
    assert "the problem is episodic now and was bandit" in caplog.text
    assert loop.status()["version"] == game.bus.pointers[-1].version == 0
    assert loop.learning.version >= before.learning.version, "numbers are not given twice"
    assert loop.status()["experiences"] == 0 and loop.status()["foreign"] > 1_000


def test_a_contract_that_nothing_describes_is_learned_anew_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A home of the release before, whose contract changes before this release has seen it."""
    game, before = learned(tmp_path)
    shutil.rmtree(tmp_path / "contracts")
    for folder in before.bundles.folder.iterdir():
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["gate"]["contract"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING):
        loop = game.live(CHANGES["a bound"])
    assert "cannot be carried over" in caplog.text
    assert loop.status()["version"] == 0
    assert loop.status()["experiences"] == before.status()["experiences"], "rows are learned from"


def test_a_freeze_stays_and_so_does_what_guardrails_saw(tmp_path: Path) -> None:
    guarded = replace(BEFORE, gate=Gate(guardrails=[Guardrail("won", least=0.01)]))
    game = Crossing(tmp_path)
    before = game.live(guarded)
    while len(game.bus.pointers) < 3:
        game.second(before)
    before.learning.deployment.frozen = True
    before.learning.deployment.frozen_at_ms = 5
    before.close()
    assert before.learning.evidence is not None
    ((_, was),) = before.learning.evidence.guards.intervals()
    loop = game.live(replace(CHANGES["a label more"], gate=guarded.gate))
    assert loop.learning.deployment.frozen and loop.learning.deployment.frozen_at_ms == 5
    assert loop.learning.evidence is not None
    ((_, now),) = loop.learning.evidence.guards.intervals()
    assert now == was and now.n > 0
    spread = before.learning.evidence.evaluation.reward_std
    assert loop.learning.evidence.evaluation.reward_std == spread > 0
    assert loop.learning.evidence.model.n > 100, "rewards are modelled from the rows"
    for _ in range(2):
        game.second(loop)
    assert loop.status()["gate"]["reason"].startswith("frozen")


def test_a_better_label_that_is_new_is_found_while_nobody_falls_back_to_the_rules(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Right and left win 6 times in 10, where they are right; who jumps wins 19 in 20."""
    game = Crossing(tmp_path)
    game.wins = 0.6
    before = game.live(BEFORE)
    while len(game.bus.pointers) < 3 or before.learning.decisions < 1_500:
        game.second(before)
        assert game.clock.s < 120, before.status()["gate"]
    before.close()
    loop = game.live(CHANGES["a label more"])
    made = 0
    while answers(loop.application, loop.learning.deployment.current).count("jump") < 20:
        answered = game.second(loop)
        assert len(answered) == 60, "the rules answered"
        made += 60
        assert made < 6_000, loop.status()["gate"]
    assert loop.status()["carried"] is None
    record_property("decisions until players jump", made)


def test_a_label_that_is_gone_is_never_answered(tmp_path: Path) -> None:
    game = Crossing(tmp_path)
    game.stays = 1.0  # whoever stays wins: it is what the policy does
    before = game.live(BEFORE)
    while len(game.bus.pointers) < 3:
        game.second(before)
        assert game.clock.s < 120, before.status()["gate"]
    before.close()
    assert answers_before(before).count("stay") > 12
    loop = game.live(CHANGES["a label less"])
    answered = [label for _ in range(5) for label in game.second(loop)]
    assert len(answered) == 300 and set(answered) == {"left", "right"}


@pytest.mark.full
def test_a_home_of_the_release_before_goes_on_under_another_contract(tmp_path: Path) -> None:
    """Its bundles do not describe their contract; the home does, once it was noted."""
    from bakehouse_learner.agents import build_agent

    archive = Path(__file__).parents[1] / "homes" / "home-2026-11.tar.xz"
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (home,) = tmp_path.iterdir()
    page = load_application(str(Path(__file__).parents[1] / "homes" / "level_difficulty.py"))
    application = page.application
    note_contracts(home, [application])
    game = Crossing(home)
    same = game.live(application, build_agent)
    was = same.status()
    assert was["version"] > 0 and was["carried"] is None and not was["proving"]
    same.close()
    labels = application.actions.choices
    now = replace(
        application,
        observation=[*application.observation, Boolean("tired", default=False)],
        actions=Discrete(*labels, "brutal"),
    )
    loop = game.live(now, build_agent)
    status = loop.status()
    for what in ("version", "experiences", "decisions", "exploration"):
        assert status[what] == was[what]
    assert (status["foreign"], status["refused"], status["proving"]) == (0, 0, True)
    assert status["carried"]["from_contract"] == application.contract
    assert status["carried"]["new_labels"] == ["brutal"]
    policy = served(loop, game.bus.pointers[-1].uri, application=application.name)
    mine = loop.learning.deployment.current.policy
    assert mine is not None
    ring = loop.learning.ring
    newest = ring.newest(256)
    np.testing.assert_array_equal(
        mine.scores(ring.observation[newest]), policy.scores(ring.observation[newest])
    )


def test_players_who_were_given_back_to_the_rules_after_the_checkpoint_stay_with_them(
    tmp_path: Path,
) -> None:
    game, before = learned(tmp_path)
    game.bus.publish(before.bundles.pointer_to(0, 1))  # and a kill before the next checkpoint
    loop = game.live(CHANGES["a bound"])
    assert loop.status()["version"] == loop.status()["anchor"] == 0
    assert loop.learning.deployment.steps.step == -1 and not loop.status()["proving"]
    assert game.bus.pointers[-1].version == 0
