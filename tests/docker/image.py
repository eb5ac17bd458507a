"""Carries out a Dockerfile where there is no container engine, in a folder that stands for `/`.

What is an image's own (`/opt`, `/var`, `/etc`, …) lies in that folder, wherever an instruction
names it; commands find the tools of the base image on their PATH and no others. An instruction
that is not known here is refused, so nothing is passed over unseen. What this cannot show is the
base image itself: its Python is one of this machine's, its libraries are this machine's.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

# what a slim Debian has of what our commands use; no Java, no compiler, no `ps`
TOOLS = (
    *("bash", "sh", "env", "cat", "chmod", "chown", "cp", "cut", "dirname", "basename", "echo"),
    *("date", "expr", "find", "grep", "head", "hostname", "id", "ln", "ls", "mkdir", "mktemp"),
    *("mv", "nice", "nproc", "readlink", "rm", "sed", "sort", "stat", "tail", "tar", "touch"),
    *("tr", "true", "uname", "wc", "xargs", "getconf", "sleep", "test", "tee", "which"),
)
# what a build on this machine needs to reach its registries, as build arguments of an engine
PASSED_ON = re.compile(
    r"(UV_(DEFAULT_INDEX|INDEX.*|EXTRA_INDEX_URL|CACHE_DIR|NATIVE_TLS|SYSTEM_CERTS|CONFIG_FILE|"
    r"HTTP_TIMEOUT)|PIP_(INDEX_URL|EXTRA_INDEX_URL|CERT|CONFIG_FILE|DEFAULT_TIMEOUT)|SSL_CERT_\w+|"
    r"\w+_proxy|\w+_PROXY|BAKEHOUSE_IVY_SETTINGS|JAVA_TOOL_OPTIONS)"
)
OWN = re.compile(
    r"(?:(?<![\w.}/-])|(?<=sqlite:///))/(?=(?:opt|etc|var|root|home|srv|tmp|usr/local|usr/bin)(?:/|\b))"
)
BASE = re.compile(r"python:3\.11\.\d+-slim-\w+")


class NotKnown(Exception):
    """The Dockerfile says something that is not carried out here."""


@dataclass
class Image:
    """What has come of a Dockerfile so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: tuple[int, int] = (0, 0)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = ""
    ports: list[int] = field(default_factory=list)

    def here(self, text: str) -> str:
        """The same, with the image's own paths where they lie on this machine."""
        return OWN.sub(f"{self.root}/", text)

    def path(self, text: str) -> Path:
        """Of this machine; relative ones are below the working folder."""
        return Path(self.here(text if text.startswith("/") else f"{self.folder}/{text}"))

    @property
    def working_folder(self) -> Path:
        return self.path(self.folder)

    def process_environment(self, home: str) -> dict[str, str]:
        """What a process of the image finds, and nothing of this machine's."""
        return {"HOME": self.here(home)} | {
            name: self.here(value) for name, value in self.environment.items()
        }

    def size_mb(self) -> float:
        """All files, each counted once."""
        seen: set[int] = set()
        total = 0
        for file in self.root.rglob("*"):
            about = file.lstat()
            if not file.is_dir() and about.st_ino not in seen:
                seen.add(about.st_ino)
                total += about.st_size
        return total / 1e6


def build(dockerfile: Path, context: Path, root: Path, **arguments: str) -> Image:
    """Carry out `dockerfile`; `root` becomes the image's `/`.

    Raises:
        NotKnown: an instruction that this does not know.
        RuntimeError: a command has failed, with what it said.
    """
    image = Image(root)
    ignored = Ignored(context / ".dockerignore")
    parser = DockerfileParser(path=str(dockerfile))
    for step in parser.structure:
        instruction, value = step["instruction"], str(step["value"])
        if instruction == "COMMENT":
            continue
        carry_out = STEPS.get(instruction)
        if carry_out is None:
            raise NotKnown(f"{dockerfile}: {instruction} {value}")
        carry_out(image, value, context, ignored, arguments)
    return image


def _from(image: Image, value: str, *_: object) -> None:
    if not BASE.fullmatch(value) or image.environment:
        raise NotKnown(f"FROM {value}: one stage, on a slim Python 3.11, is known")
    tools = image.root / "usr" / "bin"
    tools.mkdir(parents=True)
    for tool in TOOLS:
        if where := shutil.which(tool):
            (tools / tool).symlink_to(where)
    for folder in ("etc", "opt", "root", "tmp", "var/lib"):
        (image.root / folder).mkdir(parents=True)
    (image.root / "tmp").chmod(0o1777)
    (image.root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (image.root / "etc" / "group").write_text("root:x:0:\n")
    subprocess.run(
        ["uv", "venv", "--quiet", "--seed", "--python", base_python(), image.root / "usr/local"],
        check=True,
        capture_output=True,
    )
    if os.geteuid() != 0:  # then everything belongs to who runs this
        chown = image.root / "usr/local/bin/chown"
        chown.write_text("#!/bin/sh\n")
        chown.chmod(0o755)
    image.environment["PATH"] = "/usr/local/bin:/usr/bin"


def base_python() -> str:
    """A Python 3.11 of this machine, if possible one that every user of it can start."""
    found = [shutil.which("python3.11", path="/usr/local/bin:/usr/bin"), sys.executable]
    paths = [Path(path).resolve() for path in found if path]
    return str(next((path for path in paths if open_to_all(path)), paths[-1]))


def open_to_all(path: Path) -> bool:
    """Whether every user may come there."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _env(image: Image, value: str, *_: object) -> None:
    for word in shlex.split(value):
        name, _, text = word.partition("=")
        image.environment[name] = string.Template(text).substitute(image.environment)


def _arg(image: Image, value: str, _context: object, _ignored: object, given: object) -> None:
    name, _, default = value.partition("=")
    assert isinstance(given, Mapping)
    image.arguments[name] = str(given.get(name, default))


def _workdir(image: Image, value: str, *_: object) -> None:
    image.folder = value
    image.working_folder.mkdir(parents=True, exist_ok=True)


def _copy(image: Image, value: str, context: Path, ignored: Ignored, *_: object) -> None:
    words = shlex.split(value)
    if any(word.startswith("--") for word in words):
        raise NotKnown(f"COPY {value}")
    *sources, target = words
    for source in sources:
        origin, into = context / source, image.path(target)
        if ignored(source):
            raise RuntimeError(f"COPY {source}: .dockerignore leaves it out of the context")
        if origin.is_file():
            to = into / origin.name if target.endswith("/") else into
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, to)
            continue
        for file in sorted(origin.rglob("*")):
            if ignored(str(file.relative_to(context))) or not (file.is_file() or file.is_symlink()):
                continue
            to = into / file.relative_to(origin)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, to, follow_symlinks=False)


def _run(image: Image, value: str, *_: object) -> None:
    words = value.split(maxsplit=1)
    while words[0].startswith("--"):
        mount = re.fullmatch(r"--mount=type=cache,target=(/var/cache/\S+)", words[0])
        if mount is None:
            raise NotKnown(f"RUN {words[0]}")
        kept = image.path(mount[1])
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.symlink_to(Path.home() / ".cache")
        words = words[1].split(maxsplit=1)
    environment = image.process_environment("/root") | image.arguments
    environment |= {name: text for name, text in os.environ.items() if PASSED_ON.fullmatch(name)}
    for name, file in (
        ("PIP_CONFIG_FILE", ".pip/pip.conf"),
        ("UV_CONFIG_FILE", ".config/uv/uv.toml"),
    ):
        if (Path.home() / file).is_file():
            environment.setdefault(name, str(Path.home() / file))
    done = subprocess.run(
        ["/bin/sh", "-c", image.here(" ".join(words))],
        cwd=image.working_folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"RUN {' '.join(words)}\nended with {done.returncode}:\n{done.stdout}")


def _user(image: Image, value: str, *_: object) -> None:
    uid, _, gid = value.partition(":")
    known = (image.root / "etc" / "passwd").read_text()
    if not re.search(rf"^\w+:x:{uid}:{gid}:", known, re.MULTILINE):  # Java wants a name for it
        raise RuntimeError(f"USER {value}: the image's /etc/passwd has no such user")
    image.user = int(uid), int(gid)


def _healthcheck(image: Image, value: str, *_: object) -> None:
    options, _, command = value.partition("CMD ")
    if not {"interval", "timeout", "start-period", "retries"} <= set(
        re.findall(r"--([\w-]+)=", options)
    ):
        raise NotKnown(f"HEALTHCHECK {value}")
    image.healthcheck = json.loads(command)


def _entrypoint(image: Image, value: str, *_: object) -> None:
    image.entrypoint, image.command = json.loads(value), []


def _cmd(image: Image, value: str, *_: object) -> None:
    image.command = json.loads(value)


def _expose(image: Image, value: str, *_: object) -> None:
    image.ports = [int(port) for port in value.split()]


def _stopsignal(image: Image, value: str, *_: object) -> None:
    image.stop_signal = value


STEPS = {
    "FROM": _from,
    "ENV": _env,
    "ARG": _arg,
    "WORKDIR": _workdir,
    "COPY": _copy,
    "RUN": _run,
    "USER": _user,
    "HEALTHCHECK": _healthcheck,
    "ENTRYPOINT": _entrypoint,
    "CMD": _cmd,
    "EXPOSE": _expose,
    "STOPSIGNAL": _stopsignal,
}


class Ignored:
    """What `.dockerignore` leaves out: the last pattern that fits a path, or a folder above it."""

    def __init__(self, file: Path) -> None:
        lines = [line.strip() for line in file.read_text().splitlines()]
        self._patterns = [
            (not line.startswith("!"), self._regex(line.removeprefix("!").strip("/")))
            for line in lines
            if line and not line.startswith("#")
        ]

    @staticmethod
    def _regex(pattern: str) -> re.Pattern[str]:
        parts = re.split(r"(\*\*/|\*)", pattern)
        special = {"**/": "(?:.*/)?", "*": "[^/]*"}
        return re.compile("".join(special.get(part, re.escape(part)) for part in parts))

    def __call__(self, path: str) -> bool:
        names = path.split("/")
        above = ["/".join(names[:depth]) for depth in range(1, len(names) + 1)]
        left_out = False
        for leaves_out, pattern in self._patterns:
            if any(pattern.fullmatch(each) for each in above):
                left_out = leaves_out
        return left_out
