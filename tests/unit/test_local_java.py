"""Finding a Java, and standing in for what the packaged one lacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bakehouse.local import java
from bakehouse.local.java import Java, find_java, shim
from bakehouse_schemas.errors import MissingDependency

ECHO = '#!/bin/sh\nfor argument do echo "$argument"; done\n'


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def fake_java(home: Path, version: str) -> Path:
    """Answers as `java -XshowSettings:properties -version` does."""
    said = f"    java.home = {home}\n    java.specification.version = {version}\n"
    executable(home / "bin" / "java", f"#!/bin/sh\ncat >&2 <<'END'\n{said}END\n")
    return home


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    named, on_path = fake_java(tmp_path / "named", "21"), fake_java(tmp_path / "other", "17")
    environment = {"JAVA_HOME": str(named), "PATH": f"{on_path / 'bin'}:/bin:/usr/bin"}
    assert find_java(environment) == Java(named, 21, packaged=False)


def test_the_version_is_what_java_says_and_not_what_its_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "packaged_runtime", lambda: None)
    old = fake_java(tmp_path / "java-17", "1.8")
    with pytest.raises(MissingDependency, match=r"java-17/bin/java: is Java 8.*pip install"):
        find_java({"JAVA_HOME": str(old), "PATH": ""})


def test_a_java_that_does_not_start_is_passed_over_for_the_next(tmp_path: Path) -> None:
    executable(tmp_path / "broken" / "bin" / "java", "#!/bin/sh\necho no heap >&2\nexit 1\n")
    good = fake_java(tmp_path / "good", "17")
    environment = {
        "JAVA_HOME": str(tmp_path / "broken"),
        "PATH": f"{good / 'bin'}:/bin:/usr/bin",
    }
    assert find_java(environment).home == good


def test_without_any_java_the_packaged_one_is_used_and_made_once(tmp_path: Path) -> None:
    environment = {"PATH": "", "BAKEHOUSE_CACHE": str(tmp_path)}
    found = find_java(environment)
    assert (found.version, found.packaged) == (21, True)
    assert found.home.is_relative_to(tmp_path)
    assert find_java(environment) == found
    assert [path.name for path in (tmp_path / "java").iterdir()] == [found.home.name]


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["--add-modules=jdk.incubator.vector", "-cp", "a b", "Main"], ["-cp", "a b", "Main"]),
        (["--add-modules", "jdk.incubator.vector", "Main"], ["Main"]),
        (["--add-modules", "java.sql", "Main"], ["--add-modules", "java.sql", "Main"]),
        (
            ["--add-modules=java.sql", "Main", "", "$x"],
            ["--add-modules=java.sql", "Main", "", "$x"],
        ),
    ],
)
def test_the_shim_drops_the_vector_module_and_nothing_else(
    tmp_path: Path, given: list[str], passed_on: list[str]
) -> None:
    runtime = tmp_path / "with a space"
    executable(runtime / "bin" / "java", ECHO)
    executable(runtime / "bin" / "jcmd", ECHO)
    (runtime / "lib").mkdir()
    home = shim(runtime, tmp_path / "shims")
    said = subprocess.run(
        [home / "bin" / "java", *given], capture_output=True, text=True, check=True
    )
    assert said.stdout.split("\n")[:-1] == passed_on
    assert (home / "lib").resolve() == runtime / "lib"
    assert (home / "bin" / "jcmd").resolve() == runtime / "bin" / "jcmd"
