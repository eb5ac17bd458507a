from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.events import Control, PolicyPointer
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.policies.served import Conflict, Served
from bakehouse_serving.policies.subscriber import Subscriber
from tests.fakes import ConsumerRecord, publish_policy
from tests.unit.test_decide import make_application
from tests.waiting import wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def application() -> Application:
    return make_application()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served(tmp_path: Path, application: Application, clock: Clock) -> Served:
    return start(tmp_path, application, clock)


def start(tmp_path: Path, application: Application, clock: Clock) -> Served:
    served = Served(
        application,
        policies=tmp_path / "policies",
        cache=tmp_path / "serving" / "levels.json",
        clock=clock,
    )
    served.restore()
    return served


def publish(
    served: Served, tmp_path: Path, version: int, *, live: bool = True, **more: Any
) -> None:
    pointer = publish_policy(
        tmp_path / "policies", served.application, version, favourite=version % 3, **more
    )
    served.point([pointer], live=live)


def act(
    served: Served,
    action: str,
    version: int | None = None,
    *,
    share: float | None = None,
    by: str = "ada",
    why: str = "a test",
) -> Control:
    change = served.put_in_force(action, by=by, why=why, version=version, share=share)
    served.complete(change)
    return change.control


def test_a_published_policy_is_put_in_the_slot(served: Served, tmp_path: Path) -> None:
    assert served.slot.version == 0
    publish(served, tmp_path, 1)
    assert served.slot.version == 1
    assert served.slot.exploration.epsilon == 0.2
    assert served.swaps == 1


def test_of_several_pointers_only_the_newest_is_loaded_also_if_its_number_is_lower(
    served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "policies"
    pointers = [publish_policy(folder, served.application, v, favourite=0) for v in (2, 3, 1)]
    served.point(pointers, live=True)
    assert served.slot.version == 1
    assert [(entry["from"], entry["to"]) for entry in served.history] == [(0, 1)]


@pytest.mark.parametrize("broken", ["truncated", "foreign", "replaced", "missing", "outside"])
def test_a_bad_bundle_is_refused_with_the_reason_and_the_policy_in_place_goes_on(
    served: Served, tmp_path: Path, broken: str
) -> None:
    publish(served, tmp_path, 1)
    folder = tmp_path / ("elsewhere" if broken == "outside" else "policies")
    pointer = publish_policy(
        folder,
        served.application,
        2,
        favourite=0,
        contract="0123456789abcdef" if broken == "foreign" else None,
    )
    bundle = folder / "levels" / "2"
    if broken == "truncated":
        content = (bundle / "arrays.npz").read_bytes()
        (bundle / "arrays.npz").write_bytes(content[: len(content) // 2])
    elif broken == "replaced":
        publish_policy(folder, served.application, 2, favourite=2)
    elif broken == "missing":
        (bundle / "manifest.json").unlink()
    served.point([pointer], live=True)
    assert served.slot.version == 1
    assert served.refused_policy is not None
    assert served.refused_policy["version"] == 2
    said = {
        "truncated": "SHA-256",
        "foreign": "contract",
        "replaced": "SHA-256",
        "missing": "No such file",
        "outside": "is not inside",
    }
    assert said[broken] in served.refused_policy["reason"]


def test_a_refusal_is_told_until_what_should_serve_does(served: Served, tmp_path: Path) -> None:
    publish(served, tmp_path, 1)
    bad = publish_policy(tmp_path / "policies", served.application, 2, favourite=0)
    served.point([bad.model_copy(update={"sha256": "0" * 64})], live=True)
    assert served.state()["refused_policy"]["version"] == 2
    act(served, "explore")  # does nothing for it: it is tried, and refused, again
    assert served.state()["refused_policy"]["version"] == 2
    refused_at_ms = served.last_refused_at_ms
    assert refused_at_ms > 0
    publish(served, tmp_path, 3)
    assert served.state()["refused_policy"] is None
    assert served.last_refused_at_ms == refused_at_ms  # of the metric, that alerts go by


def test_a_restart_without_kafka_serves_the_last_good_policy(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    publish(served, tmp_path, 1)
    bad = publish_policy(tmp_path / "policies", application, 2, favourite=0)
    served.point([bad.model_copy(update={"sha256": "0" * 64})], live=True)
    assert start(tmp_path, application, clock).slot.version == 1


def test_a_cache_that_cannot_be_read_starts_from_version_0(
    tmp_path: Path, application: Application, clock: Clock
) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "levels.json").write_text('{"control": ')
    assert start(tmp_path, application, clock).slot.version == 0


def test_a_kill_is_in_force_at_once_and_survives_a_restart_until_revived(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    publish(served, tmp_path, 1)
    act(served, "kill")
    assert served.slot.killed
    publish(served, tmp_path, 2)
    assert served.slot.killed  # a new policy changes nothing about that
    again = start(tmp_path, application, clock)
    assert again.slot.killed
    act(again, "revive")
    assert not again.slot.killed
    assert again.slot.version == 2


def test_a_pin_outlasts_newer_policies_until_it_is_released(served: Served, tmp_path: Path) -> None:
    publish(served, tmp_path, 1)
    publish(served, tmp_path, 2)
    act(served, "promote", 1)
    assert served.slot.version == 1
    publish(served, tmp_path, 3)
    assert served.slot.version == 1
    act(served, "release")
    assert served.slot.version == 3


def test_rolling_back_pins_the_version_before(served: Served, tmp_path: Path) -> None:
    publish(served, tmp_path, 1)
    publish(served, tmp_path, 4, previous=1)
    assert act(served, "rollback").pinned_version == 1
    assert served.slot.version == 1
    assert act(served, "rollback").pinned_version == 0
    assert served.slot.policy is None
    with pytest.raises(Conflict, match="nothing before it"):
        act(served, "rollback")


def test_a_pin_that_cannot_be_served_changes_nothing(served: Served, tmp_path: Path) -> None:
    publish(served, tmp_path, 1)
    before = served.control
    with pytest.raises(Conflict, match=r"policy 9 cannot be served.*`bakehouse policies` lists"):
        act(served, "promote", 9)
    assert served.control == before
    assert served.slot.version == 1
    assert served.refused_policy is None  # nothing that was published was refused


def test_a_control_that_lacks_or_has_too_much_is_refused(served: Served) -> None:
    with pytest.raises(InvalidEvent, match="version: missing"):
        act(served, "promote")
    with pytest.raises(InvalidEvent, match="freeze takes none"):
        act(served, "freeze", 3)


def test_while_frozen_the_policy_stays_also_across_a_restart(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    publish(served, tmp_path, 1)
    act(served, "freeze")
    publish(served, tmp_path, 2)
    assert served.slot.version == 1
    again = start(tmp_path, application, clock)
    assert again.slot.version == 1
    publish(again, tmp_path, 3)
    act(again, "release")
    assert again.slot.version == 3


def test_an_older_control_from_kafka_does_not_undo_a_newer_one(served: Served) -> None:
    said = act(served, "kill")
    served.apply_control(Control(application="levels", killed=False, at_ms=said.at_ms - 1))
    assert served.slot.killed
    served.apply_control(Control(application="levels", killed=False, at_ms=said.at_ms + 1))
    assert not served.slot.killed


def test_freshness_counts_an_outcome_at_the_first_answer_that_knows_of_it(
    served: Served, tmp_path: Path, clock: Clock
) -> None:
    publish(served, tmp_path, 1, received_at_ms=(998_000, 999_000))
    clock.now = 1_001.0
    served.first_answer(served.slot)
    served.first_answer(served.slot)  # only the first counts
    assert served.counters.freshness.summary(clock.now) == {"p50": 2.5, "p95": 2.95, "n": 2}


def test_outcomes_of_a_policy_that_never_answered_count_with_the_next_one(
    served: Served, tmp_path: Path, clock: Clock
) -> None:
    publish(served, tmp_path, 1, received_at_ms=(990_000,))
    publish(served, tmp_path, 2, received_at_ms=(995_000,))
    folder, application = tmp_path / "policies", served.application
    skipped = publish_policy(folder, application, 3, favourite=0, received_at_ms=(996_000,))
    newest = publish_policy(folder, application, 4, favourite=0, received_at_ms=(997_000,))
    served.point([skipped, newest], live=True)
    assert sorted(served.slot.fresh) == [990_000, 995_000, 996_000, 997_000]
    served.first_answer(served.slot)
    publish(served, tmp_path, 5, received_at_ms=(998_000,))
    assert served.slot.fresh == (998_000,)


def test_a_policy_restored_at_a_start_says_nothing_of_freshness(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    publish(served, tmp_path, 1, received_at_ms=(990_000,))
    assert start(tmp_path, application, clock).slot.fresh == ()


FOREIGN = ("elsewhere", "policies/../elsewhere", "policies/linked", "policies/loop", "po\0licies")


def foreign(tmp_path: Path, place: str, application: Application) -> PolicyPointer:
    """A pointer to a good bundle that lies elsewhere, by some way round."""
    pointer = publish_policy(
        tmp_path / "elsewhere", application, 2, favourite=0, received_at_ms=(7, 8)
    )
    (tmp_path / "policies").mkdir(exist_ok=True)
    (tmp_path / "policies" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "policies" / "loop").symlink_to(tmp_path / "policies" / "loop")
    return pointer.model_copy(update={"uri": f"file://{tmp_path}/{place}/levels/2"})


@pytest.mark.parametrize("place", FOREIGN)
def test_a_pointer_that_leads_out_of_the_folder_is_refused_with_the_reason(
    served: Served, tmp_path: Path, place: str
) -> None:
    publish(served, tmp_path, 1)
    served.point([foreign(tmp_path, place, served.application)], live=True)
    assert served.slot.version == 1
    assert served.refused_policy is not None
    assert served.refused_policy["version"] == 2
    assert any(
        words in served.refused_policy["reason"]
        for words in ("the only place to load policies from", "cannot be a folder")
    )
    publish(served, tmp_path, 3)
    assert served.slot.version == 3


@pytest.mark.parametrize("place", FOREIGN)
def test_a_pointer_that_is_passed_over_is_not_read_where_it_leads_out_of_the_folder(
    served: Served, tmp_path: Path, place: str
) -> None:
    passed_over = foreign(tmp_path, place, served.application)
    policies = tmp_path / "policies"
    newest = publish_policy(policies, served.application, 3, favourite=0, received_at_ms=(9,))
    served.point([passed_over, newest], live=True)
    assert served.slot.version == 3
    assert served.slot.fresh == (9,)


def test_a_share_of_uniform_choice_holds_for_policy_and_version_0_until_the_page_is_asked_again(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    said = act(served, "explore", by="ada", why="a new season", share=0.5)
    assert said.explore_share == served.slot.explore_share == 0.5
    publish(served, tmp_path, 1)
    assert (served.slot.version, served.slot.explore_share) == (1, 0.5)
    assert start(tmp_path, application, clock).slot.explore_share == 0.5
    act(served, "explore")
    assert served.slot.explore_share is None
    with pytest.raises(InvalidEvent, match=r"share: kill takes none, got 0\.3"):
        act(served, "kill", by="ada", why="a slip", share=0.3)
    assert not served.slot.killed


def test_every_control_is_kept_with_who_why_and_what_it_changed(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    kill = act(served, "kill", by="ada", why="players complain <b>loudly</b>")
    act(served, "revive", by="bob", why="it was the servers")
    retrain = act(served, "retrain", by="ada", why="new prices")
    other = kill.model_copy(update={"at_ms": retrain.at_ms + 5, "by": "eve", "frozen": True})
    heard = served.apply_control(other)  # from another process of another home
    assert heard is not None
    served.complete(heard)
    assert start(tmp_path, application, clock).audit_log.newest(10) == [
        {
            "at_ms": other.at_ms,
            "action": "heard",
            "by": "eve",
            "why": "players complain <b>loudly</b>",
            "changed": {
                "frozen": [False, True],
                "killed": [False, True],
                "retrain_at_ms": [retrain.at_ms, 0],
            },
        },
        {
            "at_ms": retrain.at_ms,
            "action": "retrain",
            "by": "ada",
            "why": "new prices",
            "changed": {"retrain_at_ms": [0, retrain.at_ms]},
        },
        {
            "at_ms": kill.at_ms + 1,
            "action": "revive",
            "by": "bob",
            "why": "it was the servers",
            "changed": {"killed": [True, False]},
        },
        {
            "at_ms": kill.at_ms,
            "action": "kill",
            "by": "ada",
            "why": "players complain <b>loudly</b>",
            "changed": {"killed": [False, True]},
        },
    ]


def test_a_torn_line_costs_the_audit_log_no_other(served: Served, tmp_path: Path) -> None:
    act(served, "freeze")
    with (tmp_path / "serving" / "levels.audit.jsonl").open("ab") as file:
        file.write(b'{"at_ms": 12, "act\n')
    act(served, "release")
    assert [entry["action"] for entry in served.audit_log.newest(10)] == ["release", "freeze"]


class SlowFolder:
    """A volume from which a bundle takes as long to be read as a test wants."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self.asked: list[str] = []
        self.answers = threading.Event()

    def __call__(self, folder: Path, **expected: Any) -> Any:
        self.asked.append(folder.name)
        assert self.answers.wait(60)
        return self._read(folder, **expected)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowFolder]:
    from bakehouse_serving.policies import loading

    folder = SlowFolder(loading.load_policy)
    folder.answers.set()
    monkeypatch.setattr(loading, "load_policy", folder)
    yield folder
    folder.answers.set()


def in_the_background(do: Any, *words: Any, **more: Any) -> threading.Thread:
    thread = threading.Thread(target=do, args=words, kwargs=more, daemon=True)
    thread.start()
    return thread


def loading(served: Served, slow: SlowFolder, tmp_path: Path, version: int) -> threading.Thread:
    """A policy has been published, and its bundle does not come."""
    slow.answers.clear()
    before = len(slow.asked)
    pointer = publish_policy(
        tmp_path / "policies", served.application, version, favourite=version % 3
    )
    thread = in_the_background(served.point, [pointer], live=True)
    wait_until(lambda: len(slow.asked) > before, "the bundle is being read")
    return thread


@pytest.mark.parametrize("action", ["kill", "explore", "freeze", "retrain"])
def test_a_control_that_needs_no_bundle_waits_for_none(
    served: Served, tmp_path: Path, slow: SlowFolder, action: str
) -> None:
    publish(served, tmp_path, 1)
    waiting = loading(served, slow, tmp_path, 2)
    read = list(slow.asked)
    share = 0.5 if action == "explore" else None
    said = act(served, action, by="ada", why="a test", share=share)
    assert waiting.is_alive()
    assert slow.asked == read
    assert served.control == said
    assert served.slot.killed is (action == "kill")
    assert served.slot.explore_share == share
    slow.answers.set()
    waiting.join(60)
    assert start(tmp_path, served.application, Clock()).control == said
    assert served.slot.version == (1 if action == "freeze" else 2)
    assert served.slot.killed is (action == "kill")
    assert served.slot.explore_share == share


def test_a_kill_is_in_force_though_the_home_takes_nothing(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(served, tmp_path, 1)
    hangs, goes_on = threading.Event(), threading.Event()

    def sync(_: int) -> None:
        hangs.set()
        assert goes_on.wait(60)

    monkeypatch.setattr("bakehouse_serving.policies.state_file.os.fsync", sync)
    first = in_the_background(act, served, "freeze")
    assert hangs.wait(60)
    served.put_in_force("kill", by="ada", why="the disk hangs")
    assert served.slot.killed
    assert first.is_alive()
    goes_on.set()
    first.join(60)


def test_a_kill_heard_from_another_process_waits_for_no_bundle(
    served: Served, tmp_path: Path, slow: SlowFolder
) -> None:
    publish(served, tmp_path, 1)
    waiting = loading(served, slow, tmp_path, 2)
    served.apply_control(Control(application="levels", killed=True, at_ms=2_000_000))
    assert served.slot.killed
    assert waiting.is_alive()
    slow.answers.set()
    waiting.join(60)
    assert served.slot.killed
    assert served.slot.version == 2


def test_a_policy_that_was_rolled_back_while_it_loaded_answers_nobody(
    served: Served, tmp_path: Path, slow: SlowFolder
) -> None:
    publish(served, tmp_path, 1)
    waiting = loading(served, slow, tmp_path, 2)
    pinned = in_the_background(act, served, "promote", 1)
    wait_until(lambda: served.control.pinned_version == 1, "the pin is in force")
    slow.answers.set()
    for thread in (waiting, pinned):
        thread.join(60)
    assert served.slot.version == 1
    assert [entry["to"] for entry in served.history] == [1]
    act(served, "release")
    assert served.slot.version == 2


FAR_AHEAD_MS = 253_402_300_799_999  # the last instant that an event may name


def test_a_control_from_more_than_a_day_ahead_is_passed_over_and_the_next_kill_is_heard(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    subscriber = Subscriber(Settings(home=tmp_path), {"levels": served}, process="1")
    now_ms = int(clock() * 1000)
    forged = Control(application="levels", at_ms=FAR_AHEAD_MS)
    kill = Control(application="levels", killed=True, at_ms=now_ms)
    subscriber._hear(
        ConsumerRecord(
            "policies", 0, at, now_ms, b"levels/control", said.model_dump_json().encode()
        )
        for at, said in enumerate((forged, kill))
    )
    assert served.control == kill
    assert served.slot.killed


def test_after_a_control_from_far_ahead_was_kept_by_an_earlier_release_people_are_heard_again(
    served: Served, tmp_path: Path, application: Application, clock: Clock
) -> None:
    far = Control(application="levels", killed=True, at_ms=FAR_AHEAD_MS)
    (tmp_path / "serving").mkdir()
    kept = {"control": far.model_dump(), "pointer": None}
    (tmp_path / "serving" / "levels.json").write_text(json.dumps(kept))
    again = start(tmp_path, application, clock)
    assert again.slot.killed
    said = act(again, "revive")
    assert said.at_ms < FAR_AHEAD_MS
    assert not start(tmp_path, application, clock).slot.killed
