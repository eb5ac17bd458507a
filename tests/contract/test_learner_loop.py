"""From a real Delta table to a published bundle, and back after every kind of end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from bakehouse_schemas.application.application import Agent
from bakehouse_schemas.events.events import Control
from bakehouse_schemas.policy.bundle import load_bundle, read_manifest
from tests.learner_fakes import GAME, LinearAgent, Play, arrays_of, loop_of, same
from tests.replay_rows import T0


def test_a_learner_waits_quietly_for_a_table_that_is_not_there(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    assert loop.turn() is False
    assert loop.wait_s() is None or loop.turn() is False
    play.second(loop)
    assert loop.learning.version == 1


def test_players_get_a_better_policy_that_serving_can_load(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
        assert play.clock.s < 60, loop.status()["gate"]
    pointer = play.bus.pointers[0]
    loaded = load_bundle(
        Path(str(pointer.uri)), application="game", contract=GAME.contract, sha256=pointer.sha256
    )
    seen = np.array([[0.1], [0.9]], np.float32)
    answers = loaded.policy.distribution(seen, np.ones((2, 2), bool))
    assert answers.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    manifest = loaded.manifest
    assert manifest.gate["leaves_version_0"]
    assert manifest.replay_version == loop.tail.version
    assert manifest.previous == 0 and manifest.anchor == 0
    # all outcomes so far are new to players, for none was in a policy before
    assert max(manifest.new_outcomes_received_at_ms) <= play.clock.wall_ms()
    assert len(manifest.new_outcomes_received_at_ms) > 100
    play.second(loop)
    later = read_manifest(Path(str(play.bus.pointers[-1].uri)))
    assert later.previous == pointer.version
    assert 0 < len(later.new_outcomes_received_at_ms) < 60


@pytest.mark.parametrize("killed_after", [1, 4, 7, 11])
def test_a_killed_learner_makes_the_same_policies_again(tmp_path: Path, killed_after: int) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    for second in range(12):
        play.second(loop)
        if second == 5:
            loop.checkpointer.now()
        if second == killed_after:
            resumed = play.loop()  # what was not saved is gone; the plan log is not
            resumed.start()
            same(loop.learning, resumed.learning)
            loop = resumed
    whole = Play(tmp_path / "whole")
    untouched = whole.loop()
    untouched.start()
    for _ in range(12):
        whole.second(untouched)
    assert loop.learning.version == untouched.learning.version == 12
    np.testing.assert_array_equal(
        arrays_of(loop.learning)["weight"], arrays_of(untouched.learning)["weight"]
    )


def test_a_pointer_that_the_crash_has_prevented_is_published_at_the_next_start(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    published = play.bus.pointers.pop()
    play.loop().start()
    assert [pointer.version for pointer in play.bus.pointers] == [published.version]
    assert play.bus.pointers[0].sha256 == published.sha256


def test_after_another_start_of_the_machine_the_buffer_is_rebuilt_from_the_table(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    for _ in range(4):
        play.second(loop)
    loop.checkpointer.now()
    play.second(loop)  # a plan that the checkpoint does not hold
    last = loop.learning.version
    # a power cut took the end of the table's log, and stream has written other rows there
    newest = play.table.path / "_delta_log" / f"{play.table.version:020d}.json"
    newest.unlink()
    play.table.version -= 1
    play.second(None, players=25)
    after = loop_of(play.application, tmp_path, play.bus, play.clock, boot="second")
    after.start()
    assert after.learning.version == last
    assert after.learning.ring.size == 4 * 60 + 25
    play.second(after)
    assert after.learning.version == last + 1
    assert after.learning.ring.size == 5 * 60 + 25


def test_without_its_checkpoint_a_learner_begins_anew_and_must_prove_itself(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while len(play.bus.pointers) < 3:
        play.second(loop)
    last = play.bus.pointers[-1].version
    (tmp_path / "learner" / "game" / "checkpoint.npz").write_bytes(b"gone")
    again = play.loop()
    again.start()
    assert again.learning.version == last
    assert again.learning.ring.size == loop.learning.ring.size
    play.second(again)
    assert again.learning.version == last + 1
    assert play.bus.pointers[-1].version == last, "an untried policy answers players"
    assert "begun anew" in again.status()["gate"]["reason"]
    while play.bus.pointers[-1].version == last:
        play.second(again)
        assert play.clock.s < 120
    assert again.learning.deployment.anchor.number >= last


def test_versions_go_on_where_pointer_and_bundle_are_all_that_is_left(tmp_path: Path) -> None:
    play = Play(tmp_path)
    play.second(None)
    loop = play.loop()
    play.bus.publish(loop.bundles._pointer(41, "0" * 64, T0))
    loop.start()
    play.second(loop)
    assert loop.learning.version == 42


def test_a_policy_that_turns_out_worse_is_taken_back_until_someone_looks(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while loop.learning.deployment.anchor.number == 0:
        play.second(loop)
        assert play.clock.s < 120
    anchor = loop.learning.deployment.anchor.number

    class Stubborn(LinearAgent):
        """From now on, the worst that there is."""

        def train(self, batch: Any) -> dict[str, float]:
            self.weight[:] = [[-5.0, 5.0]]
            self.bias[:] = [-3.0, -5.0]
            self.weight *= -1
            return {"loss": 0.0}

    assert isinstance(loop.learning.agent, LinearAgent)
    loop.learning.agent.__class__ = Stubborn
    while not loop.learning.deployment.frozen:
        play.second(loop)
        assert play.clock.s < 240, loop.status()["gate"]
    back_to = loop.learning.deployment.anchor.number
    assert play.bus.pointers[-1].version == back_to >= anchor
    assert loop.learning.deployment.current.number == back_to
    play.second(loop)
    assert play.bus.pointers[-1].version == back_to
    assert loop.status()["gate"]["reason"].startswith("frozen")
    # a release that was said before the freeze is no release, whatever else is said after it
    frozen_at_ms = loop.learning.deployment.frozen_at_ms
    play.bus.said = Control(
        application="game",
        explore_share=0.2,
        at_ms=frozen_at_ms + 1,
        released_at_ms=frozen_at_ms - 1,
    )
    play.second(loop)
    assert loop.learning.deployment.frozen
    play.bus.said = Control(
        application="game", at_ms=frozen_at_ms + 2, released_at_ms=frozen_at_ms + 2
    )
    play.second(loop)
    assert not loop.learning.deployment.frozen
    assert play.bus.pointers[-1].version == loop.learning.version
    # why it was frozen is in the first policy after it, and in that one alone
    told = read_manifest(Path(str(play.bus.pointers[-1].uri))).gate["last_freeze"]
    assert told["reason"] == loop.status()["last_freeze"]["reason"]
    assert "fell below 0" in told["reason"] and told["anchor"] == back_to
    loop.learning.agent.__class__ = LinearAgent
    play.second(loop)
    assert play.bus.pointers[-1].version == loop.learning.version
    assert "last_freeze" not in read_manifest(Path(str(play.bus.pointers[-1].uri))).gate


def test_a_training_that_a_person_asks_for_comes_at_once_and_once(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    while loop.turn():  # nothing is left to learn from
        pass
    version = loop.learning.version
    play.bus.said = Control(application="game", retrain_at_ms=7, at_ms=7)
    assert loop.turn()
    assert loop.learning.version == version + 1
    while loop.turn():
        pass
    assert loop.learning.version == version + 1
    loop.close()
    again = play.loop()  # nor does the next life take the same wish for a new one
    again.start()
    while again.turn():
        pass
    assert again.learning.version == version + 1


def test_a_freeze_by_people_stops_publication_and_not_the_learning(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    play.bus.said = Control(application="game", frozen=True, at_ms=1)
    before, version = len(play.bus.pointers), loop.learning.version
    for _ in range(3):
        play.second(loop)
    assert len(play.bus.pointers) == before
    assert loop.learning.version == version + 3
    play.bus.said = Control(application="game", frozen=False, at_ms=2)
    play.second(loop)
    assert len(play.bus.pointers) == before + 1


def test_numbers_that_left_the_reals_are_refused_and_the_agent_recovers(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while not play.bus.pointers:
        play.second(loop)
    agent = loop.learning.agent
    assert isinstance(agent, LinearAgent)
    agent.bias[0] = np.nan
    before = len(play.bus.pointers)
    play.second(loop)
    assert len(play.bus.pointers) == before
    assert loop.status()["gate"]["reason"].startswith("refused: finite share")
    play.second(loop)
    assert len(play.bus.pointers) == before + 1


def test_a_failing_turn_is_told_and_tried_again(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    play.second(loop)

    class Failing(LinearAgent):
        def train(self, batch: Any) -> dict[str, float]:
            raise RuntimeError("out of luck")

    assert isinstance(loop.learning.agent, LinearAgent)
    loop.learning.agent.__class__ = Failing
    play.second(loop)
    assert loop.status()["problem"] == "RuntimeError: out of luck"
    loop.learning.agent.__class__ = LinearAgent
    for _ in range(6):
        play.second(loop)
    assert loop.status()["problem"] is None
    assert loop.learning.trainings > 1
    resumed = play.loop()  # nor does the plan that failed keep the next life from starting
    resumed.start()
    assert resumed.learning.version == loop.learning.version


def test_a_cleaned_log_is_answered_by_reading_the_table(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    for _ in range(3):
        play.second(loop)
    for _ in range(3):
        play.second(None)
    DeltaTable(str(play.table.path)).create_checkpoint()
    for version in range(5):
        (play.table.path / "_delta_log" / f"{version:020d}.json").unlink()
    loop.tail._unseen = 64  # it looks for a gap now and then
    loop.turn()
    assert loop.tail.version == 5
    assert loop.learning.ring.size == 360
    assert loop.learning.version == 4


def test_compaction_says_nothing_new(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    for _ in range(3):
        play.second(loop)
    DeltaTable(str(play.table.path)).optimize.compact()
    read = loop.learning.ring.head
    loop.turn()
    assert loop.tail.version == 3
    assert loop.learning.ring.head == read
    assert loop.learning.version == 3


def test_old_bundles_go_and_those_that_someone_needs_stay(tmp_path: Path) -> None:
    play = Play(tmp_path)
    loop = play.loop()
    loop.start()
    while len(play.bus.pointers) < 2:
        play.second(loop)
    pinned = play.bus.pointers[1].version
    play.bus.said = Control(application="game", pinned_version=pinned, at_ms=1)
    while len(play.bus.pointers) < 22:
        play.second(loop, players=40)
    loop.bundles.prune(loop.publisher.named_versions(loop.learning))
    kept = loop.bundles.versions()
    newest = [pointer.version for pointer in play.bus.pointers[-5:]]
    anchor = {loop.learning.deployment.anchor.number} - {0}
    assert set(kept) == {pinned, *newest} | anchor


@pytest.mark.parametrize("name", ["neural_greedy", "rainbow"])  # one remembers errors of rows
def test_an_agent_of_tensorflow_resumes_to_the_same_weights(tmp_path: Path, name: str) -> None:
    from dataclasses import replace

    from bakehouse_learner.agents import build_agent

    game = replace(GAME, agent=Agent(name, hidden=[8]))
    play = Play(tmp_path, application=game)
    loop = play.loop(build_agent)
    loop.learning.warm_up()
    loop.start()
    for second in range(6):
        play.second(loop)
        if second == 2:
            loop.checkpointer.now()
    resumed = play.loop(build_agent)
    resumed.start()
    same(loop.learning, resumed.learning)
