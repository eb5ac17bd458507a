"""How many files and connections this process may hold at a time."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)


def raise_limit() -> None:
    """Raise the soft limit to the hard one.

    The soft limit is usually 1,024, for the sake of programs that use `select`. Each connection
    takes a handle, so a thousand that rest would leave none to log decisions with.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        log.warning("at most %d files and connections at a time: %s", soft, error)
        return
    most = "as many as there can be" if hard == resource.RLIM_INFINITY else hard
    log.info("files and connections at a time: %s (the soft limit was %d)", most, soft)
