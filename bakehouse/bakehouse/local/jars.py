"""The jars of broker and Spark connectors: fetched once, checked, kept in the cache folder.

Fetched by exact coordinates (`ivy.xml`) through the Ivy that PySpark bundles, and compared
with the committed sums (`jars.sha256`). `BAKEHOUSE_IVY_SETTINGS` names an `ivysettings.xml`
for machines that use a mirror; proxies come from `https_proxy` or `JAVA_TOOL_OPTIONS`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bakehouse.local.cache import cache_folder, locked
from bakehouse.local.java import Java, find_java
from bakehouse.local.trust import machine_certificates, write_trust_store
from bakehouse_schemas.errors import MissingDependency

HERE = Path(__file__).parent
COORDINATES = HERE / "ivy.xml"
SUMS = HERE / "jars.sha256"
CONFIGURATIONS = ("kafka", "spark")
MEGABYTES = {"kafka": 44, "spark": 23}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Jars:
    """Absolute paths, sorted."""

    spark: list[Path]  # Delta and the Kafka source, to be added to Spark's own
    kafka: list[Path]  # the broker's whole class path


class WrongSum(MissingDependency):
    """A jar is not the one that was committed to."""


def ensure_jars(
    progress: Progress = lambda _: None,
    *,
    environment: Mapping[str, str] = os.environ,
    java: Java | None = None,
    uses: Sequence[str] = CONFIGURATIONS,
) -> Jars:
    """The jars, fetched first where the cache lacks them or holds something else.

    Safe when several processes call it at once: one fetches, the others wait and use its work.

    Args:
        uses: what they are needed for; a part that runs beside somebody else's broker needs no
            jars of Kafka's.

    Raises:
        MissingDependency: they cannot be fetched, or differ from the committed sums; what the
            cache held before is as it was.
    """
    cache = cache_folder(environment)
    expected = {
        name: digest for name, digest in read_sums(SUMS).items() if name.split("/")[0] in uses
    }
    folder = jar_folder(cache)
    if problems(folder, expected) is None:
        return jars_in(folder, expected)
    with locked(cache / "jars.lock"):
        if (wrong := problems(folder, expected)) is None:
            return jars_in(folder, expected)
        there = [folder / use for use in uses if (folder / use).exists()]
        if there:
            progress(f"the jars in the cache cannot be used ({wrong}); fetching them again")
        for old in there:
            shutil.rmtree(old)
        java = java or find_java(environment)
        fetched = fetch(cache, java, len(expected), progress, environment, uses)
        if (wrong := problems(fetched, expected)) is not None:
            shutil.rmtree(fetched)
            shutil.rmtree(cache / "ivy")  # else the next try would be given the same files
            raise WrongSum(
                f"what was fetched is not what was asked for: {wrong}. Nothing of it is kept. "
                "Try again; if it stays so, the mirror in between serves other files"
            )
        folder.mkdir(exist_ok=True)
        for use in uses:
            (fetched / use).rename(folder / use)
        shutil.rmtree(fetched)
        shutil.rmtree(cache / "ivy")
    return jars_in(folder, expected)


def jar_folder(cache: Path) -> Path:
    """Where the jars of this release lie: another set of sums is another folder."""
    return cache / "jars" / hashlib.sha256(SUMS.read_bytes()).hexdigest()[:16]


def read_sums(file: Path) -> dict[str, str]:
    """`spark/name.jar` -> SHA-256 in hex, from lines as `sha256sum` writes them."""
    pairs = (line.split(maxsplit=1) for line in file.read_text().splitlines() if line.strip())
    return {name.strip(): digest for digest, name in pairs}


def sums_of(folder: Path) -> dict[str, str]:
    """The sums of all jars in `folder`, by their path inside it."""
    return {str(jar.relative_to(folder)): sha256(jar) for jar in sorted(folder.glob("*/*.jar"))}


def sha256(file: Path) -> str:
    """In hex, of the file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def problems(folder: Path, expected: Mapping[str, str]) -> str | None:
    """What makes `folder` unusable, or None where every jar is there and has its sum."""
    for name, digest in expected.items():
        try:
            found = sha256(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        if found != digest:
            return f"{name} has SHA-256 {found}, expected {digest}"
    return None


def jars_in(folder: Path, expected: Mapping[str, str]) -> Jars:
    """The expected jars of a folder, by the one that uses them."""
    by_use = {
        use: sorted(folder / name for name in expected if name.startswith(f"{use}/"))
        for use in CONFIGURATIONS
    }
    return Jars(spark=by_use["spark"], kafka=by_use["kafka"])


def fetch(
    cache: Path,
    java: Java,
    expected: int,
    progress: Progress,
    environment: Mapping[str, str],
    uses: Sequence[str] = CONFIGURATIONS,
) -> Path:
    """Fetch every jar into a new folder beside its final place, and return that folder."""
    (cache / "jars").mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(prefix="fetching-", dir=cache / "jars"))
    target.chmod(0o755)
    command = [
        f"-Divy.default.ivy.user.dir={cache / 'ivy'}",
        *proxy_options(environment),
        *("-jar", str(bundled_ivy())),
        *("-settings", environment.get("BAKEHOUSE_IVY_SETTINGS", str(HERE / "ivysettings.xml"))),
        *("-ivy", str(COORDINATES)),
        *("-cache", str(cache / "ivy" / "cache")),
        *("-confs", *uses),
        *("-retrieve", f"{target}/[conf]/[artifact]-[revision].[ext]"),
        *("-types", "jar", "bundle"),
    ]
    try:
        progress(f"fetching {expected} jars ({_size(uses)} MB, once for this machine)")
        code, said = run_ivy([str(java.executable), *command], expected, progress)
        if code and "PKIX path building failed" in said and (known := machine_certificates()):
            # this Java knows the public authorities; the machine trusts others too (a company's)
            store = write_trust_store(known, cache / "ivy" / "machine.jks")
            trust = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=jks"]
            code, said = run_ivy([str(java.executable), *trust, *command], expected, progress)
        if code:
            raise MissingDependency(
                f"the jars could not be fetched: {failure(said)}. Check the network, or name a "
                "mirror in an ivysettings.xml with BAKEHOUSE_IVY_SETTINGS; what has come so far is "
                f"kept in {cache / 'ivy'} and the next try goes on from there"
            )
    except BaseException:
        shutil.rmtree(target)
        raise
    return target


def _size(uses: Sequence[str]) -> int:
    return sum(MEGABYTES[use] for use in uses)


def run_ivy(command: list[str], expected: int, progress: Progress) -> tuple[int, str]:
    """Run Ivy, reporting jar by jar; its exit status and the last thousand lines it said."""
    said: deque[str] = deque(maxlen=1000)
    done = 0
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as ivy:
        assert ivy.stdout is not None
        try:
            for line in ivy.stdout:
                said.append(line)
                if "[SUCCESSFUL ]" in line:
                    done += 1
                    progress(f"fetching jars: {done} of {expected}")
        except BaseException:
            ivy.kill()
            raise
    return ivy.returncode, "".join(said)


def failure(said: str) -> str:
    """The line of Ivy's output that tells most."""
    lines = [line.strip(" \t:") for line in said.splitlines() if line.strip(" \t:")]
    for sign in ("Server access error", "Host ", "UnknownHost", "not found", "FAILED", "rror"):
        for line in lines:
            if sign in line:
                return line
    return lines[-1] if lines else "Ivy said nothing"


def proxy_options(environment: Mapping[str, str]) -> list[str]:
    """JVM options for the proxy that the environment names, as other tools understand it."""
    named = environment.get("https_proxy") or environment.get("HTTPS_PROXY")
    if not named:
        return []
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    port = proxy.port or (443 if proxy.scheme == "https" else 80)
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={port}"]


def bundled_ivy() -> Path:
    """The Ivy among PySpark's jars.

    Raises:
        MissingDependency: PySpark is not installed.
    """
    spec = importlib.util.find_spec("pyspark")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if found := sorted(Path(place, "jars").glob("ivy-*.jar")):
            return found[-1]
    raise MissingDependency(
        "PySpark is not installed, and its Ivy fetches the jars: "
        "`pip install 'bakehouse[stream]'`. Serving alone needs neither"
    )


def main() -> None:
    """Fetch by the coordinates as they are, and write the sums of what came."""
    cache = cache_folder()
    fetched = fetch(cache, find_java(), COORDINATES.read_text().count(" rev="), print, os.environ)
    SUMS.write_text("".join(f"{digest}  {name}\n" for name, digest in sums_of(fetched).items()))
    shutil.rmtree(fetched)
    shutil.rmtree(cache / "ivy")


if __name__ == "__main__":
    main()
