"""What a whole stack needs beyond the base install: the extras of `bakehouse`, and TF-Agents.

The base install serves. `up` and `demo` also run stream and learner, whose packages are large and
are installed where they are wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from importlib.util import find_spec

from bakehouse_schemas.application.agents import require_packages
from bakehouse_schemas.errors import MissingDependency
from bakehouse_schemas.loading import Loaded

# What an extra brings, by one package of each client that its part cannot start without.
EXTRAS = {
    "stream": ("bakehouse_stream", "pyspark", "delta"),
    "learner": ("bakehouse_learner", "tensorflow", "mlflow", "deltalake"),
}


def missing_extras(extras: Iterable[str] = EXTRAS) -> list[str]:
    """Those of the extras that are not installed, in order."""
    return [
        extra for extra in extras if not all(is_installed(package) for package in EXTRAS[extra])
    ]


def is_installed(package: str) -> bool:
    """Whether a top-level package could be imported; imports nothing."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # a finder refuses it; a module without a spec
        return False


def install_line(extras: Collection[str]) -> str:
    """The command that installs these extras."""
    return f"pip install 'bakehouse[{','.join(extras)}]'"


def require_extras(extras: Iterable[str] = EXTRAS) -> None:
    """Return if the parts of these extras can be started here.

    Raises:
        MissingDependency: what one needs is not installed, or this is Windows; the message says
            what to do.
    """
    if not is_installed("fcntl"):
        raise MissingDependency(
            "this runs on Linux and macOS; on Windows start it in WSL 2, or in containers "
            "(`init`, `check` and the offline commands work here)"
        )
    if missing := missing_extras(extras):
        raise MissingDependency(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed here; "
            f"install with `{install_line(missing)}` (`serve`, `init` and `check` do without)"
        )


def require_agents(loaded: Iterable[Loaded]) -> None:
    """Return if the learner could train the agents of all these applications here.

    Raises:
        MissingDependency: one needs TF-Agents, which is not installed.
    """
    for one in loaded:
        require_packages(one.application.agent.name)
