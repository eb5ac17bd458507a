"""The code of the release before this one, to be run beside this one's.

Processes are upgraded one after the other, so for a while parts of two releases share topics,
tables and a home. What is packed here are the modules of the five packages as the release before
had them, without what no part needs to run; they run on the dependencies of this checkout.
`python -m tests.homes.releases COMMIT FILE` packs another, which needs that commit in the clone;
whoever runs the tests needs the archive alone.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
# folder of the workspace → package in it
PACKAGES = {
    "bakehouse": "bakehouse",
    "learner": "bakehouse_learner",
    "schemas": "bakehouse_schemas",
    "serving": "bakehouse_serving",
    "stream": "bakehouse_stream",
}
# scripts and fonts of the page, Kafka's jars by name, programs that no part runs
LEFT_OUT = ("/page/vendor/", "/bakehouse/demo/", "/bakehouse_learner/offline/")


@dataclass(frozen=True)
class Release:
    """One of them.

    Attributes:
        archive: what its packages were packed into.
        commit: what was packed, for whoever looks it up.
    """

    archive: str
    commit: str

    def unpacked(self, into: Path) -> dict[str, str]:
        """Unpack it; returns the variables of a process that is to run its code."""
        with tarfile.open(FOLDER / self.archive) as archive:
            archive.extractall(into, filter="data")
        # the folders named here come before those of this checkout, which are installed
        return {"PYTHONPATH": ":".join(str(into / folder) for folder in PACKAGES)}


# unknown fields refused everywhere; ids are UUIDv7; a policy of another contract is refused
BEFORE = Release(archive="release-2026-12.tar.xz", commit="1ccc952")


def origin(environment: dict[str, str]) -> dict[str, str]:
    """Package → the folder that a process with these variables takes it from."""
    code = (
        "import importlib, sys; [print(importlib.import_module(n).__file__) for n in sys.argv[1:]]"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *PACKAGES.values()],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    folders = [str(Path(line).parent) for line in ended.stdout.split()]
    return dict(zip(PACKAGES.values(), folders, strict=True))


def pack(commit: str, file: Path) -> None:
    """Pack the five packages of a commit.

    Raises:
        subprocess.CalledProcessError: the clone has no such commit.
    """
    git = ["git", "-C", str(ROOT), "archive", commit, *PACKAGES]
    found = subprocess.run(git, capture_output=True, check=True).stdout
    with (
        tarfile.open(fileobj=io.BytesIO(found)) as whole,
        tarfile.open(file, "w:xz", preset=9) as packed,
    ):
        for member in filter(_runs, whole):
            packed.addfile(member, whole.extractfile(member))


def _runs(member: tarfile.TarInfo) -> bool:
    inside: Callable[[str], bool] = f"/{member.name}".__contains__
    folder, _, rest = member.name.partition("/")
    return member.isfile() and rest.startswith(PACKAGES[folder]) and not any(map(inside, LEFT_OUT))


if __name__ == "__main__":
    pack(sys.argv[1], Path(sys.argv[2]))
