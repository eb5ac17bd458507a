"""Who may come in: keys and their scopes, strangers' web pages, addresses that others reach."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bakehouse import cli
from bakehouse.local.supervisor import Stack
from bakehouse.players.game_client import GameClient, RequestFailed
from bakehouse.stack_client import Refused, Target, change_policy
from bakehouse_schemas.errors import SettingsError
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.keys import is_loopback, parse_keys
from bakehouse_schemas.process.settings import Settings, load_settings
from bakehouse_serving.api_keys import Authenticator
from tests.unit.test_serving_http import ASK, LEVELS, Server, is_problem

DECIDE, OUTCOME, ADMIN = "d" * 16, "o" * 24, "admin-key/with+signs=="
KEYS = f"decide:{DECIDE},outcome:{OUTCOME},admin:{ADMIN}"
TOLD = {"outcomes": [{"decision_id": uuid7(), "name": "won"}]}
NOWHERE = Path("/nowhere/bakehouse.toml")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def locked(tmp_path: Path) -> Any:
    server = Server(tmp_path, authenticator=Authenticator(parse_keys(KEYS)))
    yield server
    server.close()


@pytest.fixture
def unlocked(tmp_path: Path) -> Any:
    server = Server(tmp_path)
    yield server
    server.close()


# --- keys over HTTP


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/decisions", ASK, DECIDE),
        ("/decisions:batch", {"decisions": [ASK]}, DECIDE),
        ("/outcomes", TOLD, OUTCOME),
        ("/policy:kill", {"by": "ada", "why": "x"}, ADMIN),
    ],
)
def test_a_route_opens_to_the_key_of_its_scope_and_to_no_other(
    locked: Server, path: str, body: Any, key: str
) -> None:
    for other in {DECIDE, OUTCOME, ADMIN} - {key}:
        said = is_problem(locked.post(path, body, bearer(other)), 403)
        assert other not in said
    assert locked.spool.records == []
    assert not locked.served.slot.killed
    assert locked.post(path, body, bearer(key)).is_success
    assert len(locked.spool.records) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("d" * 15),
        bearer("d" * 17),
        bearer(""),
        {"Authorization": "Bearer"},
        {"Authorization": DECIDE},
        {"Authorization": f"Basic {DECIDE}"},
        {"Authorization": f"Bearer {DECIDE} {DECIDE}"},
        {"X-Api-Key": DECIDE},
    ],
)
def test_no_key_or_an_unknown_one_is_a_401_that_asks_for_one_and_changes_nothing(
    locked: Server, headers: dict[str, str]
) -> None:
    for path, body in (("/decisions", ASK), ("/outcomes", TOLD), ("/policy:kill", {})):
        response = locked.post(path, body, headers)
        is_problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    assert locked.spool.records == []
    assert not locked.served.slot.killed


def test_the_kind_of_authorization_is_read_in_any_case(locked: Server) -> None:
    assert locked.post("/decisions", ASK, {"Authorization": f"bearer {DECIDE}"}).is_success


@pytest.mark.parametrize("key", [DECIDE, OUTCOME, ADMIN])
@pytest.mark.parametrize(
    "path", ["/v1/status", "/v1/applications", f"{LEVELS}/policy", f"{LEVELS}/status", "/metrics"]
)
def test_reading_needs_a_key_and_any_will_do(locked: Server, path: str, key: str) -> None:
    is_problem(locked.request("GET", path), 401)
    assert locked.request("HEAD", path).status_code == 401
    for method in ("GET", "HEAD"):
        assert locked.request(method, path, headers=bearer(key)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/docs", "/openapi.json"])
def test_some_pages_stay_open(locked: Server, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert locked.request(method, path).status_code == 200


def test_the_open_readiness_says_no_more_than_that(locked: Server, unlocked: Server) -> None:
    open_ = {"ready": True, "answers": True, "learns": False}
    assert locked.request("GET", "/readyz").json() == open_
    assert locked.request("GET", "/readyz", headers=bearer("wrong")).json() == open_
    said = locked.request("GET", "/readyz", headers=bearer(OUTCOME)).json()
    assert said["not_learning"]["levels"]["stage"] == "join"
    assert said["applications"] == ["levels"]
    assert unlocked.request("GET", "/readyz").json()["applications"] == ["levels"]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "PATCH"])
def test_what_is_not_known_here_is_closed_too(locked: Server, method: str) -> None:
    for path in (
        "/nowhere",
        "/v1/applications/chess/decisions",
        f"{LEVELS}/policy:kill/",
        "/livez/x",
    ):
        is_problem(locked.request(method, path, b"{}"), 401)


def test_a_key_that_came_with_a_bad_body_is_refused_before_the_body_is_read(locked: Server) -> None:
    is_problem(locked.post("/decisions", b" " * 1_000_000, bearer(ADMIN)), 403)
    assert locked.served.counters.invalid == 0


def test_a_key_with_several_scopes_opens_each_of_them(tmp_path: Path) -> None:
    server = Server(
        tmp_path, authenticator=Authenticator(parse_keys(f"decide+outcome:{DECIDE},admin:{ADMIN}"))
    )
    assert server.post("/decisions", ASK, bearer(DECIDE)).is_success
    assert server.post("/outcomes", TOLD, bearer(DECIDE)).is_success
    is_problem(server.post("/policy:kill", {}, bearer(DECIDE)), 403)
    server.close()


def test_the_description_asks_for_a_key_exactly_where_the_doors_do(locked: Server) -> None:
    paths = locked.request("GET", "/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            asked = locked.request(method.upper(), path.replace("{application}", "levels"), b"{}")
            assert ("security" in operation) == (asked.status_code == 401), path


# --- web pages of strangers, where no key is set

STRANGERS = (
    "https://evil.example",
    "http://evil.example:8080",  # DNS rebinding: its name leads here, its origin is still its own
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://evil.example#@localhost",
    "http://10.0.0.1",
    "null",
    "",
    "http://[::1",
    "\xff",
)


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_web_page_of_a_stranger_can_post_nothing(unlocked: Server, origin: str) -> None:
    headers = {"Origin": origin.encode("latin-1"), "Content-Type": "text/plain"}
    for path, body in (("/decisions", ASK), ("/outcomes", TOLD), ("/policy:kill", {})):
        is_problem(unlocked.post(path, body, headers), 403)  # type: ignore[arg-type]
    assert unlocked.spool.records == []
    assert not unlocked.served.slot.killed


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1:8080", "https://[::1]:8080"]
)
def test_a_web_page_of_this_machine_can_post(unlocked: Server, origin: str) -> None:
    for path, body in (("/decisions", ASK), ("/outcomes", TOLD), ("/policy:kill", {})):
        assert unlocked.post(path, body, {"Origin": origin}).is_success


def test_where_keys_are_set_the_key_decides_and_not_the_page(locked: Server) -> None:
    from_afar = {"Origin": "https://game.example"}
    assert locked.post("/decisions", ASK, bearer(DECIDE) | from_afar).is_success


# --- the setting


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "entry 1 has no ':'"),
        (ADMIN, "entry 1 has no ':'"),
        (f"admin:{ADMIN},", "entry 2 has no ':'"),
        (f"{ADMIN}:admin", "entry 1 has something else than scopes"),
        (f"boss:{ADMIN}", "entry 1 has something else than scopes"),
        (f"admin+:{ADMIN}", "entry 1 has something else than scopes"),
        (f"admin+admin:{ADMIN}", "entry 1 has something else than scopes"),
        (f"Admin:{ADMIN}", "entry 1 has something else than scopes"),
        ("admin:", "entry 1: a key has letters"),
        (f"admin:{ADMIN} {ADMIN}", "entry 1: a key has letters"),
        (f"admin:{ADMIN}\r\nx: y", "entry 1: a key has letters"),
        (f"admin:{ADMIN}é", "entry 1: a key has letters"),
        ("admin:0123456789abcde", "entry 1: the key has 15 signs, expected at least 16"),
        (f"admin:{ADMIN},decide:{ADMIN}", "entries 1 and 2 are the same key"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_at_load_and_not_shown(keys: str, said: str) -> None:
    with pytest.raises(SettingsError, match="api_keys") as refused:
        load_settings({"BAKEHOUSE_API_KEYS": keys}, file=NOWHERE)
    assert said in str(refused.value)
    assert ADMIN not in str(refused.value)
    assert "0123456789" not in str(refused.value)
    assert refused.value.__cause__ is None  # a traceback would show what came


def test_no_secret_is_printed_with_the_settings(tmp_path: Path) -> None:
    secrets = {
        "BAKEHOUSE_API_KEYS": KEYS,
        "BAKEHOUSE_API_KEY": ADMIN,
        "BAKEHOUSE_TOKEN_SECRET": "a secret of tokens",
        "BAKEHOUSE_KAFKA_SASL_PASSWORD": "hunter2",
    }
    settings = load_settings(secrets, file=NOWHERE)
    shown = f"{settings!r} {settings} {settings.keys!r}"
    for secret in (DECIDE, OUTCOME, ADMIN, "a secret of tokens", "hunter2"):
        assert secret not in shown
    assert load_settings(settings.as_environment(), file=NOWHERE) == settings
    file = tmp_path / "bakehouse.toml"
    file.write_text('kafka_sasl_password = ["hunter2"]\napi_kye = "hunter2"\n')
    with pytest.raises(SettingsError, match="kafka_sasl_password") as refused:
        load_settings({}, file=file)
    assert "hunter2" not in str(refused.value)


def test_a_file_may_list_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "bakehouse.toml"
    file.write_text(f'api_keys = ["decide+outcome:{DECIDE}", "admin:{ADMIN}"]\n')
    settings = load_settings({}, file=file)
    assert [key.secret for key in settings.keys] == [DECIDE, ADMIN]


# --- addresses that others reach


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("bakehouse.example", False),
        ("localhost.example", False),
        ("127.1", False),
    ],
)
def test_only_an_address_of_this_machine_alone_goes_without_a_key(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone
    settings = Settings(host=host)
    if alone:
        settings.check_exposure()
    else:
        with pytest.raises(SettingsError, match="BAKEHOUSE_API_KEYS"):
            settings.check_exposure()
        with pytest.raises(SettingsError, match="no API key has the scope admin"):
            Settings(host=host, api_keys=f"decide+outcome:{DECIDE}").check_exposure()
        Settings(host=host, api_keys=KEYS).check_exposure()


@pytest.mark.parametrize("command", [["-m", "bakehouse_serving"], ["-m", "bakehouse.cli", "serve"]])
def test_serving_does_not_start_on_an_address_of_others_without_a_key(
    command: list[str], tmp_path: Path
) -> None:
    environment = os.environ | {"BAKEHOUSE_HOST": "0.0.0.0", "BAKEHOUSE_HOME": str(tmp_path / "h")}
    ran = subprocess.run(
        [sys.executable, *command, "applications/level_difficulty.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    for words in ("host='0.0.0.0'", "expected", "BAKEHOUSE_API_KEYS=", "Nothing listens"):
        assert words in ran.stderr
    assert not (tmp_path / "h").exists()


def test_a_stack_does_not_start_there_either(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "h", host="0.0.0.0", port=0)
    with (
        pytest.raises(SettingsError, match="BAKEHOUSE_API_KEYS"),
        Stack(["applications/level_difficulty.py"], settings),
    ):
        pass
    assert not (tmp_path / "h").exists()


# --- those who ask


def test_a_command_sends_its_own_key_or_one_of_the_stacks_that_fits() -> None:
    settings = Settings(api_keys=KEYS)
    assert [settings.key_to_send(scope) for scope in ("decide", "outcome", "admin", None)] == [
        DECIDE,
        OUTCOME,
        ADMIN,
        DECIDE,
    ]
    assert Settings(api_keys=KEYS, api_key="m" * 16).key_to_send("admin") == "m" * 16
    assert Settings(api_keys=f"decide:{DECIDE}").key_to_send("admin") is None
    assert Settings().key_to_send(None) is None


@pytest.mark.parametrize(
    ("settings", "status"),
    [(Settings(), 401), (Settings(api_key="x" * 20), 401), (Settings(api_key=DECIDE), 403)],
)
def test_a_control_command_without_the_right_key_says_what_to_set(
    locked: Server, settings: Settings, status: int
) -> None:
    with locked.listening() as url, pytest.raises(Refused, match=str(status)) as refused:
        change_policy(Target(url, "levels", settings), "kill", why="x")
    assert "BAKEHOUSE_API_KEY to its key with the scope 'admin'" in str(refused.value)
    assert not locked.served.slot.killed


def test_a_control_command_with_the_keys_of_the_stack_is_obeyed(locked: Server) -> None:
    with locked.listening() as url:
        change_policy(Target(url, "levels", Settings(api_keys=KEYS)), "kill", why="x")
    assert locked.served.slot.killed


def test_the_commands_explore_retrain_and_audit_reach_the_server(
    locked: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAKEHOUSE_API_KEYS", KEYS)
    with locked.listening() as url:

        def run(*arguments: str) -> str:
            where = ["--url", url, "--application", "levels"]
            monkeypatch.setattr(sys, "argv", ["bakehouse", *arguments, *where])
            with pytest.raises(SystemExit):
                cli.main()
            return capsys.readouterr().out

        assert "25% uniform by hand" in run("explore", "0.25", "--why", "season", "--by", "ada")
        assert locked.served.slot.explore_share == 0.25
        run("explore", "some", "--why", "a slip")
        assert locked.served.slot.explore_share == 0.25
        run("explore", "default", "--why", "enough", "--by", "bob")
        assert locked.served.slot.explore_share is None
        run("retrain", "--why", "prices")
        told = run("audit")
    lines = [line.split()[1:4] for line in told.splitlines()[1:]]
    assert [line[0] for line in lines] == ["retrain", "explore", "explore"]
    assert lines[2][1:] == ["ada", "season"]
    assert "explore share: None → 0.25" in told


def test_a_game_client_sends_each_route_its_key(locked: Server) -> None:
    async def play(url: str, settings: Settings | None) -> dict[str, Any]:
        async with GameClient(url, "levels", settings=settings) as client:
            answer = await client.decide(ASK)
            assert await client.decide_batch([ASK])
            told = {"decision_id": answer["decision_id"], "name": "won"}
            assert await client.send_outcomes([told]) == {}
            return answer

    with locked.listening() as url:
        assert asyncio.run(play(url, Settings(api_keys=KEYS)))["logged"]
        with pytest.raises(RequestFailed, match="BAKEHOUSE_API_KEY to its key with the scope"):
            asyncio.run(play(url, None))
