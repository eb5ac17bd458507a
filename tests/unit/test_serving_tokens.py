"""Outcome tokens: only who got a decision can tell what came of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from bakehouse.players.game_client import GameClient
from bakehouse.players.players import Players
from bakehouse.players.senders import Batched, OneByOne, Sender
from bakehouse_schemas.errors import SettingsError
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.hot.outcome_tokens import OutcomeTokens, kept_secret, token_secret
from bakehouse_serving.spool.frames import Topic
from tests.fake_serving import FakeServing, served
from tests.unit.test_players import APPLICATION, Promised
from tests.unit.test_serving_http import ASK, Server

SECRET = b"a secret of this home"


@pytest.fixture
def server(tmp_path: Path) -> Any:
    server = Server(tmp_path, tokens=OutcomeTokens(SECRET, "levels"))
    yield server
    server.close()


def outcome(decision_id: str, **more: Any) -> dict[str, Any]:
    return {"decision_id": decision_id, "name": "won", **more}


def test_an_outcome_with_the_token_of_its_decision_is_accepted_and_the_token_is_no_part_of_it(
    server: Server,
) -> None:
    answer = server.post("/decisions", ASK).json()
    told = {"outcomes": [outcome(answer["decision_id"], token=answer["token"])]}
    assert server.post("/outcomes", told).json() == {"accepted": 1, "rejected": [], "notes": []}
    [event] = server.spool.events(Topic.OUTCOMES)
    assert "token" not in event
    assert "token" not in server.spool.events(Topic.DECISIONS)[0]


def test_outcomes_without_the_right_token_are_rejected_one_by_one(server: Server) -> None:
    first, second = (server.post("/decisions", ASK).json() for _ in range(2))
    entries = [
        outcome(first["decision_id"], token=first["token"]),
        outcome(first["decision_id"]),
        outcome(first["decision_id"], token=second["token"]),
        outcome(first["decision_id"], token=first["token"][:-1]),
        outcome(first["decision_id"], token=first["token"] + "="),
        outcome(first["decision_id"], token=""),
        outcome(first["decision_id"], token="é"),
        outcome(uuid7(), token=first["token"]),
        outcome(first["decision_id"], token=7),
    ]
    answered = server.post("/outcomes", {"outcomes": entries})
    assert answered.status_code == 207
    assert answered.json()["accepted"] == 1
    problems = {one["index"]: one["problem"]["status"] for one in answered.json()["rejected"]}
    assert problems == dict.fromkeys(range(1, 8), 403) | {8: 422}
    assert len(server.spool.events(Topic.OUTCOMES)) == 1
    assert first["token"] not in answered.text


def test_a_repeated_decision_gets_the_same_token_also_after_a_restart(
    server: Server, tmp_path: Path
) -> None:
    asked = ASK | {"decision_id": uuid7()}
    token = server.post("/decisions", asked).json()["token"]
    assert server.post("/decisions", asked).json()["token"] == token
    [in_batch] = server.post("/decisions:batch", {"decisions": [asked]}).json()["decisions"]
    assert in_batch["token"] == token
    server.memory.flush()
    again = Server(tmp_path, tokens=OutcomeTokens(SECRET, "levels"))
    assert again.post("/decisions", asked).json()["token"] == token
    again.close()


def test_who_asks_with_the_id_of_anothers_decision_gets_no_token(server: Server) -> None:
    asked = ASK | {"decision_id": uuid7()}
    token = server.post("/decisions", asked).json()["token"]
    stolen = asked | {"subject_id": "somebody else"}
    answered = server.post("/decisions", stolen)
    assert answered.status_code == 409
    in_batch = server.post("/decisions:batch", {"decisions": [stolen]})
    assert in_batch.json()["decisions"][0]["problem"]["status"] == 409
    assert token not in answered.text + in_batch.text


@pytest.mark.parametrize("minutes", [-20 * 60, -6, 6, 23 * 60])
def test_an_id_that_may_have_been_answered_and_forgotten_gets_no_token(
    tmp_path: Path, minutes: int
) -> None:
    old = ASK | {"decision_id": uuid7(int(time.time() * 1000) + minutes * 60_000)}
    server = Server(tmp_path, tokens=OutcomeTokens(SECRET, "levels"))  # remembers for ten minutes
    answered = server.post("/decisions", old)
    assert answered.status_code == 422
    assert "leave decision_id out" in answered.json()["detail"].lower()
    in_batch = server.post("/decisions:batch", {"decisions": [old]}).json()["decisions"]
    assert list(in_batch[0]) == ["problem"]
    assert server.spool.records == []
    server.close()
    plain = Server(tmp_path)  # where no tokens are given out, a game's clock may be off
    assert plain.post("/decisions", old).status_code == 200
    plain.close()


def test_every_entry_of_a_batch_has_its_own_token(server: Server) -> None:
    answers = server.post("/decisions:batch", {"decisions": [ASK] * 3}).json()["decisions"]
    told = [outcome(one["decision_id"], token=one["token"]) for one in answers]
    assert len({one["token"] for one in answers}) == 3
    assert server.post("/outcomes", {"outcomes": told}).json()["accepted"] == 3


def test_a_token_has_144_bits_and_fits_into_a_url() -> None:
    token = OutcomeTokens(SECRET, "levels").token(uuid7())
    assert len(token) == 24
    assert token.replace("-", "").replace("_", "").isalnum()


def test_a_token_is_of_one_application_one_decision_and_one_secret() -> None:
    one = uuid7()
    tokens = {
        OutcomeTokens(SECRET, "levels").token(one),
        OutcomeTokens(SECRET, "quests").token(one),
        OutcomeTokens(SECRET, "levels").token(uuid7()),
        OutcomeTokens(b"another secret", "levels").token(one),
    }
    assert len(tokens) == 4


def test_without_tokens_none_is_given_and_one_that_comes_is_passed_over(tmp_path: Path) -> None:
    plain = Server(tmp_path)
    answer = plain.post("/decisions", ASK).json()
    assert "token" not in answer
    told = {"outcomes": [outcome(answer["decision_id"], token="whatever")]}
    assert plain.post("/outcomes", told).json()["accepted"] == 1
    assert "token" not in plain.spool.events(Topic.OUTCOMES)[0]
    plain.close()


# --- the secret


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, outcome_tokens="required")
    first = token_secret(settings)
    file = tmp_path / "serving" / "token.key"
    assert first is not None
    assert len(first) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token_secret(settings) == first
    assert [path.name for path in file.parent.iterdir()] == ["token.key"]


def test_processes_that_make_the_secret_at_once_agree(tmp_path: Path) -> None:
    file = tmp_path / "serving" / "token.key"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.map(kept_secret, [file] * 16, chunksize=1)
    assert set(made) == {file.read_bytes()}
    assert [path.name for path in file.parent.iterdir()] == ["token.key"]


def test_a_secret_that_is_set_is_used_and_none_is_kept(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, outcome_tokens="required", token_secret="s" * 16)
    assert token_secret(settings) == b"s" * 16
    assert token_secret(Settings(home=tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [b"", b"\n", b"short\n"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, kept: bytes) -> None:
    file = tmp_path / "token.key"
    file.write_bytes(kept)
    with pytest.raises(SettingsError, match=r"token\.key holds \d bytes"):
        kept_secret(file)
    assert file.read_bytes() == kept


# --- who plays


@pytest.mark.parametrize("sender", [OneByOne, Batched])
def test_players_send_back_the_tokens_that_they_got(sender: Any) -> None:
    tokens = OutcomeTokens(SECRET, APPLICATION.name)

    class Signing(FakeServing):
        def _decide(self, body: dict[str, Any]) -> dict[str, Any]:
            return super()._decide(body) | {"token": tokens.token(body["decision_id"])}

    async def play(url: str) -> None:
        async with GameClient(url, APPLICATION.name) as client:
            players = Players(APPLICATION, Promised(), sender_of(client), rate=2_000, seed=1)
            await players.play(asyncio.Event(), decisions=50)
            assert await players.settle(30)

    def sender_of(client: GameClient) -> Sender:
        made: Sender = sender(client)
        return made

    serving = Signing()
    with served(serving) as url:
        asyncio.run(play(url))
    assert serving.outcomes
    for told in serving.outcomes:
        tokens.check(told["decision_id"], told["token"])
