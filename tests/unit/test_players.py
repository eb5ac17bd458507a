"""Simulated players against a tiny HTTP server that remembers what it was told."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bakehouse.players.game_client import GameClient, RequestFailed
from bakehouse.players.players import Players
from bakehouse.players.senders import Batched, OneByOne
from bakehouse_schemas.application.application import Application, Bandit, Discrete
from bakehouse_schemas.application.observation import Boolean
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.worlds.world import BanditWorld, Delivery, Happening
from tests.fake_serving import FakeServing, http

FOLDER = Path(__file__).parents[2] / "applications"


class Promised(BanditWorld):
    """Every player causes the same two outcomes at once."""

    def context(self, rng: Any) -> dict[str, Any]:
        return {"big": True}

    def happenings(self, context: Any, action: str, rng: Any) -> list[Happening]:
        return [Happening(0.01, "won"), Happening(0.02, "paid", 3.5)]

    def expected_reward(self, context: Any, action: str) -> float:
        return 1.0


APPLICATION = Application(
    name="promised",
    observation=[Boolean("big")],
    actions=Discrete("easy", "hard"),
    reward=Reward({"won": 1.0, "paid": 1.0}, window=timedelta(seconds=1)),
    baseline=lambda context: "easy",
    problem=Bandit(),
)


def with_server(
    play: Callable[[GameClient, FakeServing], Awaitable[None]], **client_settings: Any
) -> FakeServing:
    async def run() -> FakeServing:
        serving = FakeServing()
        server = await asyncio.start_server(serving, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with GameClient(
                f"http://127.0.0.1:{port}", "promised", **client_settings
            ) as client:
                await play(client, serving)
        return serving

    return asyncio.run(run())


def played(
    world: Any,
    application: Application = APPLICATION,
    *,
    decisions: int = 40,
    batched: bool = False,
    break_with: Callable[[str], bytes | None] | None = None,
) -> tuple[Players, FakeServing]:
    found: list[Players] = []

    async def play(client: GameClient, serving: FakeServing) -> None:
        serving.broken = break_with or serving.broken
        sender = Batched(client, size=8, within_s=0.01) if batched else OneByOne(client)
        players = Players(application, world, sender, rate=2_000, seed=1)
        found.append(players)
        await players.play(asyncio.Event(), decisions=decisions)
        assert await players.settle(30)
        assert players.undelivered == 0

    serving = with_server(play)
    return found[0], serving


@pytest.mark.parametrize("batched", [False, True])
def test_all_that_players_caused_is_delivered_and_noted_in_the_journal(batched: bool) -> None:
    players, serving = played(Promised(), batched=batched)
    journal = players.journal
    assert journal.http_errors == 0, journal.errors
    assert len(serving.decisions) == len(journal.decisions) == 40
    assert {d.decision_id for d in journal.decisions} == {
        d["decision_id"] for d in serving.decisions
    }
    assert len(serving.outcomes) == len(journal.outcomes) == 80
    assert {o.outcome_id for o in journal.outcomes} == {o["outcome_id"] for o in serving.outcomes}
    assert Counter(o["name"] for o in serving.outcomes) == {"won": 40, "paid": 40}
    assert all(o.get("value") == (3.5 if o["name"] == "paid" else None) for o in serving.outcomes)


def test_batches_take_fewer_requests() -> None:
    _, serving = played(Promised(), batched=True)
    assert serving.requests < 60  # 120 one by one


def test_the_first_answer_of_every_version_is_noted() -> None:
    players, _ = played(Promised())
    firsts = players.journal.first_answers
    assert list(firsts) == [0, 1, 2, 3, 4]
    assert list(firsts.values()) == sorted(firsts.values())


def test_a_duplicate_keeps_its_outcome_id_and_is_noted_once() -> None:
    world = Promised()
    world.delivery = Delivery(duplicates=1.0)
    players, serving = played(world, decisions=5)
    assert len(serving.outcomes) == players.journal.outcome_posts == 20
    assert len({o["outcome_id"] for o in serving.outcomes}) == len(players.journal.outcomes) == 10


def test_a_lost_outcome_is_never_sent() -> None:
    world = Promised()
    world.delivery = Delivery(loss=1.0)
    players, serving = played(world, decisions=5)
    assert serving.outcomes == players.journal.outcomes == []


def test_a_late_outcome_says_when_it_occurred() -> None:
    arrived: list[float] = []
    world = Promised()
    world.delivery = Delivery(late=1.0, late_by_s=0.3)

    async def play(client: GameClient, serving: FakeServing) -> None:
        players = Players(APPLICATION, world, OneByOne(client), rate=2_000)
        await players.play(asyncio.Event(), decisions=2)
        await players.settle(30)
        arrived.extend(o.at_s for o in players.journal.outcomes)

    serving = with_server(play)
    occurred = [o["occurred_at_ms"] / 1000 for o in serving.outcomes]
    assert min(a - o for a, o in zip(arrived, occurred, strict=True)) >= 0.29


def test_an_episode_links_its_decisions_and_ends() -> None:
    loaded = load_application(str(FOLDER / "quest_chain.py"))
    world = loaded.world
    world.delivery = Delivery()  # type: ignore[union-attr]
    world.vanishing = 0.0  # type: ignore[union-attr]
    world.pause_s = (0.0, 0.01)  # type: ignore[union-attr]
    ended: list[str] = []

    async def play(client: GameClient, serving: FakeServing) -> None:
        players = Players(loaded.application, world, OneByOne(client), rate=200)  # type: ignore[arg-type]
        stop = asyncio.Event()
        playing = asyncio.create_task(players.play(stop))
        while not any(o["kind"] == "end" for o in serving.outcomes):
            await asyncio.sleep(0.01)
        stop.set()
        await playing
        assert await players.settle(30)
        assert players.journal.http_errors == 0, players.journal.errors
        ended.extend(o["decision_id"] for o in serving.outcomes if o["kind"] == "end")

    serving = with_server(play)
    by_id = {d["decision_id"]: d for d in serving.decisions}
    step, chapters = by_id[ended[0]], []
    episode, subject = step["episode_id"], step["subject_id"]
    while True:
        chapters.append(step["context"]["chapter"])
        assert (step["episode_id"], step["subject_id"]) == (episode, subject)
        if "previous_decision_id" not in step:
            break
        step = by_id[step["previous_decision_id"]]
    assert chapters == ["castle", "ruins", "forest", "village"]


def test_a_refused_decision_is_counted_with_its_words_and_causes_nothing() -> None:
    def refuse(path: str) -> bytes | None:
        return http(422, {"detail": "no such luck"}) if path.endswith("decisions") else None

    players, serving = played(Promised(), decisions=3, break_with=refuse)
    assert players.journal.http_errors == 3
    assert "422" in next(iter(players.journal.errors))
    assert "no such luck" in next(iter(players.journal.errors))
    assert players.journal.decisions == serving.outcomes == []


def test_an_outcome_that_met_a_full_spool_is_sent_again() -> None:
    answers = iter([http(503, {"detail": "full"})])

    def full_once(path: str) -> bytes | None:
        return next(answers, None) if path.endswith("outcomes") else None

    players, serving = played(Promised(), decisions=1, break_with=full_once)
    assert players.journal.http_errors == 1
    assert len(players.journal.outcomes) == len(serving.outcomes) == 2


def test_a_decision_answered_without_being_logged_is_no_promise() -> None:
    def not_logged(path: str) -> bytes | None:
        if not path.endswith("decisions"):
            return None
        answer = {"decision_id": "x", "action": "easy", "policy_version": 0, "cohort": "fallback"}
        return http(200, answer | {"logged": False})

    players, serving = played(Promised(), decisions=3, break_with=not_logged)
    assert players.journal.not_logged == 3
    assert players.journal.decisions == serving.outcomes == []


def test_a_connection_closed_while_idle_is_no_error() -> None:
    async def play(client: GameClient, serving: FakeServing) -> None:
        serving.closes_after = 1
        for _ in range(3):
            await client.send_outcomes([])

    assert with_server(play, connections=1).requests == 3


def test_more_requests_than_connections_wait_for_their_turn() -> None:
    async def play(client: GameClient, serving: FakeServing) -> None:
        await asyncio.gather(*(client.send_outcomes([]) for _ in range(50)))

    assert with_server(play, connections=2).requests == 50


def test_a_refusal_that_lists_the_outcomes_is_an_answer_and_any_other_an_error() -> None:
    rejected = [{"index": 0, "problem": {"detail": "value: expected a number"}}]

    async def play(client: GameClient, serving: FakeServing) -> None:
        serving.broken = lambda path: http(422, {"detail": "all", "rejected": rejected})
        assert await client.send_outcomes([{}]) == {0: rejected[0]["problem"]}
        serving.broken = lambda path: http(207, {"accepted": 1, "rejected": rejected})
        assert await client.send_outcomes([{}, {}]) == {0: rejected[0]["problem"]}
        serving.broken = lambda path: http(422, {"detail": "outcomes: expected a list"})
        with pytest.raises(RequestFailed, match="expected a list"):
            await client.send_outcomes([{}])

    with_server(play)


def test_a_server_that_says_nothing_is_given_up() -> None:
    async def play(client: GameClient, serving: FakeServing) -> None:
        serving.broken = lambda path: b"HTTP/1.1 200 OK\r\n"
        with pytest.raises(RequestFailed, match="no answer within"):
            await client.send_outcomes([])

    with_server(play, timeout_s=0.2)


def test_an_answer_that_is_not_http_is_an_error_in_words() -> None:
    async def play(client: GameClient, serving: FakeServing) -> None:
        serving.broken = lambda path: b"\x15\x03\x01 hello\r\n\r\n"
        with pytest.raises(RequestFailed, match="not an HTTP"):
            await client.send_outcomes([])

    with_server(play)


def test_a_server_that_is_not_there_is_an_error_in_words() -> None:
    async def ask() -> None:
        async with GameClient("http://127.0.0.1:1", "promised") as client:
            await client.decide({})

    with pytest.raises(RequestFailed, match="cannot connect"):
        asyncio.run(ask())


def test_only_an_http_address_is_taken() -> None:
    with pytest.raises(BakehouseError, match="expected an address"):
        GameClient("localhost:8080", "promised")
