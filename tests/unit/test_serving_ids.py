"""Ids of any text over HTTP, and the header that does what they do."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.records import read_decision, read_outcome
from bakehouse_schemas.ids import is_decision_id, is_uuid7, uuid7
from bakehouse_serving.hot.idempotency import IdempotencyCache
from bakehouse_serving.hot.idempotency_key import HEADER, entry_id, idempotency_key
from bakehouse_serving.hot.outcome_tokens import OutcomeTokens
from bakehouse_serving.spool.frames import Topic
from tests.unit.test_serving_http import ASK, Server, is_problem

V4 = "5f0c1e0e-7f2b-4d55-9a2e-2f3d1f0a9c11"
TEXTS = [V4, V4.upper(), " ", "match-7/round 3", "é" * 64, "🎲" * 32, '"quoted"', "7"]


@pytest.fixture
def server(tmp_path: Path) -> Any:
    server = Server(tmp_path)
    yield server
    server.close()


def with_key(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_a_decision_id_and_asks_again_safely_also_after_a_restart(
    server: Server, tmp_path: Path, text: str
) -> None:
    asked = ASK | {"decision_id": text}
    first = server.post("/decisions", asked).json()
    assert first["decision_id"] == text
    assert server.post("/decisions", asked).json() == first
    other = asked | {"subject_id": "p2"}
    assert text in is_problem(server.post("/decisions", other), 409)
    [record] = server.spool.records
    assert record.key == text.encode()
    read_decision(record.value, {"levels": server.application}, received_at_ms=0)
    server.memory.flush()  # as each second
    again = Server(tmp_path)  # the process was killed; the home is the same
    assert again.post("/decisions", asked).json() == first
    is_problem(again.post("/decisions", other), 409)
    assert again.spool.records == []
    again.close()


def test_what_was_spooled_before_a_kill_is_remembered_under_its_text(
    server: Server, tmp_path: Path
) -> None:
    first = server.post("/decisions", ASK | {"decision_id": "match 7"}).json()
    cache = IdempotencyCache(server.application.actions, folder=tmp_path / "new", span_s=600)
    cache.recover(server.spool.events(Topic.DECISIONS))
    found = cache.get("match 7", ASK["subject_id"])
    assert found is not None and found.action == first["action"]
    assert cache.get("match 8", ASK["subject_id"]) is None


def test_ids_that_look_alike_are_not_the_same(server: Server) -> None:
    mine = uuid7()
    alike = [mine, mine.upper(), mine.replace("-", ""), f"{mine} ", "é", "e\u0301"]
    for text in alike:
        server.post("/decisions", ASK | {"decision_id": text})
    assert len(server.spool.records) == len(alike)


def test_129_bytes_are_refused_with_words_and_nothing_is_recorded(server: Server) -> None:
    for text in ("x" * 129, "é" * 65, "", "a\nb"):
        for path, body in (
            ("/decisions", ASK | {"decision_id": text}),
            ("/decisions", ASK | {"previous_decision_id": text}),
            ("/outcomes", {"outcomes": [{"decision_id": text, "name": "won"}]}),
        ):
            refused = server.post(path, body)
            assert refused.status_code == 422
            assert "expected 1 to 128 bytes of UTF-8 without control" in refused.json()["detail"]
    assert server.spool.records == []


def test_a_batch_and_its_outcomes_take_texts_too(server: Server) -> None:
    asked = [ASK | {"decision_id": text} for text in (*TEXTS, V4)]
    answered = server.post("/decisions:batch", {"decisions": asked}).json()["decisions"]
    assert [one["decision_id"] for one in answered] == [*TEXTS, V4]
    assert answered[-1] == answered[0]
    told = [{"decision_id": text, "name": "won"} for text in TEXTS]
    assert server.post("/outcomes", {"outcomes": told}).json()["accepted"] == len(TEXTS)
    found = server.spool.events(Topic.OUTCOMES)
    assert [one["decision_id"] for one in found] == TEXTS


# --- Idempotency-Key


@pytest.mark.parametrize("key", [V4, f'"{V4}"', "match-7", '"a \\"b\\" \\\\c"', "k" * 129])
def test_the_key_of_a_request_does_what_a_decision_id_does(server: Server, key: str) -> None:
    first = server.post("/decisions", ASK, with_key(key)).json()
    assert server.post("/decisions", ASK, with_key(key)).json() == first
    other = server.post("/decisions", ASK, with_key("another"))
    assert other.json()["decision_id"] == "another"
    is_problem(server.post("/decisions", ASK | {"subject_id": "p2"}, with_key(key)), 409)
    assert len(server.spool.records) == 2
    expected = {
        V4: V4,
        f'"{V4}"': V4,
        "match-7": "match-7",
        '"a \\"b\\" \\\\c"': 'a "b" \\c',
    }
    assert first["decision_id"] == expected.get(key, first["decision_id"])
    told = {"outcomes": [{"decision_id": first["decision_id"], "name": "won"}]}
    assert server.post("/outcomes", told).status_code == 202


def test_an_id_of_the_body_wins_over_the_key(server: Server) -> None:
    made = server.post("/decisions", ASK | {"decision_id": "mine"}, with_key("key")).json()
    assert made["decision_id"] == "mine"
    told = {"outcomes": [{"decision_id": "mine", "name": "won", "outcome_id": "o"}]}
    server.post("/outcomes", told, with_key("key"))
    asked = {"decisions": [ASK | {"decision_id": "own"}, ASK]}
    answered = server.post("/decisions:batch", asked, with_key("key")).json()["decisions"]
    assert [one["decision_id"] for one in answered] == ["own", "key:1"]
    assert server.spool.events(Topic.OUTCOMES)[0]["outcome_id"] == "o"


def test_a_batch_that_is_sent_again_is_answered_the_same_entry_by_entry(server: Server) -> None:
    asked = {"decisions": [ASK | {"subject_id": f"p{at}"} for at in range(130)]}
    first = server.post("/decisions:batch", asked, with_key("k")).json()["decisions"]
    assert [one["decision_id"] for one in first] == [f"k:{at}" for at in range(130)]
    assert server.post("/decisions:batch", asked, with_key("k")).json()["decisions"] == first
    assert len(server.spool.records) == 130


def test_outcomes_that_are_sent_again_under_one_key_are_the_same_outcomes(server: Server) -> None:
    told = {"outcomes": [{"decision_id": "d", "name": "won"}, {"decision_id": "d", "name": "won"}]}
    for _ in range(2):
        assert server.post("/outcomes", told, with_key("k" * 200)).json()["accepted"] == 2
    records = [one for one in server.spool.records if one.topic == Topic.OUTCOMES]
    read = [read_outcome(one.value, {"levels": server.application}) for one in records]
    ids = [one.outcome_id for one in read]
    assert len(ids) == 4 and len(set(ids)) == 2 and ids[:2] == ids[2:]


@pytest.mark.parametrize("key", [b"", b'""', b"\xff", b"a\tb", "a\x85b".encode()])
def test_a_key_that_names_nothing_is_refused_with_words(server: Server, key: bytes) -> None:
    for path, body in (
        ("/decisions", ASK),
        ("/decisions:batch", {"decisions": [ASK]}),
        ("/outcomes", {"outcomes": [{"decision_id": "d", "name": "won"}]}),
    ):
        detail = is_problem(server.post(path, body, {b"Idempotency-Key": key}), 422)  # type: ignore[dict-item]
        assert "Idempotency-Key: expected" in detail
    assert server.spool.records == []


def test_two_keys_are_refused_and_a_uuid7_of_another_day_is_too(server: Server) -> None:
    with pytest.raises(InvalidEvent, match="expected one, got several"):
        idempotency_key([(HEADER, b"a"), (HEADER, b"a")])
    old = is_problem(server.post("/decisions", ASK, with_key(uuid7(1_000))), 422)
    assert "Idempotency-Key: " in old and "more than a day" in old


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_whatever_the_key_its_ids_fit_and_differ(text: str) -> None:
    try:
        key = idempotency_key([(HEADER, text.encode())])
    except InvalidEvent:
        return
    assert key is not None and is_decision_id(key)
    ids = {entry_id(key, at) for at in (0, 1, 10, 4_999)}
    assert len(ids) == 4
    assert all(is_decision_id(one) and not one.startswith("next:") for one in ids)
    assert idempotency_key([(HEADER, text.encode())]) == key


# --- where outcomes must carry a token


def test_where_tokens_are_required_an_id_that_says_no_time_is_not_answered(
    tmp_path: Path,
) -> None:
    """Whoever knows it could get the token of a decision that was answered long ago."""
    server = Server(tmp_path, tokens=OutcomeTokens(b"s" * 32, "levels"))
    refused = [
        server.post("/decisions", ASK | {"decision_id": V4}),
        server.post("/decisions", ASK, with_key(V4)),
    ]
    for one in refused:
        assert "carries no time" in is_problem(one, 422)
    answered = server.post("/decisions", ASK | {"decision_id": uuid7()}).json()
    told = {"decision_id": answered["decision_id"], "name": "won", "token": answered["token"]}
    assert server.post("/outcomes", {"outcomes": [told]}, with_key(V4)).status_code == 202
    assert is_uuid7(server.post("/decisions", ASK).json()["decision_id"])
    server.close()


def test_the_description_names_the_header_and_what_an_id_may_be(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json()
    for path in ("decisions", "decisions:batch", "outcomes"):
        told = document["paths"][f"/v1/applications/{{application}}/{path}"]["post"]
        assert "Idempotency-Key" in [one["name"] for one in told["parameters"]]
    body = told["requestBody"]["content"]["application/json"]["schema"]
    said = body["properties"]["outcomes"]["items"]["properties"]["decision_id"]
    assert "1 to 128 bytes" in said["description"].lower() and said["maxLength"] == 128


def test_uuid4s_of_a_browser_need_no_library(server: Server) -> None:
    for _ in range(5):
        key = str(uuid.uuid4())
        assert server.post("/decisions", ASK, with_key(key)).json()["decision_id"] == key
