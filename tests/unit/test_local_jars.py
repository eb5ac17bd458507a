"""The jars: exact, checked, and never half there. No network is used."""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from bakehouse.local import jars
from bakehouse.local.cache import cache_folder
from bakehouse.local.jars import WrongSum, ensure_jars, proxy_options, read_sums
from bakehouse.local.java import Java, find_java, packaged_runtime
from bakehouse.local.trust import machine_certificates, write_trust_store
from bakehouse_schemas.errors import MissingDependency

CONTENT = {"kafka/broker-1.jar": b"broker", "spark/delta-1.jar": b"delta"}
NO_JAVA = Java(Path("/nowhere"), 21, packaged=True)


class Maven:
    """Stands in for Ivy and the network; counts what it was asked."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content
        self.fetched = 0

    def __call__(
        self, command: list[str], expected: int, progress: jars.Progress
    ) -> tuple[int, str]:
        self.fetched += 1
        target = Path(command[command.index("-retrieve") + 1].partition("/[conf]")[0])
        cache = Path(command[command.index("-cache") + 1])
        cache.mkdir(parents=True, exist_ok=True)
        for name, content in self.content.items():
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_bytes(content)
        progress(f"fetching jars: {len(self.content)} of {expected}")
        return 0, ""


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "jars.sha256"
    file.write_text(
        "".join(f"{hashlib.sha256(c).hexdigest()}  {name}\n" for name, c in CONTENT.items())
    )
    monkeypatch.setattr(jars, "SUMS", file)


def ensure(cache: Path, said: list[str] | None = None) -> jars.Jars:
    progress = (said if said is not None else []).append
    return ensure_jars(progress, environment={"BAKEHOUSE_CACHE": str(cache)}, java=NO_JAVA)


@pytest.mark.usefixtures("sums")
def test_jars_are_fetched_once_and_then_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = Maven(CONTENT)
    monkeypatch.setattr(jars, "run_ivy", maven)
    said: list[str] = []
    first, second = ensure(tmp_path / "cache", said), ensure(tmp_path / "cache")
    assert first == second
    assert [path.name for path in first.spark + first.kafka] == ["delta-1.jar", "broker-1.jar"]
    assert maven.fetched == 1
    assert said[-1] == "fetching jars: 2 of 2"
    assert not (tmp_path / "cache" / "ivy").exists()


@pytest.mark.usefixtures("sums")
def test_of_two_that_need_them_at_once_one_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven = Maven(CONTENT)
    monkeypatch.setattr(jars, "run_ivy", maven)
    threads = [threading.Thread(target=ensure, args=(tmp_path / "cache",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maven.fetched == 1


@pytest.mark.usefixtures("sums")
def test_a_jar_with_another_sum_is_refused_and_nothing_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "run_ivy", Maven(CONTENT | {"spark/delta-1.jar": b"forged"}))
    with pytest.raises(WrongSum, match=r"spark/delta-1\.jar has SHA-256 \w+, expected \w+"):
        ensure(tmp_path / "cache")
    assert list((tmp_path / "cache" / "jars").iterdir()) == []


@pytest.mark.usefixtures("sums")
def test_a_jar_that_was_damaged_in_the_cache_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "run_ivy", Maven(CONTENT))
    damaged = ensure(tmp_path / "cache").spark[0]
    damaged.write_bytes(b"del")
    assert ensure(tmp_path / "cache").spark[0].read_bytes() == b"delta"


@pytest.mark.usefixtures("sums")
def test_without_a_network_the_error_says_what_to_do_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> tuple[int, str]:
        return 1, ":: problems ::\n\tHost maven not found. url=x\n:: resolution report\n"

    monkeypatch.setattr(jars, "run_ivy", no_network)
    with pytest.raises(MissingDependency, match=r"Host maven not found.*BAKEHOUSE_IVY_SETTINGS"):
        ensure(tmp_path / "cache")
    assert list((tmp_path / "cache" / "jars").iterdir()) == []


def test_every_coordinate_is_exact_and_has_a_committed_sum() -> None:
    rows = re.findall(
        r'name="([^"]+)" rev="([^"]+)" conf="(\w+)->default" transitive="false"',
        jars.COORDINATES.read_text(),
    )
    assert {f"{conf}/{name}-{revision}.jar" for name, revision, conf in rows} == set(
        read_sums(jars.SUMS)
    )
    assert jars.COORDINATES.read_text().count("<dependency ") == len(rows)


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    assert cache_folder({"BAKEHOUSE_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "bakehouse"
    assert cache_folder({}) == Path.home() / ".cache" / "bakehouse"


def test_a_proxy_is_taken_as_other_tools_take_it() -> None:
    assert proxy_options({}) == []
    assert proxy_options({"https_proxy": "http://proxy.example:3128"}) == [
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
    ]


def test_java_reads_the_trust_store_that_we_write(tmp_path: Path) -> None:
    certificates = machine_certificates()
    if not certificates:
        pytest.skip("this machine trusts no authority")
    store = write_trust_store(certificates[:3], tmp_path / "machine.jks")
    assert struct.unpack(">III", store.read_bytes()[:12]) == (0xFEEDFEED, 2, 3)
    runtime = packaged_runtime() or find_java().home
    listed = subprocess.run(
        [runtime / "bin" / "keytool", "-list", "-keystore", store, "-storepass", "changeit"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.count("trustedCertEntry") == 3
    fingerprint = hashlib.sha256(certificates[0]).hexdigest().upper()
    assert ":".join(re.findall("..", fingerprint)) in listed.stdout
