"""Starts an image's tree as an engine would: its own environment, user, volumes and signal."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.docker.image import Image, base_python, open_to_all

STOP_S = 40.0  # `stop_grace_period` of compose.yaml


def stand_in() -> tuple[int, int] | None:
    """Who stands for the image's user on this machine, which does not know that one.

    None where this process may not become another, or could not start the Python as another.
    """
    if os.geteuid() != 0 or not open_to_all(Path(base_python())):
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


@dataclass
class Container:
    """A process of an image.

    Args:
        environment: what compose.yaml adds to that of the image.
        volumes: path in the image -> folder or file of this machine.
        command: in place of the image's own.
    """

    image: Image
    name: str
    environment: Mapping[str, str]
    volumes: Mapping[str, Path]
    command: Sequence[str] | None = None
    entrypoint: Sequence[str] | None = None
    healthcheck: Sequence[str] | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.image.root / f"{self.name}.log"

    @property
    def said(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-4000:]

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Mount the volumes and run entrypoint and command."""
        for place in sorted(self.volumes):
            self._mount(place, self.volumes[place])
        image = self.image
        entrypoint = list(image.entrypoint if self.entrypoint is None else self.entrypoint)
        command = list(image.command if self.command is None else self.command)
        with self.log.open("wb") as log:
            self.process = self.popen([*entrypoint, *command], stdout=log)

    def _mount(self, place: str, what: Path) -> None:
        """A new volume begins with what the image has there, its owner too."""
        at = self.image.path(place)
        if at.is_dir() and not at.is_symlink():
            if what.is_dir() and not any(what.iterdir()):
                shutil.copytree(at, what, dirs_exist_ok=True)
            if user := stand_in():
                for folder in (what, *(path for path in what.rglob("*") if path.is_dir())):
                    os.chown(folder, *user)
            shutil.rmtree(at)
        at.parent.mkdir(parents=True, exist_ok=True)
        if not at.exists():
            at.symlink_to(what)

    def popen(self, words: Sequence[str], *, stdout: object) -> subprocess.Popen[bytes]:
        image = self.image
        environment = image.process_environment("/var/lib/bakehouse") | {
            name: image.here(text) for name, text in self.environment.items()
        }
        found = shutil.which(words[0], path=environment["PATH"])
        assert found is not None, f"{words[0]} is not in the image"
        user = stand_in() if image.user[0] else None
        return subprocess.Popen(
            [found, *map(image.here, words[1:])],
            cwd=image.working_folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,  # type: ignore[call-overload]
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **({"user": user[0], "group": user[1], "extra_groups": []} if user else {}),
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Exit status and words of a command inside, as `docker exec`."""
        process = self.popen(words, stdout=subprocess.PIPE)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said.decode()

    def is_healthy(self) -> bool:
        """Whether the health check passes now; fails where the process has ended."""
        assert self.is_running, f"{self.name} ended:\n{self.said}"
        return self.run(*(self.healthcheck or self.image.healthcheck))[0] == 0

    def stop(self) -> int:
        """Send the image's signal and return the exit status; kill what takes too long."""
        assert self.process is not None
        if self.is_running:
            self.process.send_signal(signal.Signals[self.image.stop_signal])
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


@contextmanager
def running(container: Container) -> Iterator[Container]:
    """A container that is stopped whatever happens."""
    container.start()
    try:
        yield container
    finally:
        container.stop()
